"""A module as a process of its own, started, restarted and stopped as the edge agent does it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_LIMIT = 10.0
"""Seconds between SIGTERM and SIGKILL."""

_RESTART_LIMIT = 20
_DRAIN_LIMIT = 2.0
_READ_SIZE = 65536

_log = logging.getLogger(__name__)


class ModuleProcess:
    """Runs `command`; what it writes goes to the file `log`, and to this process's stderr if `echo` is set.

    `restart_policy` is the edge agent's: `always`, `on-failure`, `on-unhealthy` (taken as `always`: the edge agent
    counts an exit as unhealthy) or `never`. The edge agent waits 10 s times 2^n up to 300 s before a restart, and gives
    up after 20; here the first wait is `back_off` seconds, for a developer's patience.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        restart_policy: str = "always",
        back_off: float = 0.5,
        echo: bool = False,
    ) -> None:
        self._command = command
        self._environment = environment
        self._log_file = log
        self._restart_policy = restart_policy
        self._back_off = back_off
        self._echo = echo
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.exit_statuses: list[int] = []
        """How it ended, each time; negative is the number of the signal that ended it."""

    @property
    def pid(self) -> int | None:
        """The process's id, `None` while it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it. `OSError` if the command cannot be run."""
        await self._spawn()
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self, limit: float = STOP_LIMIT) -> int | None:
        """End it: SIGTERM, and SIGKILL after `limit` seconds. Return its exit status, `None` if it never ran."""
        if self._supervisor is None or self._process is None:
            return None
        process, self._restart_policy = self._process, "never"
        if process.returncode is None:
            process.terminate()
            await asyncio.wait([self._supervisor], timeout=limit)
            if process.returncode is None:
                _log.warning("The module did not end within %g s of SIGTERM, and is killed", limit)
                self.kill()
        else:
            self._supervisor.cancel()  # it ended by itself, and waits to be started again
        await asyncio.wait([self._supervisor], timeout=_DRAIN_LIMIT)
        if not self._supervisor.done():
            _kill_group(process.pid)  # what it has started still holds its output; in a container it would end, too
            await asyncio.wait([self._supervisor], timeout=_DRAIN_LIMIT)
            self._supervisor.cancel()
        self._supervisor = None
        return process.returncode

    def kill(self) -> None:
        """Kill it and what it has started, as a crash would; the restart policy decides what follows."""
        if self.pid is not None:
            _kill_group(self.pid)

    async def _spawn(self) -> None:
        ours, its = os.pipe()
        try:
            # A session of its own: Ctrl-C in the terminal is for the runtime, which then stops the module in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=dict(self._environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(its)
        self._output = os.fdopen(ours, "rb", buffering=0)

    async def _supervise(self) -> None:
        try:
            await self._run_and_restart()
        finally:
            self.kill()  # not left behind when the supervision itself is cancelled

    async def _run_and_restart(self) -> None:
        for restart in range(_RESTART_LIMIT + 1):
            if restart:
                await asyncio.sleep(min(self._back_off * 2 ** (restart - 1), 300))
                await self._spawn()
            status = await self._follow()
            self.exit_statuses.append(status)
            if self._restart_policy == "never" or (self._restart_policy == "on-failure" and status == 0):
                return
            _log.warning("The module ended with status %d, and is started again", status)
        _log.error("The module ended %d times, and is not started again", _RESTART_LIMIT + 1)

    async def _follow(self) -> int:
        """Copy what the process writes until it ends; return its exit status."""
        process, output = self._process, asyncio.StreamReader()
        assert process is not None  # noqa: S101 - called after _spawn only
        protocol = asyncio.StreamReaderProtocol(output)
        reading, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, self._output)
        try:
            with self._log_file.open("ab", buffering=0) as log:
                while data := await output.read(_READ_SIZE):
                    log.write(data)
                    if self._echo:
                        sys.stderr.write(data.decode(errors="replace"))
            return await process.wait()
        finally:
            reading.close()  # what it has started may still hold the other end


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
