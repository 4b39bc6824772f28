"""Run the checks against a server, each within a limit of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tests.interop.directory_checks
import tests.interop.growth_checks  # noqa: F401 - both add their checks
from tests.interop import processes
from tests.interop.checks import CHECKS, OTHER_BYTES, Check, Skipped, Target
from tests.interop.kinds import Kind
from tests.interop.peers import PeerFailed, reason

from iot.sftp.client import SFTPError

LIMIT = 150.0  # seconds for one check
PASSED, FAILED, CANNOT, DECLINED, SKIPPED = "passed", "failed", "cannot", "declined", "skipped"
# What the contract says of servers that refuse every rename: a file that is there is not overwritten in place.
NEVER_IN_PLACE = "renaming was refused", "not overwritten in place"


@dataclass
class Outcome:
    """How one check went.

    Attributes:
        check: its name.
        status: `passed`; `failed`; `cannot` if OpenSSH's `sftp` cannot do it either; `declined` if we could only do it
            in a way that could destroy the old file; `skipped` if it was not made.
        reason: why it did not pass.
        peer: what OpenSSH's `sftp` did or said, where we failed.
        notes: what else was seen.
        seconds: how long it took.
    """

    check: str
    status: str
    reason: str = ""
    peer: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON has."""
        return asdict(self)


@contextmanager
def running(kind: Kind, base: Path) -> Iterator[Target]:
    """Start a server, and give it as a target."""
    place, scratch = base / "server", base / "scratch"
    place.mkdir()
    scratch.mkdir()
    try:
        with kind.start(place) as server:
            yield Target(kind, server, scratch)
    finally:
        processes.end_all_of(base)


def run(check: Check, target: Target) -> Outcome:
    """Make one check; ask OpenSSH's `sftp` where it fails."""
    started = time.monotonic()
    target.begin(check.name)
    error = _within(LIMIT, check.ours, target)
    outcome = Outcome(check.name, PASSED, notes=list(target.notes))
    if isinstance(error, Skipped):
        outcome.status, outcome.reason = SKIPPED, str(error)
    elif error is not None:
        outcome.status, outcome.reason = FAILED, _words(error, target)
        if isinstance(error, SFTPError) and any(words in outcome.reason for words in NEVER_IN_PLACE):
            outcome.status = DECLINED
        if check.theirs:
            target.begin(f"peer-{check.name}")
            peer = _within(LIMIT, check.theirs, target)
            strict = target.kind.strict or (check.strict and not target.kind.refusing)
            strict = strict and check.name not in target.kind.excused
            excused = not (strict or outcome.reason.startswith(OTHER_BYTES))
            if isinstance(peer, PeerFailed) and excused:
                outcome.status = CANNOT
            outcome.peer = "does it" if peer is None else _words(peer, target)
    outcome.seconds = round(time.monotonic() - started, 2)
    return outcome


def _within(limit: float, work: Any, target: Target) -> BaseException | None:
    """Do something in a thread, and return how it failed; what does not end is left behind, without other clients."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            work(target)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the check found
            raised.append(error)

    thread = threading.Thread(target=guarded, name=f"check {target.folder}", daemon=True)
    thread.start()
    thread.join(limit)
    if thread.is_alive():
        processes.end_all_of(target.openssh.askpass)
        return TimeoutError(f"not done after {limit:g} s")
    return raised[0] if raised else None


def _words(error: BaseException, target: Target) -> str:
    """Return what an error says, without the paths of this run."""
    code = getattr(error, "code", "")
    text = str(error).strip() or type(error).__name__
    if isinstance(error, PeerFailed):
        text = reason(text)
    elif not isinstance(error, AssertionError):
        text = f"{code or type(error).__name__}: {text}"
    for path in (target.local(""), target.on_disk(""), target.scratch, target.server.directory, target.folder):
        text = text.replace(f"{path}/", "").replace(str(path), ".")
    return text.splitlines()[0][:400]


def chosen(names: list[str]) -> list[Check]:
    """Return the checks of these names, all of them for none."""
    return [check for check in CHECKS if not names or check.name in names]
