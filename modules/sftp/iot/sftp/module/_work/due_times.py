"""Remember which times of `at` are done, for each rule and over restarts: what is due is done once."""

from __future__ import annotations

import json
import logging
import os
import threading
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

FILE = "rule-times.json"  # in the state directory

_log = logging.getLogger(__name__)


class DueTimes:
    """The last time that is done of each rule, in seconds since 1970; thread-safe.

    It is kept in a small file, written once for each time. Where that cannot be written, it is known until the module
    ends.
    """

    def __init__(self, directory: Path | None = None, *, guard: Callable[[], None] = lambda: None) -> None:
        """Take the directory; the file is read when it is first needed, by the thread of a rule: it may hang.

        Parameters:
            directory: the state directory; `None` keeps nothing over a restart.
            guard: raises an `SFTPError` while another module uses the directory.
        """
        self._file = None if directory is None else directory / FILE
        self._guard = guard
        self._lock = threading.Lock()
        self._done: dict[str, tuple[str, float]] | None = None  # the calendar and the time, by the rule's name
        self._rules: frozenset[str] | None = None

    def keep_only(self, rules: Iterable[str]) -> None:
        """Forget all other rules; does not block."""
        self._rules = frozenset(rules)

    def last_done(self, rule: str, calendar: str) -> float | None:
        """Return the last time of a rule that is done; `None` if it has another calendar than it had then, or none.

        Raises:
            SFTPError: another module uses the directory: it is the one that runs the rules.
        """
        with self._lock:
            if self._done is None:
                self._guard()
            known, done = self._read().get(rule, ("", 0.0))
        return done if known == calendar else None

    def note_done(self, rule: str, calendar: str, done: float) -> None:
        """Remember the last time of a rule that is done."""
        with self._lock:
            self._read()[rule] = calendar, done
            self._write()

    def _read(self) -> dict[str, tuple[str, float]]:
        if self._done is None:
            self._done = {}
            try:
                if self._file is not None:
                    content = json.loads(self._file.read_bytes())
                    self._done = {rule: (str(calendar), float(done)) for rule, (calendar, done) in content.items()}
            except FileNotFoundError:
                pass
            except (OSError, ValueError, TypeError, AttributeError) as error:
                _log.warning("the times of rules that are done are not known any more: %s", error)
        if self._rules is not None:
            for rule in self._done.keys() - self._rules:
                del self._done[rule]
        return self._done

    def _write(self) -> None:
        if self._file is None:
            return
        new = self._file.with_suffix(".new")
        try:
            self._guard()
            new.write_text(json.dumps(self._done), encoding="ascii")
            os.replace(new, self._file)
        except (OSError, SFTPError) as error:
            _log.warning("which times of rules are done is known until the module ends only: %s", error)
