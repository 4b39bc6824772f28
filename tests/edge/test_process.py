"""The module's process: started, restarted, stopped and killed as the edge agent does it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from localedge import LocalEdge, StartError
from localedge._process import ModuleProcess

SIGKILLED = -9


def test_a_module_ends_in_order_at_sigterm(edge: LocalEdge) -> None:
    assert edge.stop_module(limit=60) == 0
    assert edge.module_pid is None
    edge.wait_until_disconnected()


def test_a_module_that_ignores_sigterm_is_killed(address: str, echo_module: tuple[str, ...]) -> None:
    with LocalEdge(address=address, command=echo_module, environment={"ECHO_IGNORES_SIGTERM": "1"}) as edge:
        edge.wait_until_connected()
        assert edge.stop_module(limit=0.5) == SIGKILLED


def test_a_module_that_is_frozen_is_killed(edge: LocalEdge) -> None:
    assert edge.module_pid is not None
    os.kill(edge.module_pid, signal.SIGSTOP)
    assert edge.stop_module(limit=0.5) == SIGKILLED


def test_a_module_that_dies_is_started_again(edge: LocalEdge) -> None:
    first = edge.module_pid
    edge.kill_module()
    edge.wait_until_disconnected()
    edge.wait_until_connected()
    assert edge.module_pid != first
    assert edge.module_exit_statuses == [SIGKILLED]
    assert edge.invoke("sftp", "echo")[0] == 200


@pytest.mark.parametrize("policy, status", [("never", 0), ("never", 3), ("on-failure", 0)])
def test_a_restart_policy_may_leave_it_ended(address: str, policy: str, status: int) -> None:
    command = (sys.executable, "-c", f"raise SystemExit({status})")
    with LocalEdge(address=address, command=command, restart_policy=policy) as edge:
        process = edge._runtime.process
        assert process is not None
        edge._loop.run(ended(process))
        assert edge.module_exit_statuses == [status]
        assert edge.module_pid is None


async def ended(process: ModuleProcess) -> None:
    assert process._supervisor is not None
    await process._supervisor


def test_a_module_in_the_wait_before_its_restart_can_be_stopped(address: str) -> None:
    with LocalEdge(address=address, command=(sys.executable, "-c", "raise SystemExit(3)")) as edge:
        edge.wait_for(lambda: edge.module_exit_statuses == [3], "it has ended")
        with pytest.raises(TimeoutError, match="the module is connected"):
            edge.wait_until_connected(timeout=0.1)
        assert edge.stop_module() == 3


def test_what_a_module_has_started_ends_with_it(address: str) -> None:
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); print('ready', flush=True)"
    command = (sys.executable, "-c", f"{code}; import time; time.sleep(60)")
    with LocalEdge(address=address, command=command) as edge:
        edge.wait_for(lambda: "ready" in edge.module_log, "it has started its own")
        process = edge._runtime.process
        assert process is not None
        assert edge.stop_module() == -signal.SIGTERM
        # Noted at the end of its output, which nobody holds open any more.
        assert process.exit_statuses == [-signal.SIGTERM]


def test_what_the_module_writes_is_in_its_log(address: str, tmp_path: Path, echo_module: tuple[str, ...]) -> None:
    with LocalEdge(address=address, directory=tmp_path, command=echo_module) as edge:
        edge.wait_until_connected()
        edge.stop_module()
        assert edge.module_log == "<6> connected\n"
    assert (tmp_path / "module.log").read_text() == "<6> connected\n"


def test_a_module_that_never_connects_is_reported_with_the_end_of_its_log(address: str) -> None:
    command = (sys.executable, "-c", "import time; print('on my way', flush=True); time.sleep(60)")
    with LocalEdge(address=address, command=command, restart_policy="never") as edge:
        edge.wait_for(lambda: "on my way" in edge.module_log, "it has started")
        with pytest.raises(TimeoutError, match=r"Not within 0\.1 s: the module is connected.*\n.*on my way"):
            edge.wait_until_connected(timeout=0.1)
        assert edge.stop_module() == -signal.SIGTERM


def test_a_command_that_cannot_be_run_says_so(address: str) -> None:
    with pytest.raises(StartError, match="cannot be started"), LocalEdge(address=address, command=("/no/such/file",)):
        pass


def test_a_port_in_use_says_so_and_what_to_do(empty_edge: LocalEdge) -> None:
    with (
        pytest.raises(StartError, match=r"8883: .*Another address"),
        LocalEdge(address=empty_edge.address, start_module=False),
    ):
        pass
