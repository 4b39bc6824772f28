"""Start threads on a system that may have none left: that is a shortage, and no bug.

Limits on threads are those of a container (`pids.max`), of a user (RLIMIT_NPROC), or of memory for their stacks.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import LocalBusy
from iot.sftp.client._base.messages import NO_THREAD_LEFT

if TYPE_CHECKING:
    from collections.abc import Callable


def start_thread(target: Callable[..., object], *args: object, name: str) -> threading.Thread:
    """Start a daemon thread, and return it.

    Raises:
        LocalBusy: the system has none left.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise LocalBusy(NO_THREAD_LEFT) from error
    return thread


class WorkerThreads(ThreadPoolExecutor):
    """An executor that makes do with the threads that it has, where the system gives no further one."""

    def __init__(self, most: int, *, least: int = 1, name: str) -> None:
        """Start no thread yet.

        Parameters:
            most: threads, as many as are needed.
            least: without so many, what is submitted would wait without end.
            name: what the threads' names begin with.
        """
        super().__init__(most, thread_name_prefix=name)
        self._least = least

    def _adjust_thread_count(self) -> None:
        """Start a thread for what was just submitted, if that is needed.

        Raises:
            LocalBusy: there are too few.
        """
        try:
            super()._adjust_thread_count()
        except RuntimeError as error:
            if not self._threads:
                with suppress(Empty):
                    self._work_queue.get_nowait()  # its caller is told that it is not done
            if len(self._threads) < self._least:
                raise LocalBusy(NO_THREAD_LEFT) from error
