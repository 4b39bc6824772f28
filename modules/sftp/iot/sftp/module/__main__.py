"""The process: environment and signals in, exit status out."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from iot.sftp.module._module import Module

STOP_LIMIT = 7.0  # seconds from a signal until the process exits in any case

_stopping = threading.Event()
_module: Module | None = None


def main() -> int:
    """Run the module until a signal stops it; return the exit status."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    # Imported later than the handlers are set: on a small device that takes a second, and a signal may come meanwhile.
    import asyncio  # noqa: PLC0415
    import logging  # noqa: PLC0415

    from iot.sftp.module._base.allocator import imports, keep_memory_small  # noqa: PLC0415
    from iot.sftp.module._base.environment import Environment, missing_variables  # noqa: PLC0415
    from iot.sftp.module._base.logging import configure_logging, log_what_was_counted  # noqa: PLC0415

    keep_memory_small()
    environment = Environment.read(os.environ)
    configure_logging(environment.log_level)
    missing = missing_variables(os.environ)
    if missing:
        message = "this is no IoT Edge module's environment: %s not set. The edge agent sets them: deploy the module"
        logging.getLogger(__name__).error(message, ", ".join(missing))
        return 1
    environment.warn(os.environ)

    with imports():
        from iot.sftp.module._hub.workload_api import import_sdk  # noqa: PLC0415

        import_sdk()
        from iot.sftp.module._module import Module  # noqa: PLC0415

    async def run() -> int:
        global _module  # noqa: PLW0603 - the signal handler needs it
        _module = Module(environment, lambda: _leave(1))
        if _stopping.is_set():
            return 0
        return await _module.run()

    # Not asyncio.run: at its end that waits for all threads, and those of the SDK may never end
    try:
        return asyncio.new_event_loop().run_until_complete(run())
    finally:
        log_what_was_counted()


def _main_with_errors_logged() -> int:
    try:
        return main()
    except Exception:
        import logging  # noqa: PLC0415 - see main

        log = logging.getLogger(__name__)
        log.exception("the module exits so that the edge agent restarts it, after an internal error")
        return 1


def _stop(_number: int, _frame: FrameType | None) -> None:
    if _stopping.is_set():
        return
    _stopping.set()
    threading.Thread(target=_exit_in_time, daemon=True).start()
    if _module is not None:
        _module.stop()


def _exit_in_time() -> None:
    time.sleep(STOP_LIMIT)
    _leave(0)


def _leave(status: int) -> None:
    # Without waiting for the SDK's threads or for a transfer that hangs
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # it is closed, or its reader has ended
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    _leave(_main_with_errors_logged())
