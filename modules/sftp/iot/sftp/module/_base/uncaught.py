"""Uncaught exceptions, of threads and of the event loop too, become log records instead of traces over many lines."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from iot.sftp.module._base.timeouts import ABANDONED

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType
    from typing import Any

_log = logging.getLogger(__name__)


def log_uncaught_exceptions() -> None:
    """Log what no code of this process catches."""
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    sys.unraisablehook = _log_unraisable


def log_loop_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio would print over several lines, but not the failure of a task that nobody waits for any more."""
    task: asyncio.Task[Any] | None = context.get("task")
    if task is not None and task.get_name() == ABANDONED:
        _log.debug("in the event loop: %s", context.get("message"))
        return
    error = context.get("exception")
    trace = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
    _log.error("in the event loop: %s", context.get("message"), exc_info=trace)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.critical("uncaught: %r", error, exc_info=(kind, error, trace))


def _log_unraisable(arguments: sys.UnraisableHookArgs) -> None:
    error = arguments.exc_value or arguments.exc_type()
    trace = (arguments.exc_type, error, arguments.exc_traceback)
    try:
        thing = repr(arguments.object)
    except Exception:  # noqa: BLE001 - it is half gone
        thing = type(arguments.object).__name__
    _log.error("uncaught where nobody can catch it, in %s: %r", thing, error, exc_info=trace)


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value or arguments.exc_type()
    _log.error(
        "uncaught in thread %s: %r",
        arguments.thread.name if arguments.thread else "?",
        error,
        exc_info=(arguments.exc_type, error, arguments.exc_traceback),
    )
