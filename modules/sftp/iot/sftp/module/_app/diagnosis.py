"""A diagnosis of the connection in a thread of its own, so that a step that hangs does not block who waits for it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, cast

from iot.sftp.client import DeadlineExceeded, Internal, SFTPError
from iot.sftp.module._base.logging import subject

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from iot.sftp.client import ServerSettings, Step

    Diagnose = Callable[[ServerSettings], Iterator[Step]]

_log = logging.getLogger(__name__)


class Diagnosis(threading.Thread):
    """One diagnosis; once nobody waits for it, it ends after its current step, which has time limits of its own."""

    def __init__(self, diagnose: Diagnose, settings: ServerSettings, on_end: Callable[[], None]) -> None:
        """Take what to diagnose; `start` begins.

        Parameters:
            diagnose: yields the steps as they are done.
            settings: of the server.
            on_end: called in the thread when it has ended.
        """
        super().__init__(name="diagnosis", daemon=True)
        self._diagnose = diagnose
        self._settings = settings
        self._on_end = on_end
        self._abandoned = threading.Event()
        self._found: queue.SimpleQueue[Step | SFTPError | None] = queue.SimpleQueue()

    def steps(self, limit: float) -> Iterator[Step]:
        """Yield each step as it is done; whoever stops to iterate abandons the diagnosis.

        Raises:
            DeadlineExceeded: the steps were not done within `limit` seconds.
            SFTPError: the diagnosis failed.
        """
        end = time.monotonic() + limit
        try:
            while True:
                try:
                    found = self._found.get(timeout=max(0.0, end - time.monotonic()))
                except queue.Empty:
                    message = f"the check was not done after {limit:g} s: its next step does not end"
                    raise DeadlineExceeded(message) from None
                if found is None:
                    return
                if isinstance(found, SFTPError):
                    raise found
                yield found
        finally:
            self._abandoned.set()

    def run(self) -> None:
        """Diagnose, in the thread."""
        last: SFTPError | None = None
        try:
            with subject("check"), closing(cast("Generator[Step]", self._diagnose(self._settings))) as steps:
                for step in steps:
                    self._found.put(step)
                    if self._abandoned.is_set():
                        return
        except SFTPError as error:
            last = error  # raised where the steps are read
        except Exception:  # noqa: BLE001 - whatever it is, the client gets an end
            _log.exception("internal error of the check")
            last = Internal("internal error of the module, described in its log")
        finally:
            self._on_end()
            self._found.put(last)
