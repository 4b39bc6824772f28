"""Log lines in the form of IoT Edge's own modules, one record a line, whatever is in it."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
import threading
import warnings
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.module._logging import (
    LINE_MAXIMUM,
    LineFormatter,
    configure_logging,
    log_loop_exception,
    set_level,
    shortened,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = re.compile(r"<[23467]> \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+00:00 \[(DBG|INF|WRN|ERR|FTL)\] .*")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    stream = io.StringIO()
    try:
        configure_logging("info", stream)
        yield stream
    finally:
        root.handlers[:], root.level = handlers, level
        sys.excepthook, threading.excepthook = hooks
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
    for character in ("x", "\n", "é"):
        logging.getLogger("iot.test").info(character * 200_000)
    for line in lines.getvalue().splitlines():
        assert len(line) < LINE_MAXIMUM + 100
        assert "more)" in line


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
    loop = asyncio.new_event_loop()
    log_loop_exception(loop, {"message": "task failed", "exception": error})
    log_loop_exception(loop, {"message": "no exception at all"})
    loop.close()
    found = lines.getvalue().splitlines()
    assert len(found) == 5
    assert all(LINE.fullmatch(line) for line in found)


def test_a_text_that_was_cut_says_how_much_is_missing() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcde", 3) == "abc… (2 more)"
