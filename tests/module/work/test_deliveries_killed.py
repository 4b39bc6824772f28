"""Killed at the moments that matter to a delivery: nothing is delivered twice, or deleted that did not arrive."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.folders import content_of, fill
from tests.module.conftest import section_of
from tests.servers import Server

from iot.sftp.module._work.delivery_tables import NAME
from localedge import LocalEdge

MANY = 32  # files: one thread has them in flight

# The module as it is, but for its death: once, at the call of the ledger that is named by a file, the n-th one
MORTAL = """
import collections, os, pathlib, runpy, signal, sys
from iot.sftp.module._work import delivery_ledger
from iot.sftp.module._hub.reported import Reporter
Reporter.__init__.__kwdefaults__.update(interval=0.05, gathering=0.01)
order = pathlib.Path(sys.argv[1])

seen = collections.Counter()

def may_die(moment):
    # The order may end with a number: the n-th time
    word, _, number = (order.read_text() if order.exists() else "").partition(":")
    if moment == word:
        seen[moment] += 1
        if seen[moment] >= int(number or 1):
            order.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)

def mortal(name, word):
    work = getattr(delivery_ledger.DeliveryLedger, name)
    def call(self, *arguments):
        may_die(f"before {word}")
        wait = work(self, *arguments)
        def wait_among_mortals(**how):
            may_die(f"handed in {word}")
            wait(**how)
            may_die(f"after {word}")
        return wait_among_mortals
    setattr(delivery_ledger.DeliveryLedger, name, call)

mortal("hand_in", "note")
mortal("hand_in_settled", "settle")
runpy.run_module("iot.sftp.module", run_name="__main__")
"""

RULE = {"name": "out", "direction": "upload", "source": "out", "min_age": 0, "every": 1}


def killed_at(edge: LocalEdge, order: Path, moment: str, start: dict[str, Any] | None) -> None:
    """Have the module die at a moment of what it is going to do."""
    order.write_text(moment)
    if start is not None:
        edge.patch_desired(start)
    wait_until_killed(edge, order, moment)


def wait_until_killed(edge: LocalEdge, order: Path, moment: str) -> None:
    edge.wait_for(lambda: not order.exists(), moment, 60)
    edge.wait_for(lambda: edge.module_exit_statuses != [], "the end", 60)
    edge.stop_module()


@pytest.mark.parametrize("then", ["keep", "delete", {"move": "done"}])
@pytest.mark.parametrize("moment", ["before note", "after note", "before settle"])
def test_killed_between_two_steps_a_delivery_goes_on_with_the_next_one(  # noqa: PLR0917 - two are parameters
    own_address: str, openssh_server: Server, remote: Path, tmp_path: Path, moment: str, then: Any
) -> None:
    if then == "keep" and "settle" in moment:
        pytest.skip("there is no last step")
    order = tmp_path / "order"
    command = (sys.executable, "-c", MORTAL, str(order))
    desired = {"sftp": section_of(openssh_server)}
    with LocalEdge(address=own_address, desired=desired, command=command, restart_policy="never") as edge:
        edge.wait_until_connected()
        source = edge.local_root / "out"
        source.mkdir()
        (source / "a").write_bytes(b"order 1")
        os.utime(source / "a", (1_700_000_000, 1_700_000_000))
        killed_at(edge, order, moment, {"rules": [RULE | {"dest": remote.name, "then": then}]})
        arrived = (remote / "a").stat().st_ino
        if moment != "before note":
            (remote / "a").unlink()  # whom it was for has taken it: this may be noticed in no way but the ledger
        edge.start_module()
        edge.wait_until_connected()
        (source / "b").write_bytes(b"order 2")  # when that has arrived, the first one has had its turn
        edge.wait_for((remote / "b").exists, "the next file", 60)
        is_kept = then == "keep"
        edge.wait_for(lambda: (source / "a").exists() == is_kept, "the last step", 60)
        if moment == "before note":
            assert (remote / "a").stat().st_ino == arrived  # it was compared, and not sent again
        else:
            assert not (remote / "a").exists()
        if isinstance(then, dict):
            edge.wait_for((edge.local_root / "done/a").exists, "the new place", 60)  # by way of a name of its own
            assert (edge.local_root / "done/a").read_bytes() == b"order 1"
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log


@pytest.mark.parametrize(
    "moment",
    ["before note:20", "handed in note", "after note:1", "after note:20", "before settle:10", "after settle:32"],
)
def test_killed_while_many_files_are_in_flight_each_arrives_once(
    own_address: str, openssh_server: Server, remote: Path, tmp_path: Path, moment: str
) -> None:
    """As one thread has them: none is deleted before it is recorded, and none that is recorded comes again."""
    order = tmp_path / "order"
    command = (sys.executable, "-c", MORTAL, str(order))
    desired = {"sftp": section_of(openssh_server)}
    files = {f"{number:02}": b"order %d" % number for number in range(MANY)}
    with LocalEdge(address=own_address, desired=desired, command=command, restart_policy="never") as edge:
        edge.wait_until_connected()
        source = edge.local_root / "out"
        fill(source, {"first": b""})
        edge.patch_desired({"rules": [RULE | {"dest": remote.name, "then": "delete"}]})
        edge.wait_for(lambda: not (source / "first").exists(), "the first file", 60)  # from here on it is not careful
        (remote / "first").unlink()
        order.write_text(moment)
        fill(edge.local_root / "new", files)
        for name in files:
            (edge.local_root / "new" / name).rename(source / name)
        wait_until_killed(edge, order, moment)
        arrived = {name: (remote / name).stat().st_ino for name in files if (remote / name).exists()}
        recorded = deliveries(edge.state_directory)
        assert set(files) - set(content_of(source)) <= set(arrived)
        assert bool(recorded) == (moment.startswith("after note") or moment == "before settle:10")
        for name in recorded:
            (remote / name).unlink()  # whom it was for has taken it
        edge.start_module()
        edge.wait_until_connected()
        (source / "b").write_bytes(b"the next one")
        edge.wait_for(lambda: not content_of(source), "the last step", 60)
        there = content_of(remote)
        assert there == {name: content for name, content in files.items() if name not in recorded} | {
            "b": b"the next one"
        }
        assert all((remote / name).stat().st_ino == inode for name, inode in arrived.items() if name in there)
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log


def deliveries(state: Path) -> set[str]:
    """Return which deliveries a ledger of a module that has ended records."""
    with closing(sqlite3.connect(state / NAME)) as connection:
        return {os.fsdecode(path) for (path,) in connection.execute("SELECT path FROM deliveries")}


@pytest.mark.parametrize("moment", ["before note", "after note"])
def test_killed_in_the_middle_of_a_folders_task_it_sends_what_is_left(
    own_address: str, openssh_server: Server, remote: Path, tmp_path: Path, moment: str
) -> None:
    order = tmp_path / "order"
    command = (sys.executable, "-c", MORTAL, str(order))
    desired = {"sftp": section_of(openssh_server)}
    with LocalEdge(address=own_address, desired=desired, command=command, restart_policy="never") as edge:
        edge.wait_until_connected()
        (edge.local_root / "out").mkdir()
        (edge.local_root / "out/a").write_bytes(b"1")
        order.write_text(moment)
        status, answer = edge.invoke("sftp", "upload_files", {"source": "out", "dest": remote.name})
        assert status == 202
        killed_at(edge, order, moment, None) if order.exists() else edge.stop_module()
        arrived = (remote / "a").stat().st_ino
        if moment == "after note":
            (remote / "a").unlink()
        (edge.local_root / "out/b").write_bytes(b"2")
        edge.start_module()
        edge.wait_for_message(lambda message: message.properties["$.mid"] == f"{answer['task_id']}-Completed")
        assert (remote / "b").read_bytes() == b"2"
        if moment == "before note":
            assert (remote / "a").stat().st_ino == arrived
        else:
            assert not (remote / "a").exists()
        # Whoever asks for the folder again wants all of it
        answer = edge.invoke("sftp", "upload_files", {"source": "out", "dest": remote.name})[1]
        edge.wait_for_message(lambda message: message.properties["$.mid"] == f"{answer['task_id']}-Completed")
        assert (remote / "a").read_bytes() == b"1"
        assert edge.stop_module(limit=60) == 0


@pytest.mark.parametrize("if_exists", ["rename", {"backup": "kept"}])
def test_killed_before_it_is_recorded_a_file_gets_no_second_name(
    own_address: str, openssh_server: Server, remote: Path, tmp_path: Path, if_exists: Any
) -> None:
    order = tmp_path / "order"
    command = (sys.executable, "-c", MORTAL, str(order))
    desired = {"sftp": section_of(openssh_server)}
    if isinstance(if_exists, dict):
        if_exists = {"backup": f"{remote.name}/kept"}
    (remote / "in").mkdir()
    (remote / "in/a").write_bytes(b"of the partner")
    with LocalEdge(address=own_address, desired=desired, command=command, restart_policy="never") as edge:
        edge.wait_until_connected()
        source = edge.local_root / "out"
        source.mkdir()
        (source / "a").write_bytes(b"order 1")
        rule = RULE | {"dest": f"{remote.name}/in", "then": "delete", "if_exists": if_exists}
        killed_at(edge, order, "before note", {"rules": [rule]})
        edge.start_module()
        edge.wait_until_connected()
        edge.wait_for(lambda: not (source / "a").exists(), "the last step", 60)
        found = {str(path.relative_to(remote)): path.read_bytes() for path in remote.rglob("*") if path.is_file()}
        if if_exists == "rename":
            assert found == {"in/a": b"of the partner", "in/a-1": b"order 1"}
        else:
            assert found == {"in/a": b"order 1", "kept/a": b"of the partner"}
        assert edge.stop_module(limit=60) == 0
        assert "Traceback" not in edge.module_log
