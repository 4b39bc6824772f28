"""Log lines in the form of IoT Edge's own modules, one record a line, whatever is in it."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
import threading
import warnings
from contextvars import copy_context
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client._base.text import quoted
from iot.sftp.module._base.log_suppression import REPEATED_KEPT, LogSuppression
from iot.sftp.module._base.logging import LINE_MAXIMUM, LineFormatter, about, configure_logging, set_level, subject
from iot.sftp.module._base.uncaught import log_loop_exception
from iot.sftp.module._base.wording import rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINE = re.compile(r"<[23467]> \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+00:00 \[(DBG|INF|WRN|ERR|FTL)\] .*")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    stream = io.StringIO()
    try:
        configure_logging("info", stream)
        yield stream
    finally:
        root.handlers[:], root.level = handlers, level
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(capture=False)
        logging.raiseExceptions = True
        for name in ("iot", "paramiko"):
            logging.getLogger(name).setLevel(logging.NOTSET)


def test_a_line_begins_with_the_severity_and_the_time_in_utc() -> None:
    record = logging.makeLogRecord({"msg": "text", "levelno": logging.INFO, "created": 1795449599.123, "msecs": 123.0})
    assert LineFormatter().format(record) == "<6> 2026-11-23 15:59:59.123 +00:00 [INF] text"


@pytest.mark.parametrize(
    "level, start", [("critical", "<2>"), ("error", "<3>"), ("warning", "<4>"), ("info", "<6>"), ("debug", "<7>")]
)
def test_the_severity_is_that_of_syslog(lines: io.StringIO, level: str, start: str) -> None:
    set_level("debug")
    getattr(logging.getLogger("iot.test"), level)("text")
    assert lines.getvalue().startswith(start)


@given(text=st.text(), levelno=st.integers(0, 60))
def test_any_record_is_one_line_that_can_be_printed(text: str, levelno: int) -> None:
    trace = (ValueError, ValueError(text), None)
    record = logging.makeLogRecord({"msg": "%s", "args": (text,), "levelno": levelno, "exc_info": trace})
    line = LineFormatter().format(record)
    assert LINE.fullmatch(line)
    assert line.isprintable()


def test_a_trace_is_folded_into_its_line(lines: io.StringIO) -> None:
    def fail() -> None:
        raise RuntimeError("first\nsecond")

    try:
        fail()
    except RuntimeError:
        logging.getLogger("iot.test").exception("it failed")
    (line,) = lines.getvalue().splitlines()
    assert LINE.fullmatch(line)
    assert "it failed" in line
    assert "Traceback" in line
    assert r"RuntimeError: first\nsecond" in line


def test_a_line_is_shorter_than_what_container_engines_cut(lines: io.StringIO) -> None:
    for character in ("x", "\n", "é", "漢", "\N{GRINNING FACE}"):
        logging.getLogger("iot.test").info(character * 200_000)
    for line in lines.getvalue().splitlines():
        assert LINE_MAXIMUM < len(line.encode()) < LINE_MAXIMUM + 100
        assert "more)" in line or "... (cut)" in line


def test_a_record_that_cannot_be_formatted_is_still_a_line(lines: io.StringIO) -> None:
    logging.getLogger("iot.test").info("%d", "no number")
    assert "cannot be formatted" in lines.getvalue()


def test_what_the_output_cannot_encode_is_escaped(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    logging.getLogger("iot.test").info("grüße 漢")
    assert r"gr\xfc\xdfe \u6f22" in lines.getvalue()


def test_the_level_changes_at_once_and_only_for_our_own_records(lines: io.StringIO) -> None:
    set_level("error")
    logging.getLogger("iot.test").warning("hidden")
    set_level("debug")
    logging.getLogger("iot.test").debug("shown")
    # the SDK's debug records hold whole twins, and with them passwords
    logging.getLogger("azure.iot.device").info("hidden")
    logging.getLogger("paho").debug("hidden")
    logging.getLogger("urllib3").debug("hidden")
    assert [line.rpartition(" ")[2] for line in lines.getvalue().splitlines()] == ["shown"]
    set_level("error")
    logging.getLogger("azure.iot.device").warning("hidden")
    assert len(lines.getvalue().splitlines()) == 1


def test_paramikos_traces_do_not_appear_because_the_failure_is_reported_by_its_name(lines: io.StringIO) -> None:
    set_level("debug")
    logging.getLogger("paramiko.transport").error("Exception (client): ...")
    logging.getLogger("paramiko.transport").error("Traceback (most recent call last):")
    logging.getLogger("paramiko.transport").info("Connected (version 2.0)")
    assert lines.getvalue().count("\n") == 1


def test_warnings_uncaught_exceptions_and_the_event_loops_complaints_are_lines(lines: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old\nthing", stacklevel=1)
    error = RuntimeError("lost")
    sys.excepthook(RuntimeError, error, None)

    def fail() -> None:
        raise RuntimeError("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

    class Fails:
        def __del__(self) -> None:
            raise RuntimeError("when it was collected")

        def __repr__(self) -> str:
            raise RuntimeError("half gone")

    Fails()
    loop = asyncio.new_event_loop()
    log_loop_exception(loop, {"message": "task failed", "exception": error})
    log_loop_exception(loop, {"message": "no exception at all"})
    loop.close()
    found = lines.getvalue().splitlines()
    assert len(found) == 6
    assert all(LINE.fullmatch(line) for line in found)


def test_a_path_is_shown_printable_and_not_too_long() -> None:
    assert quoted("a\nb\x1b") == r"'a\nb\x1b'"
    assert len(quoted("x" * 1_000)) < 230


@pytest.mark.parametrize(
    "size, seconds, words",
    [
        (0, 0, "0 B/s"),
        (10, 1, "10 B/s"),
        (21_800_000, 2, "10.9 MB/s"),
        (10**13, 1, "1e+04 GB/s"),
        (1_500, 1, "1.5 kB/s"),
    ],
)
def test_a_rate_has_a_unit_that_fits(size: int, seconds: float, words: str) -> None:
    assert rate(size, seconds) == words


# --- on whose behalf -------------------------------------------------------------------------------------------------


def texts(lines: io.StringIO) -> list[str]:
    return [line.partition("] ")[2] for line in lines.getvalue().splitlines()]


def test_what_is_logged_for_a_call_begins_with_its_name_and_nothing_else_does(lines: io.StringIO) -> None:
    ours, clients = logging.getLogger("iot.test"), logging.getLogger("iot.sftp.client._session")
    with subject("call 3fa2c1 exists"):
        ours.info("begun")
        with subject("task 3f0c8a4b upload_file"):
            clients.info("trying again")
        ours.info("ended")
    ours.info("nobody's")
    assert texts(lines) == [
        "call 3fa2c1 exists: begun",
        "task 3f0c8a4b upload_file: trying again",
        "call 3fa2c1 exists: ended",
        "nobody's",
    ]


def test_two_threads_at_once_keep_their_names_apart_and_hand_them_on(lines: io.StringIO) -> None:
    together = threading.Barrier(2)

    def work(name: str) -> None:
        with subject(name):
            together.wait(60)
            inner = threading.Thread(target=copy_context().run, args=(logging.getLogger("iot.test").info, name))
            inner.start()
            inner.join()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("call 1", "call 2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts(lines)) == ["call 1: call 1", "call 2: call 2"]


def test_another_librarys_line_names_it(lines: io.StringIO) -> None:
    logging.getLogger("azure.iot.device.x").warning("trouble")
    set_level("debug")
    logging.getLogger("iot.sftp.client.ssh").debug("userauth is OK")
    assert texts(lines) == ["azure.iot.device.x: trouble", "paramiko: userauth is OK"]


def test_a_connection_that_the_sdk_saw_breaking_is_one_line_and_no_warning(lines: io.StringIO) -> None:
    sdk = logging.getLogger("azure.iot.device.common.handle_exceptions")
    for reason in ("ConnectionDroppedError: Unexpected disconnection\n", "ValueError: a bug\n"):
        sdk.warning(msg="Exception caught in background thread.  Unable to handle.")
        sdk.warning([f"azure.{reason}"])
    found = [line.partition("[")[2] for line in lines.getvalue().splitlines()]
    assert found == [
        f"INF] {sdk.name}: azure.ConnectionDroppedError: Unexpected disconnection",
        f"WRN] {sdk.name}: azure.ValueError: a bug",
    ]
    sdk.warning(["azure.ConnectionDroppedError: Unexpected disconnection\n"])
    assert len(lines.getvalue().splitlines()) == 2  # counted, as the SDK retries without end
    set_level("warning")
    sdk.warning(["azure.ConnectionFailedError\n"])
    assert len(lines.getvalue().splitlines()) == 2


# --- the same failure again ------------------------------------------------------------------------------------------


class Minutes:
    """A log with a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.repeats = LogSuppression(interval=5, clock=lambda: self.now)
        self.told: list[str] = []

    def log(self, message: str, *args: object, level: int = logging.WARNING, thing: str | None = None) -> Sequence[str]:
        """Log a record; return what was told because of it."""
        given = {"name": "iot.test", "msg": message, "args": args, "levelno": level}
        record = logging.makeLogRecord(given | ({} if thing is None else about(thing)))
        told = [line.getMessage() for line in self.repeats.take(record)]
        self.told += told
        return told

    def fail(self, reason: str = "refused", thing: str = "rule a", pause: float = 1.0) -> Sequence[str]:
        return self.log("next try in %.1f s: %s", pause, reason, thing=thing)


def test_the_same_failure_is_told_once_and_then_how_often_it_came() -> None:
    log = Minutes()
    assert log.fail(pause=1) == ["next try in 1.0 s: refused"]
    for pause in (2, 4, 8):
        log.now += 60 / 3
        log.repeats._interval = 300
        assert log.fail(pause=pause) == []
    log.now += 300
    assert log.fail(pause=16) == ["… 3 more times in 6 min: next try in 8.0 s: refused", "next try in 16.0 s: refused"]


def test_what_was_counted_is_told_before_whatever_comes_after_its_time() -> None:
    log = Minutes()
    log.fail()
    log.fail()
    log.now = 4.9
    assert log.log("something else", level=logging.INFO) == ["something else"]
    log.now = 5
    told = log.log("something else", level=logging.INFO)
    assert told == ["… once more in 5 s: next try in 1.0 s: refused", "something else"]
    assert log.log("something else", level=logging.INFO) == ["something else"]


def test_a_failure_of_another_thing_or_for_another_reason_is_another_failure() -> None:
    log = Minutes()
    assert log.fail("refused", "rule a")
    assert log.fail("refused", "rule b")
    assert log.fail("no route", "rule a")
    assert not log.fail("refused", "rule a")


def test_the_quantities_in_a_reason_make_no_other_failure_and_names_do() -> None:
    log = Minutes()
    assert log.fail("no answer in 3 s, 15 bytes left")
    assert not log.fail("no answer in 12.5 s, 9 bytes left")
    assert log.fail("'file1.csv' is not there")
    assert log.fail("'file2.csv' is not there")


def test_recovery_tells_what_was_counted_and_the_next_failure_is_new() -> None:
    log = Minutes()
    log.fail(thing="rule a")
    log.fail(thing="rule a")
    log.fail(thing="rule b")
    log.now = 2
    assert log.log("all is well again", level=logging.INFO, thing="rule a") == [
        "… once more in 2 s: next try in 1.0 s: refused",
        "all is well again",
    ]
    assert log.fail(thing="rule a")
    assert not log.fail(thing="rule b")


def test_at_the_end_what_was_counted_is_told() -> None:
    log = Minutes()
    for _ in range(3):
        log.fail()
    assert [line.getMessage() for line in log.repeats.rest()] == ["… 2 more times in 0 s: next try in 1.0 s: refused"]
    assert log.repeats.rest() == []


def test_what_is_no_failure_is_never_held_back() -> None:
    log = Minutes()
    for _ in range(3):
        assert log.log("files sent: %s", "a", level=logging.INFO) == ["files sent: a"]


def test_any_number_of_different_failures_is_told_in_bounded_memory() -> None:
    log = Minutes()
    log.fail("the first")
    log.fail("the first")
    for number in range(3 * REPEATED_KEPT):
        assert f"next try in 1.0 s: '{number}'" in log.fail(f"'{number}'")
    assert len(log.repeats._logged) == REPEATED_KEPT
    assert len([text for text in log.told if "once more" in text]) == 1


def test_a_failure_that_cannot_be_formatted_is_a_line_of_its_own(lines: io.StringIO) -> None:
    for _ in range(2):
        logging.getLogger("iot.test").warning("%d", "no number")
    assert len(lines.getvalue().splitlines()) == 1


def test_calls_that_fail_alike_are_told_once_though_each_has_an_id(lines: io.StringIO) -> None:
    for call_id in ("3fa2c1", "99e0b4", "07c55d"):
        with subject(f"call {call_id} exists", "exists"):
            logging.getLogger("iot.test").warning("%s (%.3f s)", "503 unreachable", 0.1, extra=about("exists 'x'"))
    with subject("call 000000 exists", "exists"):
        logging.getLogger("iot.test").info("200", extra=about("exists 'x'"))
    assert texts(lines) == [
        "call 3fa2c1 exists: 503 unreachable (0.100 s)",
        "exists 'x': … 2 more times in 0 s: 503 unreachable (0.100 s)",
        "call 000000 exists: 200",
    ]
