"""A connection to the hub that is there and of no use is mended, or the process ends: with the real SDK."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.faults.tap import Tap
from tests.module.conftest import wait_for_log

from localedge import LocalEdge

# the module with shorter patience
IMPATIENT = """
import runpy
from iot.sftp.module import _hub, _waiting
_waiting.PAUSE_FIRST, _waiting.PAUSE_LONGEST = 0.1, 0.5
limits = {"headstart": 0.2, "pulse": 1.0, "subscribe": 5.0, "twin": 1.0, "give_up": 6.0, "away": 8.0, **LIMITS}
_hub.HubLimits.__init__.__kwdefaults__.update(limits)
PREPARE
runpy.run_module("iot.sftp.module", run_name="__main__")
"""

TOKENS_THAT_END_SOON = """
from azure.iot.device.common.pipeline.pipeline_stages_base import SasTokenStage
SasTokenStage.DEFAULT_TOKEN_UPDATE_MARGIN = 3595  # seconds before the end of a token that lives for 3,600
"""


@contextmanager
def device(address: str, prepare: str = "", **limits: float) -> Iterator[LocalEdge]:
    text = IMPATIENT.replace("LIMITS", repr(limits)).replace("PREPARE", prepare)
    with LocalEdge(address=address, restart_policy="never", command=(sys.executable, "-c", text)) as edge:
        edge.wait_until_connected()
        edge.wait_for_reported(lambda reported: "module" in reported)
        assert edge.invoke("sftp", "is_connected") == (200, False)
        yield edge


def wait_for_end(edge: LocalEdge) -> None:
    end = time.monotonic() + 60
    while not edge.module_exit_statuses:
        assert time.monotonic() < end, edge.module_log
        time.sleep(0.05)
    assert edge.module_exit_statuses == [1]


def test_a_connection_that_is_well_is_left_alone(own_address: str) -> None:
    with device(own_address) as edge:
        time.sleep(4)  # some looks at it
        assert edge.invoke("sftp", "is_connected") == (200, False)
        assert "made anew" not in edge.module_log
        assert "broke" not in edge.module_log


def test_subscriptions_that_the_hub_forgot_meanwhile_are_made_again(own_address: str) -> None:
    with device(own_address) as edge:
        broker: Any = edge._runtime.hub._broker
        broker.subscriptions.clear()
        edge.wait_until_connected()
        assert edge.invoke("sftp", "is_connected", connect_timeout=20) == (200, False)


def test_a_token_that_is_refused_for_good_ends_it(own_address: str) -> None:
    with device(own_address) as edge:
        edge.refuse_tokens()
        edge.disconnect_module()
        wait_for_log(edge, "the module ends to be started anew: no connection to the edge hub for")
        wait_for_end(edge)


def test_a_connack_that_never_comes_ends_it(own_address: str) -> None:
    released = asyncio.Event()

    async def say_nothing(*_arguments: object) -> None:
        await released.wait()

    async def release() -> None:
        released.set()

    with device(own_address, connect=2.0) as edge:
        broker: Any = edge._runtime.hub._broker
        broker._authenticate = say_nothing
        edge.disconnect_module()
        wait_for_log(edge, "the module ends to be started anew: no connection to the edge hub for", 60)
        wait_for_end(edge)
        edge._run(release())


def test_twin_calls_that_are_never_answered_end_it(own_address: str) -> None:
    with device(own_address) as edge:
        tap = Tap(edge)
        tap.loses_twin_answers = True
        edge.patch_desired({"logLevel": "debug"})
        wait_for_log(edge, "the connection to the edge hub is made anew: 3 twin calls in a row were not answered")
        wait_for_log(edge, "the module ends to be started anew: no answer about the twin for", 60)
        wait_for_end(edge)


def test_a_token_that_could_not_be_renewed_is_mended_by_a_new_client(own_address: str) -> None:
    with device(own_address, TOKENS_THAT_END_SOON, pulse=60.0) as edge:
        workload: Any = edge._runtime._workload
        modules, workload._modules = workload._modules, {}
        wait_for_log(edge, "made anew: its token could not be renewed", 60)
        workload._modules = modules
        wait_for_log(edge, "connected to the edge hub again", 60)
        assert edge.invoke("sftp", "is_connected", connect_timeout=20) == (200, False)
        assert edge.module_exit_statuses == []


def test_an_sdk_whose_threads_hang_ends_it(own_address: str) -> None:
    prepare = (
        "import threading; from azure.iot.device.common.pipeline import pipeline_thread; "
        "threading.Timer(5, lambda: pipeline_thread._get_named_executor('pipeline')"
        ".submit(threading.Event().wait)).start()"
    )
    with device(own_address, prepare, connect=2.0, subscribe=2.0, create=3.0) as edge:
        wait_for_log(edge, "made anew: nothing gets through it any more", 60)
        wait_for_end(edge)


def test_a_look_that_failed_once_does_not_end_it_later(own_address: str) -> None:
    """A connection that breaks more often than it is looked at is not the SDK's fault."""
    prepare = (
        "import threading, time; from azure.iot.device.iothub.aio import loop_management as management; "
        "loop = lambda: management.loops['CLIENT_HANDLER_RUNNER_LOOP']; "
        "threading.Timer(5, lambda: loop().call_soon_threadsafe(time.sleep, 10)).start()"
    )
    with device(own_address, prepare, pulse=4.0, subscribe=1.0, give_up=3.0) as edge:
        wait_for_log(edge, "made anew: nothing gets through it any more", 60)
        wait_for_log(edge, "connected to the edge hub again", 60)
        later = time.monotonic() + 5
        while time.monotonic() < later:
            edge.wait_until_connected()
            edge.disconnect_module()
        assert edge.invoke("sftp", "is_connected", connect_timeout=20) == (200, False)
        assert edge.module_exit_statuses == []
        assert "unknown_method" not in edge.module_log  # a look that comes late is none of the callers' requests


def test_a_method_handler_that_has_gone_quiet_ends_it(own_address: str) -> None:
    """The connection is there and the hub acknowledges everything, but the SDK's thread that calls handlers is gone."""
    prepare = (
        "import threading; from azure.iot.device.iothub.aio import loop_management as management; "
        "loop = lambda: management.loops['CLIENT_HANDLER_RUNNER_LOOP']; "
        "threading.Timer(5, lambda: loop().call_soon_threadsafe(loop().stop)).start()"
    )
    with device(own_address, prepare, subscribe=2.0) as edge:
        wait_for_log(edge, "made anew: nothing gets through it any more", 60)
        wait_for_log(edge, "ends to be started anew: no method has got through the SDK at 3 looks in a row", 60)
        wait_for_end(edge)


def test_an_event_loop_that_stands_still_ends_it(own_address: str) -> None:
    prepare = (
        "import threading, time; from iot.sftp.module import _loop_watch, _module; "
        "_loop_watch.watch_loop.__kwdefaults__.update(seconds=0.5, rounds=4); "
        "stand_still = lambda module: module._loop.call_soon_threadsafe(time.sleep, 60); "
        "run = _module.Module.run; "
        "_module.Module.run = lambda module: threading.Timer(5, stand_still, [module]).start() or run(module)"
    )
    with device(own_address, prepare) as edge:
        wait_for_log(edge, "its event loop has stood still for 2 s, here: ", 60)
        wait_for_end(edge)
