"""The state directory is full, read-only or lost, before the module starts or while it runs: the eight methods go on.

No trouble here needs a privilege. A limit for the size of files (setrlimit(2)) stands for a disk that is full: it lets
through the small files of these tests, and nothing of SQLite's. A symbolic link is turned to /sys, in which nobody can
make a file, for a directory that is read-only. And a file in the place of the directory stands for one that is lost.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from tests.command_line.conftest import PROGRAM
from tests.module.base.test_state_directory import HOLDER
from tests.module.conftest import connected, section_of, wait_for_log
from tests.servers import Server, free_port

from localedge import LocalEdge

SMALL = 3_500  # bytes: less than a page of SQLite's, more than a line of known_hosts
CONTENT = os.urandom(3_000)

# The module as it is, but for shorter pauses between its looks and tries, and more updates of what it reports
HURRIED = """
import resource, runpy, sys
from iot.sftp.module._app.check_server import CheckLimits
from iot.sftp.module._rules.limits import RuleLimits
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.task_limits import TaskLimits
from iot.sftp.module._work.tasks import Tasks
from iot.sftp.module._hub.reported import Reporter
Reporter.__init__.__kwdefaults__.update(interval=0.05, gathering=0.01)
CheckLimits.__init__.__kwdefaults__.update(accept=1.0)
Rules.__init__.__kwdefaults__.update(limits=RuleLimits(first_pause=0.5, longest_pause=0.5))
Tasks.__init__.__kwdefaults__.update(limits=TaskLimits(journal_pause=0.2))
largest = int(sys.argv[1])
if largest >= 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
runpy.run_module("iot.sftp.module", run_name="__main__")
"""


class Device:
    """A device whose state directory can be spoiled and repaired."""

    def __init__(self, edge: LocalEdge, server: Server, place: Path) -> None:
        self.edge = edge
        self.server = server
        self.state = place / "state"  # a symbolic link
        self.aside = place / "aside"  # where it leads, as long as all is well

    @property
    def tells_that_tasks_can_be_written_down(self) -> bool:
        """What the metrics say."""
        place = f"http://127.0.0.1:{self.edge.module_environment['SFTP_METRICS_PORT']}/metrics"
        with urlopen(place, timeout=10) as page:
            found = re.findall(r"^sftp_journal_writable\{.*\} (\S+)$", page.read().decode(), re.MULTILINE)
        return [float(value) for value in found] == [1.0]

    def limit_files(self, size: int) -> None:
        process = psutil.Process(self.edge.module_pid)
        process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))

    def call(self, method: str, **payload: Any) -> Any:
        """Call a method that has to succeed, and return its result."""
        status, result = self.edge.invoke("sftp", method, payload)
        assert status in (200, 202), (method, payload, result, self.edge.module_log)
        return result

    def check(self) -> dict[str, Any]:
        """Return what `iot-sftp check` tells, beside the module."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("IOT_SFTP_")}
        done = subprocess.run(
            [*PROGRAM, "check", "--json"],
            env=variables | self.edge.module_environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return dict(json.loads(done.stdout)) if done.stdout else {"said": done.stderr}

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something that the hub does not tell of."""
        end = time.monotonic() + 100
        while not holds():
            assert time.monotonic() < end, f"{what}\n{self.edge.module_log}"
            time.sleep(0.05)

    def end_of(self, task_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = {}

        def has_ended() -> bool:
            shown.update(self.call("get_task_status", task_id=task_id))
            return shown["status"] in ("Completed", "Failed")

        self.until(has_ended, "the task ends")
        return shown


@dataclass(frozen=True)
class Trouble:
    """A way to spoil the state directory, the code with which a task is refused then, and the way back."""

    code: str
    before_start: Callable[[Path], None]
    while_running: Callable[[Device], None]
    repair: Callable[[Device], None]
    largest: int = -1  # bytes that a file may have from the start


def turn(link: Path, target: str) -> None:
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


def put_a_file_there(link: Path) -> None:
    link.unlink()
    link.touch()


TROUBLES = {
    "full": Trouble(
        "no_space",
        lambda _link: None,
        lambda device: device.limit_files(SMALL),
        lambda device: device.limit_files(psutil.RLIM_INFINITY),
        largest=SMALL,
    ),
    "read-only": Trouble(
        "permission_denied",
        lambda link: turn(link, "/sys"),
        lambda device: turn(device.state, "/sys"),
        lambda device: turn(device.state, "aside"),
    ),
    "lost": Trouble(
        "permission_denied",
        put_a_file_there,
        lambda device: put_a_file_there(device.state),
        lambda device: turn(device.state, "aside"),
    ),
}


@contextmanager
def device_in(
    place: Path, address: str, server: Server, spoil: Callable[[Path], None] = lambda _link: None, *, largest: int = -1
) -> Iterator[Device]:
    """Give a device whose module sends what appears in two folders, and whose state directory is spoiled already."""
    (place / "aside").mkdir()
    (place / "tmp").mkdir()
    (place / "state").symlink_to("aside")
    spoil(place / "state")
    rule = {"direction": "upload", "every": 1, "min_age": 0}
    folders = {name: f"{place.parent.name}-{place.name}-{name}" for name in ("kept", "sent")}
    for folder in folders.values():
        (server.directory / folder).mkdir()
    rules = [
        {**rule, "name": "kept", "source": "kept", "dest": folders["kept"], "then": "keep"},
        {**rule, "name": "sent", "source": "sent", "dest": folders["sent"], "then": "delete"},
    ]
    with LocalEdge(
        address=address,
        desired={"sftp": section_of(server), "rules": rules},
        command=(sys.executable, "-c", HURRIED, str(largest)),
        environment={
            "SFTP_STATE_DIR": str(place / "state"),
            "SFTP_METRICS_PORT": str(free_port()),
            "TMPDIR": str(place / "tmp"),
        },
        restart_policy="never",
    ) as edge:
        device = Device(edge, server, place)
        for name in folders:
            (edge.local_root / name).mkdir()
        edge.wait_until_connected()
        edge.wait_for_reported(connected)
        yield device
        assert edge.module_exit_statuses == []
        device.limit_files(psutil.RLIM_INFINITY)
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log


def use_the_eight_methods(device: Device, remote: Path) -> None:
    """Call each with real files, and those that change something also with a request id, twice."""
    local, folder = device.edge.local_root, remote.name
    (remote / "source").write_bytes(CONTENT)
    (local / "source").write_bytes(CONTENT)
    assert device.call("disconnect") is None
    assert device.call("exists", path=f"{folder}/source") is True
    assert device.call("is_connected") is True
    assert device.call("download_file", source=f"{folder}/source", dest="in/a") is True
    assert device.call("upload_file", source="source", dest=f"{folder}/out/a") is True
    assert device.call("move_file", source=f"{folder}/out/a", dest=f"{folder}/out/b") is True
    assert device.call("list_files", path=f"{folder}/out") == [f"{folder}/out/b"]
    assert device.call("delete_file", path=f"{folder}/out/b") is True
    assert (local / "in/a").read_bytes() == CONTENT
    for _ in range(2):  # of each pair, the second one is answered and not carried out: it could not be
        for method, payload in (
            ("upload_file", {"source": "source", "dest": f"{folder}/out/c"}),
            ("move_file", {"source": f"{folder}/out/c", "dest": f"{folder}/out/d"}),
            ("download_file", {"source": f"{folder}/out/d", "dest": "in/d"}),
            ("delete_file", {"path": f"{folder}/out/d"}),
        ):
            assert device.call(method, request_id=f"{folder}-{method}", **payload) is True
    assert list((remote / "out").iterdir()) == []
    assert (local / "in/d").read_bytes() == CONTENT


def journal_has(code: str) -> Callable[[dict[str, Any]], bool]:
    return lambda reported: bool(reported["journal"]["code"] == code)


def rule_is(name: str, state: str, code: str | None, files: int) -> Callable[[dict[str, Any]], bool]:
    def holds(reported: dict[str, Any]) -> bool:
        shown = reported["rules"]["value"][name]
        # A twin holds no nulls: the code of a rule that is well is not there
        return (shown["state"], shown.get("code"), shown["files"]) == (state, code, files)

    return holds


def see_what_is_refused(device: Device, code: str, remote: Path) -> None:
    """No task is accepted, which the answer and the reported properties tell; reading does not take that back."""
    request = {"source": f"{remote.name}/source", "dest": "task", "background": True}
    status, answer = device.edge.invoke("sftp", "download_file", request)
    assert (status, answer["code"]) == ({"no_space": 507, "permission_denied": 403}[code], code)
    assert str(device.state) in answer["message"]
    assert device.edge.invoke("sftp", "list_tasks")[0] in (200, status)  # refused where it was never read
    assert device.edge.invoke("sftp", "get_task_status", {"task_id": "nope"})[0] in (200, status)
    device.edge.wait_for_reported(journal_has(code))
    assert not device.tells_that_tasks_can_be_written_down
    failures = {failure["what"]: failure["code"] for failure in device.call("get_status")["failures"]}
    assert failures["journal"] == code
    device.until(lambda: device.check().get("ok") is True, "the module can be asked")


def see_that_state_is_kept_again(device: Device, remote: Path) -> None:
    """The trouble vanishes without a call; tasks are accepted, and what was only in memory is recorded."""
    device.edge.wait_for_reported(lambda reported: "journal" not in reported)
    assert device.tells_that_tasks_can_be_written_down
    task_id = device.call("download_file", source=f"{remote.name}/source", dest="task", background=True)["task_id"]
    assert device.end_of(task_id)["status"] == "Completed"
    device.call("disconnect")
    device.call("exists", path=".")
    kept = {"known_hosts", "tasks.sqlite3", "rules.sqlite3", "transfers"}
    device.until(lambda: kept <= set(os.listdir(device.aside)), "all is there that is to be kept")
    assert f"[{device.server.host}]:{device.server.port} " in (device.aside / "known_hosts").read_text()
    assert device.check()["ok"] is True


@pytest.mark.parametrize("name", TROUBLES)
def test_it_starts_without_its_state_directory_and_uses_it_later(
    name: str, own_address: str, openssh_server: Server, remote: Path, tmp_path: Path
) -> None:
    trouble = TROUBLES[name]
    with device_in(tmp_path, own_address, openssh_server, trouble.before_start, largest=trouble.largest) as device:
        assert "SFTP_STATE_DIR: " in device.edge.module_log
        use_the_eight_methods(device, remote)
        see_what_is_refused(device, trouble.code, remote)
        assert device.edge.module_log.count("the journal cannot be used") == 1
        assert "it is kept until this process ends" in device.edge.module_log or name == "full"
        trouble.repair(device)
        see_that_state_is_kept_again(device, remote)
        wait_for_log(device.edge, "the journal can be written again")


@pytest.mark.parametrize("name", TROUBLES)
def test_it_works_while_the_state_directory_fails_and_uses_it_again_later(
    name: str, own_address: str, openssh_server: Server, remote: Path, tmp_path: Path
) -> None:
    trouble = TROUBLES[name]
    with device_in(tmp_path, own_address, openssh_server) as device:
        local = device.edge.local_root
        for rule in ("kept", "sent"):
            (local / rule / "before").write_bytes(CONTENT)
            device.edge.wait_for_reported(rule_is(rule, "active", None, 1))
        trouble.while_running(device)
        use_the_eight_methods(device, remote)
        see_what_is_refused(device, trouble.code, remote)
        for rule in ("kept", "sent"):
            (local / rule / "meanwhile").write_bytes(CONTENT)
        device.edge.wait_for_reported(rule_is("sent", "active", None, 2))  # it has nothing to remember
        device.edge.wait_for_reported(rule_is("kept", "failing", trouble.code, 1))
        trouble.repair(device)
        device.edge.wait_for_reported(rule_is("kept", "active", None, 2))
        see_that_state_is_kept_again(device, remote)


def test_an_accepted_task_ends_without_the_journal_and_is_announced_later(
    own_address: str, openssh_server: Server, remote: Path, tmp_path: Path
) -> None:
    (remote / "large").write_bytes(CONTENT * 1_000)
    with device_in(tmp_path, own_address, openssh_server) as device:
        version = device.edge.patch_desired({"transfers": {"bandwidthLimit": 2_000_000}})
        device.edge.wait_for_reported(lambda reported: bool(reported["transfers"]["av"] == version))
        accepted = device.call("download_file", source=f"{remote.name}/large", dest="large", background=True)
        TROUBLES["lost"].while_running(device)
        ended = device.end_of(accepted["task_id"])
        ended.pop("rate", None)  # it is shown as long as the task runs
        assert (ended["status"], ended["bytes"]) == ("Completed", 3_000_000)
        assert [task["status"] for task in device.call("list_tasks")] == ["Completed"]
        assert device.call("list_tasks", after=accepted["task_id"]) == []
        assert device.edge.messages == []
        TROUBLES["lost"].repair(device)
        message = device.edge.wait_for_message(lambda _message: True)
        assert json.loads(message.body) == ended
        device.edge.kill_module()
        device.edge.stop_module()  # it has ended already: this waits until that is known
        device.edge.start_module()
        device.edge.wait_until_connected()
        assert device.end_of(accepted["task_id"]) == ended


def test_it_starts_where_nothing_at_all_can_be_written(
    own_address: str, openssh_server: Server, remote: Path, tmp_path: Path
) -> None:
    with device_in(tmp_path, own_address, openssh_server, largest=0) as device:
        (remote / "source").write_bytes(CONTENT)
        (device.edge.local_root / "source").write_bytes(CONTENT)
        assert device.call("upload_file", source="source", dest=f"{remote.name}/out") is True
        assert device.call("list_files", path=remote.name) == [f"{remote.name}/out", f"{remote.name}/source"]
        status, answer = device.edge.invoke("sftp", "download_file", {"source": f"{remote.name}/source", "dest": "a"})
        assert (status, answer["code"]) == (507, "no_space")
        assert sorted(os.listdir(device.edge.local_root)) == ["kept", "sent", "source"]


# The module as it is, but that it waits no ten seconds for a process before it to end
NO_PATIENCE = """
import runpy
from iot.sftp.module._app.state_claim import StateClaim
from iot.sftp.module._hub.reported import Reporter
Reporter.__init__.__kwdefaults__.update(interval=0.05, gathering=0.01)
StateClaim.__init__.__kwdefaults__.update(patience=0.1, interval=0.1)
runpy.run_module("iot.sftp.module", run_name="__main__")
"""


def test_a_second_module_on_one_state_directory_waits_for_the_first_to_end(
    own_address: str, openssh_server: Server, remote: Path, tmp_path: Path
) -> None:
    """The first one is a process that has the lock: more of it is not needed to be in the way."""
    (remote / "source").write_bytes(CONTENT)
    state = tmp_path / "state"
    state.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(state)], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    environment = {"SFTP_STATE_DIR": str(state), "SFTP_METRICS_PORT": "0"}
    desired, command = {"sftp": section_of(openssh_server)}, (sys.executable, "-c", NO_PATIENCE)
    try:
        with LocalEdge(
            address=own_address, desired=desired, command=command, environment=environment, restart_policy="never"
        ) as edge:
            edge.wait_until_connected()
            told = edge.wait_for_reported(lambda told: "in use by" in told.get("connection", {}).get("message", ""))
            said = told["connection"]["message"]
            assert f"is in use by another module (process {holder.pid} on " in said
            status, answer = edge.invoke("sftp", "exists", {"path": remote.name})
            assert (status, answer["message"]) == (503, said)
            payload = {"source": f"{remote.name}/source", "dest": "a", "background": True}
            assert edge.invoke("sftp", "download_file", payload)[0] == 403
            shown = edge.invoke("sftp", "get_status", {})[1]
            assert shown["state_directory"] == {"code": "permission_denied", "message": said}
            assert any(failure["what"] == "state directory" for failure in shown["failures"])
            assert "[ERR] the module's state directory" in edge.module_log
            assert os.listdir(state) == ["lock"]
            holder.kill()
            edge.wait_for_reported(connected)
            assert "state_directory" not in edge.invoke("sftp", "get_status", {})[1]
            assert edge.invoke("sftp", "download_file", payload)[0] == 202
            edge.wait_for_message(lambda message: json.loads(message.body)["status"] == "Completed")
            assert edge.stop_module(limit=60) == 0
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
