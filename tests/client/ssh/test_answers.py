"""The future answers to requests: they make a lock only where somebody has to wait."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest

from iot.sftp.client import ConnectionLost
from iot.sftp.client._ssh.packets import Kind, Reader
from iot.sftp.client._ssh.requests import Answer, Reply

WITHIN = 30.0  # seconds: it bounds a hang
REPLY = Reply(Kind.STATUS, Reader(b""))


def test_an_answer_that_is_there_is_returned_at_once() -> None:
    answer = Answer(Kind.STAT)
    assert not answer.done()
    answer.set_result(REPLY)
    assert answer.done()
    assert answer.exception() is None
    assert answer.result() is REPLY


def test_an_error_in_its_place_is_raised() -> None:
    answer = Answer(Kind.STAT)
    answer.set_exception(ConnectionLost("gone"))
    assert isinstance(answer.exception(), ConnectionLost)
    with pytest.raises(ConnectionLost):
        answer.result()


def test_a_wait_ends_when_its_time_is_over_and_another_one_gets_the_answer() -> None:
    answer = Answer(Kind.STAT)
    for wait in (answer.result, answer.exception):
        with pytest.raises(FutureTimeoutError):
            wait(0.01)
    answer.set_result(REPLY)
    assert answer.result(0) is REPLY


def test_all_who_wait_for_an_answer_get_it_whenever_they_begin_to() -> None:
    answers = [Answer(Kind.STAT) for _ in range(500)]
    start = threading.Barrier(4)

    def wait_for_all() -> list[Reply]:
        start.wait(WITHIN)
        return [answer.result(WITHIN) for answer in answers]

    with ThreadPoolExecutor(3) as threads:
        waits = [threads.submit(wait_for_all) for _ in range(3)]
        start.wait(WITHIN)
        for answer in answers:
            answer.set_result(REPLY)
        assert all(wait.result(WITHIN) == [REPLY] * 500 for wait in waits)


def test_the_first_outcome_of_a_request_stands() -> None:
    answer = Answer(Kind.STAT)
    answer.set_result(REPLY)
    with pytest.raises(InvalidStateError):
        answer.set_exception(ConnectionLost("gone"))
    assert answer.result() is REPLY


def test_what_follows_an_answer_is_done_once_before_and_after_it(caplog: pytest.LogCaptureFixture) -> None:
    answer, done = Answer(Kind.STAT), list[str]()

    def fail(_: Future[Reply]) -> None:
        raise RuntimeError

    answer.add_done_callback(fail)
    answer.add_done_callback(lambda _: done.append("when it came"))
    answer.set_result(REPLY)
    answer.add_done_callback(lambda _: done.append("afterwards"))
    assert done == ["when it came", "afterwards"]
    assert "Internal error" in caplog.text
