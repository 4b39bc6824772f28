"""The output: text or one JSON document to standard output, a progress bar and messages to standard error."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

from iot.sftp.client import SFTPError
from iot.sftp.client._base.text import printable
from iot.sftp.module._methods.statuses import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from iot.sftp.client import Step

BAR_WIDTH = 24  # characters
MANY = 1024
TITLES = {
    "dns": "DNS",
    "proxy": "proxy",
    "jump": "jump host",
    "tcp": "TCP",
    "ssh_version": "SSH version",
    "algorithms": "algorithms",
    "host_key": "host key",
    "authentication": "authentication",
    "extensions": "extensions",
    "speed": "speed",
}


def size_in_words(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < MANY:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= MANY
    return f"{count:.1f} TiB"


def document(**content: Any) -> None:
    """Print one JSON document, in ASCII: a terminal interprets no name in it."""
    print(json.dumps(content))


def document_of_many(key: str, values: Iterable[dict[str, Any]], **more: Any) -> SFTPError | None:
    """Print one JSON document with a list, each value as it arrives; return the error that ended it early, if any."""
    failure: SFTPError | None = None
    sys.stdout.write(f"{{{json.dumps(key)}: [")
    try:
        for number, value in enumerate(values):
            sys.stdout.write(f"{',' if number else ''}\n{json.dumps(value)}")
    except SFTPError as error:
        failure = error
    end = more | (failed(failure) if failure is not None else {"ok": True})
    sys.stdout.write(f"], {json.dumps(end)[1:]}\n")
    return failure


def failed(error: SFTPError) -> dict[str, Any]:
    """Return the fields of a JSON document that describe a failure."""
    path = {} if error.path is None else {"path": error.path}
    return {"ok": False, "code": error.code, "status": STATUSES[error.code], **path, "message": error.message}


def say(message: str) -> None:
    """Print a message to standard error."""
    print(printable(message), file=sys.stderr)


def step_in_words(step: Step) -> Iterator[str]:
    """Yield the lines that show a step of a diagnosis."""
    good, bad = ("✓", "✗") if _can_be_written("✓✗") else ("ok", "FAILED")
    yield f"{good if step.passed else bad} {TITLES.get(step.name, step.name):<14}  {printable(step.found)}"
    if step.advice:
        yield f"{'':<18}{'Note' if step.passed else 'What to do'}: {printable(step.advice)}"


def _can_be_written(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


class ProgressBar:
    """The progress of a transfer in one line on a terminal; nothing if standard error is not a terminal."""

    def __init__(self, name: str, *, wanted: bool) -> None:
        """Take the file's name, and whether to show a bar."""
        self._name = printable(name)
        self._wanted = wanted and sys.stderr.isatty()
        self._started = time.monotonic()
        self._first: int | None = None  # bytes that were there before this transfer

    def update(self, done: int, total: int | None) -> None:
        """Show the number of transferred bytes, and of all bytes if that is known."""
        if self._first is None:
            self._first = done
        if not self._wanted:
            return
        rate = (done - self._first) / max(time.monotonic() - self._started, 0.001)
        part = done / total if total else 0.0
        bar = ("#" * round(part * BAR_WIDTH)).ljust(BAR_WIDTH, ".")
        figures = f" {part:4.0%} [{bar}] {size_in_words(done)} {size_in_words(rate)}/s"
        room = max(shutil.get_terminal_size().columns - len(figures) - 1, 0)
        sys.stderr.write(f"\r{self._name[:room]}{figures}\033[K")
        sys.stderr.flush()

    def close(self) -> None:
        """Clear the line."""
        if self._wanted:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
