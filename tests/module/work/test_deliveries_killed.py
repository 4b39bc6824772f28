"""Killed at the moments that matter to a delivery: nothing is delivered twice, or deleted that did not arrive."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import section_of
from tests.servers import Server

from localedge import LocalEdge

# The module as it is, but for its death: once, at the call of the ledger that is named by a file
MORTAL = """
import os, pathlib, runpy, signal, sys
from iot.sftp.module._work import delivery_ledger
from iot.sftp.module._hub.reported import Reporter
Reporter.__init__.__kwdefaults__.update(interval=0.05, gathering=0.01)
order = pathlib.Path(sys.argv[1])

def die():
    order.unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)

def mortal(name, word):
    work = getattr(delivery_ledger.DeliveryLedger, name)
    def call(self, *arguments):
        moment = order.read_text() if order.exists() else ""
        if moment == f"before {word}":
            die()
        wait = work(self, *arguments)
        def wait_and_die(**how):
            wait(**how)
            die()
        return wait_and_die if moment == f"after {word}" else wait
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
