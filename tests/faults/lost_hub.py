"""Every way to lose the hub for good: `python -m tests.faults.lost_hub`, or `make lost-hub`, measures what each takes.

The module runs with the limits that ship, on the real SDK and a hub of its own for each cause, all at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.faults.link import Link
from tests.faults.tap import Tap

from localedge import LocalEdge
from localedge._broker import PORT

LONGEST = 1_500.0  # seconds that are waited for the end of the process
PAUSE = 5.0  # seconds that the connection is there before it is lost

# The module, in which SIGUSR1 breaks something; with other limits, if there are any
PROGRAM = """
import runpy, signal
from iot.sftp.module._hub.limits import HubLimits
from iot.sftp.module._hub import loop_watch
from iot.sftp.module._base import timeouts
LIMITS = {limits!r}
if LIMITS:
    timeouts.PAUSE_FIRST, timeouts.PAUSE_LONGEST = 0.1, 0.5
    loop_watch.watch_loop.__kwdefaults__.update(interval=0.5, missed=10)
    HubLimits.__init__.__kwdefaults__.update(LIMITS)
{prepare}
runpy.run_module("iot.sftp.module", run_name="__main__")
"""
IMPATIENT = {
    "sdk_reconnect": 0.2,
    "probe_interval": 1.0,
    "subscribe": 5.0,
    "twin": 1.0,
    "give_up": 6.0,
    "give_up_unreachable": 8.0,
}
SHORT = {"connect": 2.0, "subscribe": 2.0, "create": 3.0}

TOKENS_THAT_END_SOON = """
from azure.iot.device.common.pipeline.pipeline_stages_base import SasTokenStage
SasTokenStage.DEFAULT_TOKEN_UPDATE_MARGIN = 3590  # seconds before the end of a token that lives for 3,600
"""
ON_SIGNAL = """
def break_it(*_):
    {statements}
signal.signal(signal.SIGUSR1, break_it)
"""
HANDLERS_GONE = ON_SIGNAL.format(
    statements="from azure.iot.device.iothub.aio import loop_management as management; "
    "loop = management.loops['CLIENT_HANDLER_RUNNER_LOOP']; loop.call_soon_threadsafe(loop.stop)"
)
THREADS_HANG = ON_SIGNAL.format(
    statements="import threading; from azure.iot.device.common.pipeline import pipeline_thread; "
    "pipeline_thread._get_named_executor('pipeline').submit(threading.Event().wait)"
)
LOOP_STANDS_STILL = ON_SIGNAL.format(statements="import time; time.sleep(10_000)")


@dataclass
class Lost:
    """A device whose module is connected to a hub behind a link, until it is lost."""

    edge: LocalEdge
    link: Link
    tap: Tap

    @property
    def hub(self) -> Any:
        """The inner hub."""
        return self.edge._runtime.hub

    def signal_module(self) -> None:
        """Have the module break what it was prepared to."""
        assert self.edge.module_pid is not None
        os.kill(self.edge.module_pid, signal.SIGUSR1)

    def wait_for_end(self, limit: float) -> float | None:
        """Wait until the process has ended, return the seconds; `None` if it does not within the limit."""
        started = time.monotonic()
        while not self.edge.module_exit_statuses:
            if time.monotonic() - started > limit:
                return None
            time.sleep(0.02)
        return time.monotonic() - started


@dataclass(frozen=True)
class Cause:
    """A way to lose the hub.

    Attributes:
        name: what is wrong.
        lose: makes it so.
        said: what the module says in the end.
        prepare: statements that run in the module before it starts.
        limits: those that differ from `IMPATIENT`, where nobody has the time of those that ship.
    """

    name: str
    lose: Callable[[Lost], None]
    said: str = "no connection to the edge hub for"
    prepare: str = ""
    limits: dict[str, float] = field(default_factory=dict)


def _refuse_tokens(lost: Lost) -> None:
    lost.edge.refuse_tokens()
    lost.edge.disconnect_module()


def _say_nothing(lost: Lost) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    lost.hub._broker._authenticate = never
    lost.edge.disconnect_module()


def _sign_nothing(lost: Lost) -> None:
    workload: Any = lost.edge._runtime._workload
    workload._modules = {}


def _lose_twin_answers(lost: Lost) -> None:
    lost.tap.loses_twin_answers = True
    lost.edge.patch_desired({"logLevel": "debug"})


def _stall(lost: Lost) -> None:
    lost.link.stall()
    lost.link.cut()


CAUSES = (
    Cause("the token is refused for good (CONNACK 5)", _refuse_tokens),
    Cause("CONNACK never comes", _say_nothing, limits={"connect": 2.0}),
    Cause(
        "the token cannot be renewed (the workload API refuses)",
        _sign_nothing,
        prepare=TOKENS_THAT_END_SOON,
        limits={"probe_interval": 60.0},
    ),
    Cause("twin calls are never answered", _lose_twin_answers, "no answer to a twin request for"),
    Cause(
        "the SDK's thread that calls handlers is gone",
        Lost.signal_module,
        "3 probes in a row failed",
        HANDLERS_GONE,
        {"subscribe": 2.0},
    ),
    Cause(
        "the SDK's threads hang",
        Lost.signal_module,
        prepare=THREADS_HANG,
        limits=SHORT,
    ),
    Cause(
        "the event loop of the module stands still", Lost.signal_module, "its event loop was blocked", LOOP_STANDS_STILL
    ),
    Cause("nobody listens where the hub should be", lambda lost: lost.link.refuse()),
    Cause("connections are accepted, and nothing is said, not even TLS", _stall, limits=SHORT),
    Cause("nothing passes any more, both ways", lambda lost: lost.link.hold(), limits=SHORT),
)


@contextmanager
def losing(cause: Cause, directory: Path, address: str, **limits: float) -> Iterator[Lost]:
    """Run a device that is connected, and may be led to lose its hub in this way."""
    first, second, *rest = address.split(".")
    behind = ".".join([first, str(int(second) ^ 16), *rest])
    text = PROGRAM.format(limits=limits, prepare=cause.prepare)
    command = (sys.executable, "-c", text)
    with LocalEdge(
        address=address, directory=directory, restart_policy="never", command=command, start_module=False
    ) as edge:
        runtime = edge._runtime
        tap = Tap(edge)
        edge._loop.run(runtime.hub.close())
        edge._loop.run(runtime.hub.listen(behind, runtime.certificates.server_context()))
        with Link((behind, PORT), (address, PORT)).running() as link:
            edge.start_module()
            edge.wait_until_connected()
            edge.wait_for_reported(lambda reported: "module" in reported)
            yield Lost(edge, link, tap)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.parse_args()
    logging.disable(logging.CRITICAL)  # the hubs' own, which are broken on purpose
    with TemporaryDirectory(prefix="lost-hub-") as directory, ThreadPoolExecutor(len(CAUSES)) as threads:
        places = [Path(directory) / str(number) for number in range(len(CAUSES))]
        addresses = [f"127.36.{os.getpid() // 250 % 250}.{1 + number}" for number in range(len(CAUSES))]
        rows = list(threads.map(_measure, CAUSES, places, addresses))
    print("\n".join(["| cause | process ends after | last words |", "| --- | --- | --- |", *rows]))  # noqa: T201
    return 0


def _measure(cause: Cause, directory: Path, address: str) -> str:
    with losing(cause, directory, address) as lost:
        time.sleep(PAUSE)
        cause.lose(lost)
        seconds = lost.wait_for_end(LONGEST)
        last = [line for line in lost.edge.module_log.splitlines() if cause.said in line]
        words = last[-1].partition("restarts it: ")[2][:120] if last else "-"
        return f"| {cause.name} | {'-' if seconds is None else f'{seconds:.0f} s'} | {words} |"


if __name__ == "__main__":
    sys.exit(main())
