"""Exponential backoff for refused logins: accounts are locked after a handful of wrong passwords.

The same credentials wait for a pause that doubles with each refusal, in this process, whichever session or client
uses them. Until they have been accepted once, one session at a time tries them. Other credentials, a rotated secret for
instance, are tried at once. Credentials are kept as keyed hashes only.

Some servers hang up without a word if a password is wrong. A link that breaks at that moment looks the same, so only
several such ends in a row count as a refusal; more of them if the credentials are known to be right.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from iot.sftp.client._base.backoff import backoff
from iot.sftp.client._base.errors import AuthenticationFailed, ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iot.sftp.client._base.deadline import Deadline

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds
MOST_UNANSWERED = 3  # logins in a row; twice as many for credentials that were accepted before
MOST_KEPT = 1000  # credentials that are remembered; the oldest are forgotten

_salt = secrets.token_bytes(32)


class UnansweredLogin(ConnectionLost):
    """The connection ended, or nothing came, after a credential was sent: the server may have refused it."""


@dataclass
class _Record:
    """What is known of some credentials."""

    refusals: int = 0
    unanswered: int = 0  # logins in a row
    next_attempt: float = 0.0  # on the clock of the backoff
    message: str = ""  # of the last refusal
    is_accepted: bool = False
    is_being_tried: bool = False


def identity(*parts: object) -> bytes:
    """Return a keyed hash by which credentials are remembered: it reveals nothing about them."""
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), key=_salt).digest()


class LoginBackoff:
    """Decides when credentials may be tried; thread-safe.

    Attributes:
        clock: returns seconds, and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without any refusal."""
        self.clock = clock
        self._records: dict[bytes, _Record] = {}
        self._changed = threading.Condition()

    def check(self, credentials: bytes) -> None:
        """Check that credentials may be tried now.

        Raises:
            AuthenticationFailed: they were refused, and their pause has not ended.
        """
        with self._changed:
            record = self._records.get(credentials)
            if record is not None:
                self._check(record)

    @contextmanager
    def login(self, credentials: bytes, deadline: Deadline) -> Iterator[None]:
        """Surround a login. `AuthenticationFailed` out of the block is a refusal, its end without an error a success.

        Raises:
            AuthenticationFailed: these credentials have to wait, or several logins in a row were not answered.
            DeadlineExceeded: another session is still trying them.
        """
        record = self._begin(credentials, deadline)
        try:
            yield
        except AuthenticationFailed as refusal:
            self._end(record, refusal)
            raise
        except UnansweredLogin as error:
            refusal_or_none = self._count_unanswered(record, error)
            self._end(record, refusal_or_none)
            raise refusal_or_none or error from error.__cause__
        except BaseException:
            self._end(record, None)
            raise
        with self._changed:
            record.is_accepted, record.refusals, record.unanswered, record.next_attempt = True, 0, 0, 0.0
        self._end(record, None)

    def forget_all(self) -> None:
        """Forget all refusals, as a new process does."""
        with self._changed:
            self._records.clear()

    def _begin(self, credentials: bytes, deadline: Deadline) -> _Record:
        with self._changed:
            record = self._records.setdefault(credentials, _Record())
            while len(self._records) > MOST_KEPT:
                del self._records[next(iter(self._records))]
            while record.is_being_tried and not record.is_accepted:
                if not self._changed.wait(min(deadline.remaining(), threading.TIMEOUT_MAX)):
                    raise deadline.exceeded()
            self._check(record)
            record.is_being_tried = True
        return record

    def _check(self, record: _Record) -> None:
        wait = record.next_attempt - self.clock()
        if wait > 0:
            message = (
                f"{record.message}. Nothing was sent now: so that the account is not locked, the same credentials are "
                f"tried again in {wait:.0f} s at the earliest, others at once"
            )
            raise AuthenticationFailed(message)

    def _count_unanswered(self, record: _Record, error: UnansweredLogin) -> AuthenticationFailed | None:
        """Count a login that was not answered; return a refusal, once there are too many."""
        with self._changed:
            record.unanswered += 1
            if record.unanswered < MOST_UNANSWERED * (2 if record.is_accepted else 1):
                return None
        return AuthenticationFailed(
            f"{error.message}, {record.unanswered} times in a row: this may be its way to refuse the credential"
        )

    def _end(self, record: _Record, refusal: AuthenticationFailed | None) -> None:
        with self._changed:
            record.is_being_tried = False
            if refusal is not None:
                pause = backoff(record.refusals + 1, first=FIRST_PAUSE, longest=LONGEST_PAUSE, jitter=False)
                record.refusals, record.is_accepted = record.refusals + 1, False
                record.next_attempt, record.message = self.clock() + pause, refusal.message
            self._changed.notify_all()


LOGIN_BACKOFF = LoginBackoff()  # of this process: accounts are locked whichever session is at fault
