"""A rule that fails pauses longer each time, and not longer than is of use."""

from __future__ import annotations

import pytest

from iot.sftp.client import NotFound, Unreachable
from iot.sftp.module._rules.backoff import RuleBackoff
from iot.sftp.module._rules.limits import RuleLimits

LIMITS = RuleLimits(first_pause=2.0, longest_pause=900.0)


def pauses(backoff: RuleBackoff, code: str, count: int) -> list[float]:
    """Return the pauses after so many failures in a row."""
    return [backoff.failed(code, made_progress=False) for _ in range(count)]


def test_pauses_double_up_to_the_longest_one_and_are_jittered() -> None:
    found = pauses(RuleBackoff(LIMITS, period=300.0), Unreachable.code, 12)
    for number, pause in enumerate(found):
        whole = min(900.0, 2.0 * 2**number)
        assert whole / 2 <= pause <= whole


def test_a_folder_that_does_not_exist_is_looked_for_each_period_at_least() -> None:
    found = pauses(RuleBackoff(LIMITS, period=10.0), NotFound.code, 12)
    assert max(found) <= 10.0


@pytest.mark.parametrize("made_progress", [True, False])
def test_progress_or_a_success_starts_the_pauses_again(*, made_progress: bool) -> None:
    backoff = RuleBackoff(LIMITS, period=300.0)
    pauses(backoff, Unreachable.code, 6)
    if not made_progress:
        backoff.succeeded()
    assert backoff.failed(Unreachable.code, made_progress=made_progress) <= 2.0
