"""The token bucket."""

from __future__ import annotations

from iot.sftp.module._base.token_bucket import TokenBucket


def test_a_burst_is_allowed_and_the_long_term_rate_is_bounded() -> None:
    now = 0.0
    bucket = TokenBucket(3, 60, clock=lambda: now)
    taken = 0
    while now < 3_600:
        if bucket.wait() == 0:
            bucket.take()
            taken += 1
        now += 1
    assert 60 <= taken <= 63
    now += 10_000
    for _ in range(3):
        assert bucket.wait() == 0
        bucket.take()
    assert 59 < bucket.wait() <= 60
