"""How often an operation is attempted, and the exponential backoff in between."""

from __future__ import annotations

import pytest

from iot.sftp.client import Busy, ConnectionLost, SFTPError
from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import LocalBusy, ServerBusy
from iot.sftp.client._calls.retry_policy import Attempts, RetryPolicy

POLICY = RetryPolicy(attempts=3, busy_attempts=10)


@pytest.mark.parametrize(
    "error, connected, timeout, last",
    [
        (ConnectionLost, True, None, 3),  # without a deadline, the policy decides
        (ConnectionLost, True, 60.0, None),  # with one, it goes on until then
        (ConnectionLost, False, 60.0, 3),  # but for a server that lets nobody in
        (ServerBusy, False, None, 10),
        (ServerBusy, False, 60.0, None),
        (LocalBusy, True, 60.0, 3),
    ],
)
def test_the_last_attempt_depends_on_the_failure_and_the_deadline(
    error: type[SFTPError], *, connected: bool, timeout: float | None, last: int | None
) -> None:
    deadline = Deadline(timeout)
    attempts = Attempts(POLICY, were_connected=connected)
    exhausted = []
    for attempts.begun in range(1, 21):
        if attempts.are_exhausted_by(error("it failed"), deadline):
            exhausted.append(attempts.begun)
    assert exhausted == ([] if last is None else list(range(last, 21)))


def test_a_refusal_that_names_no_retry_is_none_for_the_policy() -> None:
    assert not Busy("another transfer is writing this destination").retry.is_within_call
