"""A connection to the hub that is there and of no use is replaced, or the process exits: with the real SDK."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Queue
from typing import Any

import pytest
from tests.faults.lost_hub import CAUSES, IMPATIENT, PROGRAM, TOKENS_THAT_END_SOON, Cause, losing
from tests.module.conftest import wait_for_log

from localedge import HubError, LocalEdge
from localedge.testing import worker_address


@contextmanager
def device(address: str, prepare: str = "", **limits: float) -> Iterator[LocalEdge]:
    text = PROGRAM.format(limits=IMPATIENT | limits, prepare=prepare)
    with LocalEdge(address=address, restart_policy="never", command=(sys.executable, "-c", text)) as edge:
        edge.wait_until_connected()
        edge.wait_for_reported(lambda reported: "module" in reported)
        assert edge.invoke("sftp", "is_connected") == (200, False)
        yield edge


def test_a_healthy_connection_is_not_replaced(own_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with device(own_address) as edge:
        hub: Any = edge._runtime.hub
        may_subscribe, asked = hub.may_subscribe, Queue[str]()

        def noted(client_id: str, topic: str) -> bool:
            asked.put(topic)
            return bool(may_subscribe(client_id, topic))

        monkeypatch.setattr(hub, "may_subscribe", noted)
        probes: Counter[str] = Counter()
        while max(probes.values(), default=0) < 4:  # each subscribes again
            probes[asked.get(timeout=30)] += 1
        assert edge.invoke("sftp", "is_connected") == (200, False)
        assert "is replaced" not in edge.module_log
        assert "broke" not in edge.module_log


def test_subscriptions_that_the_hub_has_lost_are_made_again(own_address: str) -> None:
    with device(own_address) as edge:
        broker: Any = edge._runtime.hub._broker
        broker.subscriptions.clear()
        edge.wait_until_connected()
        assert edge.invoke("sftp", "is_connected", connect_timeout=20) == (200, False)


def test_a_hub_that_refuses_subscriptions_is_of_no_use_until_it_takes_them(
    own_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with device(own_address, give_up=100.0) as edge:
        hub: Any = edge._runtime.hub
        monkeypatch.setattr(hub, "may_subscribe", lambda _client, topic: "methods" not in topic)
        wait_for_log(edge, "is replaced: a probe failed: the hub refuses to let this module subscribe")
        wait_for_log(edge, "no connection to the edge hub, next attempt")
        monkeypatch.undo()
        wait_for_log(edge, "connected to the edge hub again")
        assert edge.invoke("sftp", "is_connected", connect_timeout=20) == (200, False)


def test_a_new_client_replaces_one_whose_token_could_not_be_renewed(own_address: str) -> None:
    with device(own_address, TOKENS_THAT_END_SOON, probe_interval=60.0) as edge:
        workload: Any = edge._runtime._workload
        modules, workload._modules = workload._modules, {}
        wait_for_log(edge, "is replaced: its token could not be renewed", 60)
        workload._modules = modules
        wait_for_log(edge, "connected to the edge hub again", 60)
        assert edge.invoke("sftp", "is_connected", connect_timeout=20) == (200, False)
        assert edge.module_exit_statuses == []


def answer_at_last(edge: LocalEdge) -> tuple[int, Any]:
    """Call until there is an answer: the SDK may replace a connection that was cut while it was made."""
    end = time.monotonic() + 60
    while True:
        try:
            return edge.invoke("sftp", "is_connected", connect_timeout=20)
        except HubError:
            assert time.monotonic() < end, edge.module_log


def test_a_single_failed_probe_does_not_make_the_process_exit_later(own_address: str) -> None:
    """A connection that breaks more often than it is probed is not the SDK's fault."""
    prepare = (
        "import threading, time; from azure.iot.device.iothub.aio import loop_management as management; "
        "loop = lambda: management.loops['CLIENT_HANDLER_RUNNER_LOOP']; "
        "threading.Timer(5, lambda: loop().call_soon_threadsafe(time.sleep, 10)).start()"
    )
    with device(own_address, prepare, probe_interval=4.0, subscribe=1.0, give_up=3.0) as edge:
        wait_for_log(edge, "is replaced: a probe failed", 60)
        wait_for_log(edge, "connected to the edge hub again", 60)
        later = time.monotonic() + 5
        while time.monotonic() < later:
            edge.wait_until_connected()
            edge.disconnect_module()
        assert answer_at_last(edge) == (200, False)
        assert edge.module_exit_statuses == []
        assert "unknown_method" not in edge.module_log  # a late probe is not taken for a caller's request


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[tuple[list[int], str]]]]:
    """How devices end that lose their hubs, by the cause: exit statuses and log. They do little, all at a time."""
    folder = tmp_path_factory.mktemp("devices")
    first, second, _, worker = worker_address().split(".")

    def end_of(number: int, cause: Cause) -> tuple[list[int], str]:
        address = f"{first}.{int(second) ^ 32}.{1 + number}.{worker}"
        with losing(cause, folder / str(number), address, **IMPATIENT | cause.limits) as lost:
            cause.lose(lost)
            assert lost.wait_for_end(90) is not None, lost.edge.module_log
            return lost.edge.module_exit_statuses, lost.edge.module_log

    with ThreadPoolExecutor(len(CAUSES)) as threads:
        yield {cause.name: threads.submit(end_of, number, cause) for number, cause in enumerate(CAUSES)}


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_a_hub_that_is_lost_for_good_makes_the_process_exit(
    ends: dict[str, Future[tuple[list[int], str]]], cause: Cause
) -> None:
    statuses, log = ends[cause.name].result()
    assert statuses == [1]
    exits = "the module exits so that the edge agent restarts it"
    (last,) = [line for line in log.splitlines() if exits in line]
    assert cause.said in last
