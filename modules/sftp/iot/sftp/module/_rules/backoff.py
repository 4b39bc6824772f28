"""Pause a rule after runs that failed: exponential backoff with jitter, for each rule by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client import NotConfigured, NotFound
from iot.sftp.client._base.backoff import backoff

if TYPE_CHECKING:
    from iot.sftp.module._rules.limits import RuleLimits

SETTINGS_PERIOD = 60.0  # seconds after which it is looked again for what only this device can know


class RuleBackoff:
    """Counts the runs of one rule that failed in a row; used by the rule's thread only."""

    def __init__(self, limits: RuleLimits, period: float) -> None:
        """Begin without failures.

        Parameters:
            limits: the first and the longest pause.
            period: seconds between two runs of the rule (`every`).
        """
        self._limits = limits
        self._period = period
        self._failures = 0

    def failed(self, code: str, *, made_progress: bool) -> float:
        """Count a run that failed, and return the seconds until the next one.

        Parameters:
            code: of the failure.
            made_progress: whether it has transferred files nevertheless: then the pauses start again from the first.
        """
        self._failures = 1 if made_progress else self._failures + 1
        longest = self._limits.longest_pause
        if code == NotFound.code:  # a folder that does not exist may be created at any time
            longest = min(longest, self._period)
        elif code == NotConfigured.code:  # a clock may be set, and settings may come, at any time
            longest = min(longest, SETTINGS_PERIOD)
        return backoff(self._failures, first=self._limits.first_pause, longest=longest)

    def succeeded(self) -> None:
        """Reset the backoff after a run that did not fail."""
        self._failures = 0
