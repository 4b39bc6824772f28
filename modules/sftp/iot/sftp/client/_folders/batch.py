"""Deliver several small files at a time in one thread: what they ask for goes out together, and is waited for once.

With a thread for each file, each of its steps costs a message, a wake-up and a turn of Python's lock of its own: more
than the step itself.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import SFTPError
from iot.sftp.client._base.steps import LATER, finish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from typing import Any

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.remote_files import RemoteFiles


def run_together(remote: RemoteFiles, works: Iterable[Steps[None]]) -> None:
    """Do a step of each work, then the next one of each, until all have ended.

    Parameters:
        remote: the server's files, over the channel of all works. The server keeps the order of requests.
        works: are taken one by one, as they are begun.

    Raises:
        SFTPError: what the first work has raised; the others were done to their ends.
    """
    batch = _Batch(remote)
    batch.begin(works)
    while batch.is_under_way:
        batch.advance(batch.wait())
    for work in batch.alone:
        batch.end(work)
    if batch.error is not None:
        raise batch.error


class _Batch:
    """Works of one thread, each at the same step or at its own."""

    def __init__(self, remote: RemoteFiles) -> None:
        self._remote = remote
        self._last: Future[Any] | None = None  # the answer that comes last
        self._next: list[Steps[None]] = []
        self._later: list[Steps[None]] = []  # those that go on when no other is under way
        self.alone: list[Steps[None]] = []  # those that go on one by one, when all others have ended
        self.error: BaseException | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether there are works that have not ended, but for those that go on alone."""
        return bool(self._next or self._later)

    def begin(self, works: Iterable[Steps[None]]) -> None:
        """Do the first step of each; none is begun once one of them has ended all."""
        with self._remote.together():
            for work in works:
                self._advance(work, next)
                if self.error is not None:
                    return

    def advance(self, works: Iterable[Steps[None]]) -> None:
        """Do a step of each, and send together what they ask for."""
        with self._remote.together():
            for work in works:
                self._advance(work, _go_on)

    def wait(self) -> list[Steps[None]]:
        """Wait for all that was asked for, and return whose it is."""
        if self._last is not None:
            with suppress(SFTPError):  # each of them meets it
                self._remote.wait_for_any_answer(self._last)
        if not self._next:
            self._next, self._later = self._later, []
        works, self._next, self._last = self._next, [], None
        return works

    def end(self, work: Steps[None]) -> None:
        """Do all that is left of a work."""
        try:
            _go_on(work)
            finish(work)
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - raised when all have ended
            self.error = self.error or error

    def _advance(self, work: Steps[None], step: Callable[[Steps[None]], Future[Any] | None]) -> None:
        try:
            asked = step(work)
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - raised when all have ended
            self.error = self.error or error
        else:
            if asked is None:
                self.alone.append(work)
                return
            if asked is LATER:
                self._later.append(work)
                return
            self._next.append(work)
            if not asked.done():
                self._last = asked


def _go_on(work: Steps[None]) -> Future[Any] | None:
    """Do the next step of a work that has others beside it."""
    return work.send(True)  # noqa: FBT003 - they are
