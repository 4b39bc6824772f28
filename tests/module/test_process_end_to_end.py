"""The process: it starts before the hub does, survives what can be survived, and ends in time with the right status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.module.conftest import TALKATIVE, connected, section_of, wait_for_log
from tests.servers import Relay, Server

from iot.sftp.module._hub.restarts import RestartBudget
from localedge import LocalEdge

pytestmark = pytest.mark.usefixtures("real_starts")

LINE = re.compile(r"<[23467]> \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+00:00 \[(DBG|INF|WRN|ERR|FTL)\] .*")

# the module with shorter patience
IMPATIENT = """
import runpy
from iot.sftp.module._hub import hub as hub_module
from iot.sftp.module._base import timeouts
hub_module.HubLimits.__init__.__kwdefaults__.update(give_up_unreachable=1.5, sdk_reconnect=0.2)
timeouts.PAUSE_LONGEST = 0.5
runpy.run_module("iot.sftp.module", run_name="__main__")
"""

WITHOUT_WORKLOAD_API = """
import os, runpy
os.environ["IOTEDGE_WORKLOADURI"] = "unix:///nowhere/workload.sock"
runpy.run_module("iot.sftp.module", run_name="__main__")
"""

WITH_A_DEFECT = """
import runpy
from iot.sftp.module import _module
def fails(*_): raise RuntimeError("what a bug says")
_module.{part} = fails
runpy.run_module("iot.sftp.module", run_name="__main__")
"""

TALKATIVELY = (sys.executable, "-c", TALKATIVE)
AS_IT_IS = (sys.executable, "-m", "iot.sftp.module")
# without coverage, which catches SIGTERM earlier than the module, and then dies of it
UNMEASURED = ("env", "-u", "COVERAGE_PROCESS_CONFIG", sys.executable, "-m", "iot.sftp.module")


@contextmanager
def device(address: str, *, command: tuple[str, ...] = TALKATIVELY, **options: Any) -> Iterator[LocalEdge]:
    with LocalEdge(address=address, restart_policy="never", command=command, **options) as edge:
        yield edge
        edge.stop_module()
        assert all(LINE.fullmatch(line) for line in edge.module_log.splitlines()), edge.module_log


def wait_until_sigterm_is_caught(edge: LocalEdge) -> None:
    """Wait until the process has a handler for SIGTERM: proc(5), SigCgt. Before that, Python itself is starting."""
    caught = 1 << (signal.SIGTERM - 1)
    while edge.module_pid is not None:
        status = Path(f"/proc/{edge.module_pid}/status").read_text()
        if int(status.partition("SigCgt:")[2].split()[0], 16) & caught:
            return
        time.sleep(0.001)


def wait_for_end(edge: LocalEdge, seconds: float = 60) -> None:
    """Wait until the process has ended by itself."""
    end = time.monotonic() + seconds
    while not edge.module_exit_statuses:
        assert time.monotonic() < end, edge.module_log
        time.sleep(0.02)


def end(edge: LocalEdge) -> None:
    """Stop the module, which ends with status 0 and waits for nothing that hangs; a busy machine takes its time."""
    assert edge.stop_module(limit=25) == 0


def test_sigterm_ends_it_with_status_0(own_address: str, openssh_server: Server) -> None:
    with device(own_address, command=AS_IT_IS, desired={"sftp": section_of(openssh_server)}) as edge:
        edge.wait_for_reported(connected)
        end(edge)
        assert edge.module_log.rstrip().endswith("module sftp stops")


def test_suppressed_repeats_are_logged_at_the_end(own_address: str, openssh_server: Server) -> None:
    with device(own_address, desired={"sftp": section_of(openssh_server)}) as edge:
        edge.wait_for_reported(connected)
        for _ in range(3):
            assert edge.invoke("sftp", "delete_file", {"path": "none"})[0] == 404
        assert "more times" not in edge.module_log
        end(edge)
        assert "delete_file 'none': … 2 more times in " in edge.module_log


def test_sigterm_ends_a_transfer_that_hangs_and_answers_its_caller(
    own_address: str, openssh_server: Server, remote: Path
) -> None:
    (remote / "large").write_bytes(os.urandom(1_000_000) * 20)
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port, device(own_address, desired={"sftp": section_of(openssh_server, port=port)}) as edge:
        edge.wait_for_reported(connected)
        relay.cut_after = 5_000_000
        relay.frozen.set()
        transfer = edge.submit("sftp", "download_file", {"source": f"{remote.name}/large", "dest": "large"})
        assert edge.invoke("sftp", "nope")[0] == 404  # the transfer, which came before, is under way
        end(edge)
        status, body = transfer.result(60)
        assert (status, body["code"]) == (503, "connection_lost")
        assert list(edge.local_root.iterdir()) == []


def test_sigterm_ends_it_while_the_hub_is_unreachable(own_address: str, openssh_server: Server) -> None:
    with device(own_address, desired={"sftp": section_of(openssh_server)}) as edge:
        edge.wait_for_reported(connected)
        edge.stop_hub()
        wait_for_log(edge, "the connection to the edge hub broke")
        end(edge)


@pytest.mark.parametrize("delay", [0, 0.1, 0.4])
def test_sigterm_while_it_starts_ends_it_with_status_0(own_address: str, delay: float) -> None:
    with device(own_address, command=UNMEASURED) as edge:
        wait_until_sigterm_is_caught(edge)
        time.sleep(delay)  # any moment of the start
        end(edge)


def test_it_starts_before_the_hub_does(own_address: str, openssh_server: Server) -> None:
    with device(own_address, desired={"sftp": section_of(openssh_server)}, start_module=False) as edge:
        edge.stop_hub()
        edge.start_module()
        wait_for_log(edge, "no connection to the edge hub yet")
        edge.start_hub()
        edge.wait_until_connected()
        assert edge.invoke("sftp", "exists", {"path": "."}) == (200, True)


def test_it_keeps_trying_while_its_token_is_refused(own_address: str) -> None:
    with device(own_address, start_module=False) as edge:
        edge.refuse_tokens()
        edge.start_module()
        wait_for_log(edge, "no connection to the edge hub yet")
        edge.refuse_tokens(refuse=False)
        edge.wait_until_connected()


def test_it_retries_without_a_workload_api_until_it_is_stopped(own_address: str) -> None:
    with device(own_address, command=(sys.executable, "-c", WITHOUT_WORKLOAD_API)) as edge:
        wait_for_log(edge, "no connection to the edge hub yet")
        end(edge)


def test_it_reconnects_to_a_hub_that_was_unreachable(own_address: str, openssh_server: Server) -> None:
    with device(own_address, desired={"sftp": section_of(openssh_server)}) as edge:
        edge.wait_for_reported(connected)
        edge.stop_hub()
        wait_for_log(edge, "the connection to the edge hub broke")
        edge.start_hub()
        edge.wait_until_connected()
        assert edge.invoke("sftp", "exists", {"path": "."}) == (200, True)


def test_a_hub_that_lost_its_subscriptions_delivers_methods_again(own_address: str, openssh_server: Server) -> None:
    with device(own_address, desired={"sftp": section_of(openssh_server)}) as edge:
        edge.wait_for_reported(connected)
        edge.stop_hub()
        edge.wait_until_disconnected()
        forget_sessions(edge)
        edge.start_hub()
        edge.wait_until_connected()
        assert edge.invoke("sftp", "exists", {"path": "."}) == (200, True)
        version = edge.patch_desired({"transfers": {"concurrency": 3}})
        edge.wait_for_reported(lambda reported: bool(reported["transfers"]["av"] == version))


def test_an_answer_that_cannot_be_sent_is_one_line_in_the_log(
    own_address: str, openssh_server: Server, remote: Path
) -> None:
    relay = Relay((openssh_server.host, openssh_server.port))
    with relay.running() as port, device(own_address, desired={"sftp": section_of(openssh_server, port=port)}) as edge:
        edge.wait_for_reported(connected)
        relay.frozen.set()
        call = edge.submit("sftp", "exists", {"path": remote.name, "timeout": 1})
        assert edge.invoke("sftp", "nope")[0] == 404
        edge.stop_hub()
        wait_for_log(edge, "the response to exists could not be sent")
        call.exception(5)


def test_it_ends_with_status_1_when_the_hub_does_not_come_back(own_address: str) -> None:
    with device(own_address, command=(sys.executable, "-c", IMPATIENT)) as edge:
        wait_for_log(edge, "connected to the edge hub")  # and has subscribed to all: before, it waits for its first hub
        edge.stop_hub()
        wait_for_log(edge, "the module exits so that the edge agent restarts it: no connection to the edge hub for")
        wait_for_end(edge)
        assert edge.module_exit_statuses == [1]


@pytest.mark.parametrize("part", ["Module.__init__", "TwinFollower.run"])
def test_an_internal_error_ends_it_with_status_1_and_one_line(own_address: str, part: str) -> None:
    with device(own_address, command=(sys.executable, "-c", WITH_A_DEFECT.format(part=part))) as edge:
        wait_for_log(edge, "what a bug says")
        wait_for_end(edge)
        assert edge.module_exit_statuses == [1]
        (line,) = [line for line in edge.module_log.splitlines() if "what a bug says" in line]
        assert "the module exits so that the edge agent restarts it, after an internal error" in line


def test_repeated_internal_errors_do_not_use_up_the_restarts_of_the_edge_agent(
    own_address: str, tmp_path: Path
) -> None:
    restarts = RestartBudget(tmp_path)
    while restarts.allow():
        pass
    command = (sys.executable, "-c", WITH_A_DEFECT.format(part="Outbox.run").replace("def ", "async def "))
    with device(own_address, command=command, environment={"SFTP_STATE_DIR": str(tmp_path)}) as edge:
        wait_for_log(edge, "after an internal error")
        edge.wait_until_connected()
        assert edge.invoke("sftp", "is_connected", connect_timeout=20) == (200, False)  # what still works goes on
        assert edge.module_exit_statuses == []
        assert edge.stop_module(limit=60) == 0


def test_a_second_signal_changes_nothing(own_address: str) -> None:
    with device(own_address) as edge:
        edge.wait_until_connected()
        assert edge.module_pid is not None
        os.kill(edge.module_pid, signal.SIGINT)
        os.kill(edge.module_pid, signal.SIGTERM)
        wait_for_end(edge)
        assert edge.module_exit_statuses == [0]


def test_a_configuration_that_makes_no_sense_never_ends_it(own_address: str) -> None:
    documents: list[Any] = [{"sftp": 5}, {"sftp": []}, {"sftp": {"host": {}}}, {"x" * 1_000: 1}, {"logLevel": [1]}]
    with device(own_address) as edge:
        edge.wait_until_connected()
        for document in documents:
            version = edge.replace_desired(document)
            wait_for_log(edge, f"desired properties {version} are in force")
            status, body = edge.invoke("sftp", "exists", {"path": "."})
            assert (status, body["code"]) == (503, "not_configured")
        edge.wait_for_reported(lambda reported: bool(reported["transfers"]["av"] == version))
        assert edge.module_exit_statuses == []


def test_many_changes_at_once_cause_few_updates(own_address: str) -> None:
    with device(own_address, command=AS_IT_IS) as edge:
        edge.wait_for_reported(lambda reported: "transfers" in reported)
        for number in range(20):
            version = edge.patch_desired({"transfers": {"concurrency": number % 16 + 1}})
        reported = edge.wait_for_reported(lambda found: bool(found["transfers"]["av"] == version))
        assert reported["transfers"]["value"]["concurrency"] == 4
        assert reported["$version"] <= 4


def test_missing_directories_are_one_warning_each(own_address: str, openssh_server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # so that nobody can make a directory below
    data, state = f"{tmp_path}/file/data", f"{tmp_path}/file/state"
    nowhere = {"SFTP_LOCAL_ROOT": data, "SFTP_STATE_DIR": state, "LOG_LEVEL": "loud"}
    desired = {"sftp": section_of(openssh_server)}
    with device(own_address, desired=desired, environment=nowhere) as edge:
        edge.wait_until_connected()
        assert edge.invoke("sftp", "exists", {"path": "."}) == (200, True)
        status, body = edge.invoke("sftp", "upload_file", {"source": "a", "dest": "b"})
        assert (status, body["code"]) == (404, "not_found")
        assert f"the local root {data} is not there" in body["message"]
        for warning in ("LOG_LEVEL is 'loud'", "SFTP_LOCAL_ROOT: there is no", "SFTP_STATE_DIR: there is no"):
            assert edge.module_log.count(warning) == 1


def test_outside_of_iot_edge_it_names_the_missing_variables_with_status_1(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("IOTEDGE_", "Edge"))}
    command = [sys.executable, "-m", "iot.sftp.module"]
    ended = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30
    )
    assert ended.returncode == 1
    assert ended.stderr == ""
    (line,) = ended.stdout.splitlines()
    assert LINE.fullmatch(line)
    assert "IOTEDGE_IOTHUBHOSTNAME" in line


def forget_sessions(edge: LocalEdge) -> None:
    """Take the broker's memory away, as a hub's update without a volume does."""
    edge._runtime.hub._broker.sessions.clear()
