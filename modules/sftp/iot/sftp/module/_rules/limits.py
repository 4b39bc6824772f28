"""Define the limits of rules: how soon they run, how long they pause, how often they report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RuleLimits:
    """What bounds rules; tests shorten it.

    Attributes:
        gathering: seconds between an event of the file system and the run for it: files seldom come alone.
        glance: the same for a file that was closed or renamed, if no run has begun within `gathering` before.
        first_pause: seconds after the first run that failed: see `RuleBackoff`.
        longest_pause: seconds after a run that failed, at most.
        nothing_new: seconds between two reports that only say that a rule has run again.
        look: seconds between two looks at the clock, which may be set, by a rule with a calendar.
        counts_at_once: reports of all rules that only count further, which may follow each other.
        counts_period: seconds for each further one.
    """

    gathering: float = 0.2
    glance: float = 0.01
    first_pause: float = 2.0
    longest_pause: float = 900.0
    nothing_new: float = 21_600.0
    look: float = 60.0
    counts_at_once: int = 20
    counts_period: float = 600.0


RULE_LIMITS = RuleLimits()  # of the module
