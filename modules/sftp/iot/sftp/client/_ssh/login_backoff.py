"""A login that was refused is not repeated blindly: accounts are locked after a handful of wrong passwords.

The same credentials wait for a pause that doubles with each refusal, in this process, whichever session or client
uses them. Until they have been accepted once, they are tried by one session at a time. Other credentials, a rotated
secret for instance, are tried at once. Credentials are kept as keyed hashes only.

Some servers hang up without a word where a password is wrong. A link that breaks at that moment looks the same, so
that only several such ends in a row are taken for a refusal; more where the credentials are known to be right.
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
    from collections.abc import Iterator

    from iot.sftp.client._base.deadline import Deadline

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds
MOST_UNANSWERED = 3  # logins in a row; twice as many for credentials that were accepted before
MOST_KEPT = 1000  # credentials that are remembered; the oldest are forgotten

_salt = secrets.token_bytes(32)
_states: dict[bytes, _State] = {}
_changed = threading.Condition()


class UnansweredLogin(ConnectionLost):
    """The connection ended, or nothing came, after a credential was sent: the server may have refused it."""


@dataclass
class _State:
    """What is known of some credentials."""

    refusals: int = 0
    unanswered: int = 0
    next_try: float = 0.0
    message: str = ""
    accepted: bool = False
    being_tried: bool = False


def identity(*parts: object) -> bytes:
    """Return what some credentials are remembered by: nothing can be told from it."""
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), key=_salt).digest()


def check(credentials: bytes) -> None:
    """Raise `AuthenticationFailed` while these credentials have to wait."""
    with _changed:
        _check(_states.get(credentials))


@contextmanager
def login(credentials: bytes, deadline: Deadline) -> Iterator[None]:
    """Surround a login. `AuthenticationFailed` out of the block is a refusal, its end without an error a success.

    Raises:
        AuthenticationFailed: these credentials have to wait, or several logins in a row were not answered.
        DeadlineExceeded: another session is still trying them.
    """
    with _changed:
        state = _states.setdefault(credentials, _State())
        while len(_states) > MOST_KEPT:
            del _states[next(iter(_states))]
        while state.being_tried and not state.accepted:
            if not _changed.wait(min(deadline.remaining(), threading.TIMEOUT_MAX)):
                raise deadline.exceeded()
        _check(state)
        state.being_tried = True
    try:
        yield
    except AuthenticationFailed as refusal:
        _end(state, refusal)
        raise
    except UnansweredLogin as error:
        counted = _counted(state, error)
        _end(state, counted)
        raise counted or error from error.__cause__
    except BaseException:
        _end(state, None)
        raise
    with _changed:
        state.accepted, state.refusals, state.unanswered, state.next_try = True, 0, 0, 0.0
    _end(state, None)


def forget_all() -> None:
    """Forget all refusals, as a new process does."""
    with _changed:
        _states.clear()


def _check(state: _State | None) -> None:
    wait = state.next_try - time.monotonic() if state is not None else 0.0
    if state is not None and wait > 0:
        message = (
            f"{state.message}. Nothing was sent now: so that the account is not locked, the same credentials are tried "
            f"again in {wait:.0f} s at the earliest, others at once"
        )
        raise AuthenticationFailed(message)


def _counted(state: _State, error: UnansweredLogin) -> AuthenticationFailed | None:
    """Count a login that was not answered; return the refusal that it is taken for, once there are too many."""
    with _changed:
        state.unanswered += 1
        if state.unanswered < MOST_UNANSWERED * (2 if state.accepted else 1):
            return None
    return AuthenticationFailed(
        f"{error.message}, {state.unanswered} times in a row: this may be its way to refuse the credential"
    )


def _end(state: _State, refusal: AuthenticationFailed | None) -> None:
    with _changed:
        state.being_tried = False
        if refusal is not None:
            pause = backoff(state.refusals + 1, first=FIRST_PAUSE, longest=LONGEST_PAUSE, jitter=False)
            state.refusals, state.accepted = state.refusals + 1, False
            state.next_try, state.message = time.monotonic() + pause, refusal.message
        _changed.notify_all()
