"""The pauses between attempts double up to a bound, and differ from process to process."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client._base.backoff import Backoff, backoff


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    pauses = [backoff(attempt, first=5, longest=300, jitter=False) for attempt in range(1, 9)]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]


@given(failures=st.integers(1, 10_000))
def test_jitter_takes_at_most_half_of_a_pause_away(failures: int) -> None:
    whole = backoff(failures, first=0.1, longest=30, jitter=False)
    assert whole / 2 <= Backoff(0.1, 30).after(failures) <= whole


def test_no_two_devices_wait_for_the_same_pauses() -> None:
    first, second = (list(islice(Backoff(1, 30).pauses(), 12)) for _ in range(2))
    assert first != second
    assert max(first[:2]) <= 2
    assert min(first[-3:]) >= 15
