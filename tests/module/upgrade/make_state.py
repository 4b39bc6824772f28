"""`python -m tests.module.upgrade.make_state`: have 0.1.0, out of the history, fill a state directory, and pack it.

It needs git with the history, a package index, and ProFTPD. 0.1.0 runs in an environment of its own, with the pins of
its day. What it has done, and what it was doing when it was killed, is what test_upgrade.py looks for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.module.upgrade.plant import (
    ARCHIVE,
    BIG,
    COMMIT,
    MEBIBYTE,
    SMALL,
    command,
    content,
    desired,
    pack,
    write_host_key,
)
from tests.servers import proftpd

from localedge import LocalEdge
from localedge.testing import worker_address

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
LIMIT = 120.0  # seconds for each step
RATE = 400_000  # bytes a second: so slow that the large files are under way when the module is killed


def main() -> int:
    """Make the archive again."""
    with tempfile.TemporaryDirectory(prefix="iot-sftp-upgrade-") as name:
        place = Path(name)
        python = sys.argv[1] if len(sys.argv) > 1 else _environment(place)
        write_host_key(place / "server")
        with proftpd(place / "server") as server:
            _live(place, server.directory, command(server, python=python, reported="iot.sftp.module._reported"))
        local = place / "device/local"
        for record in (place / "device/state/transfers").glob("*.transfer"):
            _without_this_machine(record, local)
        pack({"state": place / "device/state", "local": local, "server": place / "server/files"})
    sys.stdout.write(f"{ARCHIVE.relative_to(ROOT)}: {ARCHIVE.stat().st_size} bytes\n")
    return 0


def _environment(place: Path) -> str:
    """Check 0.1.0 out, and return the Python of an environment in which it is installed."""
    source, environment = place / "source", place / "environment"
    for words in (
        ("git", "clone", "--quiet", "--no-checkout", str(ROOT), str(source)),
        ("git", "-C", str(source), "checkout", "--quiet", COMMIT),
    ):
        subprocess.run(words, check=True)
    make = ("tools/make-environment", str(environment), "requirements/module.txt")
    subprocess.run(make, cwd=source, env={**os.environ, "PYTHON": sys.executable}, check=True)
    python = str(environment / "bin/python")
    install = ("-m", "pip", "install", "-qq", "--no-index", "--no-build-isolation", "--no-deps", str(source))
    subprocess.run([python, *install], check=True)
    return python


def _live(place: Path, server: Path, module: Any) -> None:
    """Let 0.1.0 do what a plant's module does, and kill it at it."""
    local, remote = place / "device/local", server / "plant"
    for folder in (local / "out", remote / "in", remote / "out"):
        folder.mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        (local / "out" / name).write_bytes(content(name, 1_000))
    for name in ("c.csv", "d.csv"):
        (remote / "in" / name).write_bytes(content(name, 1_000))
        os.utime(remote / "in" / name, (1_790_000_000, 1_790_000_000))
    with LocalEdge(
        address=worker_address(),
        desired=desired(),
        command=module,
        directory=place / "device",
        restart_policy="never",
    ) as edge:
        edge.wait_until_connected()
        edge.wait_for(lambda: {p.name for p in (remote / "out").iterdir()} == {"a.csv", "b.csv"}, "sent", LIMIT)
        edge.wait_for(lambda: {p.name for p in (local / "in").glob("*.csv")} == {"c.csv", "d.csv"}, "fetched", LIMIT)
        _calls(edge, local, remote)
        _ended_tasks(edge, local)
        _unfinished_tasks(edge, local, remote)
        edge.kill_module()
        edge.stop_module()


def _calls(edge: LocalEdge, local: Path, remote: Path) -> None:
    """Have calls with request ids: one that was carried out, one that deleted, and one that failed."""
    (local / "once.txt").write_bytes(b"once\n")
    (remote / "gone.txt").write_bytes(b"gone\n")
    upload = {"source": "once.txt", "dest": "plant/once.txt", "request_id": "once"}
    _expect(edge.invoke("sftp", "upload_file", upload), 200)
    _expect(edge.invoke("sftp", "delete_file", {"path": "plant/gone.txt", "request_id": "gone"}), 200)
    missing = {"source": "plant/missing", "dest": "missing", "request_id": "missing"}
    _expect(edge.invoke("sftp", "download_file", missing), 404)


def _ended_tasks(edge: LocalEdge, local: Path) -> None:
    """Have one task of each end; each is told to the cloud."""
    (local / "done").write_bytes(content("done", 1_000))
    done = _task(edge, "upload_file", source="done", dest="plant/done", request_id="done")
    failed = _task(edge, "upload_file", source="nothing", dest="plant/nothing", request_id="failed")
    for name, status in ((done, "Completed"), (failed, "Failed")):
        message = edge.wait_for_message(lambda message, name=name: name.encode() in message.body)  # type: ignore[misc]
        assert json.loads(message.body)["status"] == status


def _unfinished_tasks(edge: LocalEdge, local: Path, remote: Path) -> None:
    """Have tasks that run, wait, or ended while the hub was away, and a call that is under way."""
    version = edge.replace_desired(desired(bandwidthLimit=RATE, concurrency=4))
    edge.wait_for_reported(lambda reported: bool(reported["transfers"]["av"] == version))
    for name in ("large-up", "begun"):
        (local / name).write_bytes(content(name, BIG))
    (remote / "large-down").write_bytes(content("large-down", BIG))
    os.utime(remote / "large-down", (1_790_000_000, 1_790_000_000))
    (local / "untold").write_bytes(content("untold", SMALL))
    (local / "batch").mkdir()
    for name in ("1", "2", "3"):
        (local / "batch" / name).write_bytes(content(name, 1_000))
    begun = {"source": "begun", "dest": "plant/begun", "request_id": "begun", "timeout": 290}
    edge.submit("sftp", "upload_file", begun, timeout=300)
    _task(edge, "upload_file", source="untold", dest="plant/untold", request_id="untold")
    _task(edge, "upload_file", source="large-up", dest="plant/large-up", request_id="large-up")
    _task(edge, "download_file", source="plant/large-down", dest="large-down", request_id="large-down")
    _task(edge, "upload_file", source="large-up", dest="plant/large-again", request_id="large-again")
    waiting = _task(edge, "download_file", source="plant/in/c.csv", dest="waiting/c.csv", request_id="waiting")
    _task(edge, "upload_files", source="batch", dest="plant/batch", then="delete", request_id="batch")
    cancelled = _task(edge, "upload_file", source="done", dest="plant/cancelled", request_id="cancelled")
    _expect(edge.invoke("sftp", "cancel_task", {"task_id": cancelled}), 200)
    edge.wait_for_message(lambda message: cancelled.encode() in message.body)
    status = edge.invoke("sftp", "get_task_status", {"task_id": waiting})[1]["status"]
    assert status == "NotStarted", status
    edge.stop_hub()
    _wait_for((remote / "untold").exists)  # from now on its place is that of another large file
    transfers = edge.state_directory / "transfers"
    _wait_for(lambda: _is_far(transfers, "plant/large-up") and _is_far(transfers, "large-down"))


def _is_far(transfers: Path, dest: str) -> bool:
    """Tell whether so much of a file was moved that it is worth to go on."""
    for path in transfers.glob("*.transfer"):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if record["dest"] == dest and record["whole"] >= MEBIBYTE:
            return True
    return False


def _without_this_machine(path: Path, local: Path) -> None:
    """Take the paths and inodes of this machine out of the record of a transfer."""
    record = json.loads(path.read_text())
    if record["direction"] == "download":
        record["directory"] = str(Path("/", Path(record["directory"]).relative_to(local.resolve())))
    else:
        record["source"][:2] = [0, 0]
    path.write_text(json.dumps(record))


def _task(edge: LocalEdge, method: str, **payload: Any) -> str:
    status, answer = edge.invoke("sftp", method, {**payload, "background": True})
    _expect((status, answer), 202)
    return str(answer["task_id"])


def _expect(answer: tuple[int, Any], status: int) -> None:
    if answer[0] != status:
        raise SystemExit(f"0.1.0 answered {answer}, not {status}")


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("0.1.0 did not come that far")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
