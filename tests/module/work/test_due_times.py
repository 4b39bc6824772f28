"""What is due at a time of day is done once: remembered for each rule, over restarts, as long as its calendar stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from iot.sftp.client import PermissionDenied
from iot.sftp.module._work.due_times import FILE, DueTimes


def test_what_is_done_is_known_after_a_restart(tmp_path: Path) -> None:
    times = DueTimes(tmp_path)
    assert times.last_done("a", "daily") is None
    times.note_done("a", "daily", 5.0)
    times.note_done("b", "daily", 6.5)
    times.note_done("a", "daily", 7.0)
    again = DueTimes(tmp_path)
    assert [again.last_done(name, "daily") for name in ("a", "b", "c")] == [7.0, 6.5, None]
    assert [path.name for path in tmp_path.glob("rule-times*")] == [FILE]


def test_another_calendar_of_the_same_rule_begins_anew(tmp_path: Path) -> None:
    times = DueTimes(tmp_path)
    times.note_done("a", "daily", 5.0)
    assert times.last_done("a", "weekly") is None


@pytest.mark.parametrize("is_known_before", [True, False])
def test_a_rule_that_is_gone_is_forgotten(tmp_path: Path, *, is_known_before: bool) -> None:
    times = DueTimes(tmp_path)
    for name in ("a", "b"):
        times.note_done(name, "daily", 5.0)
    again = times if is_known_before else DueTimes(tmp_path)
    again.keep_only(["b"])
    assert [again.last_done(name, "daily") for name in ("a", "b")] == [None, 5.0]
    again.note_done("b", "daily", 6.0)
    assert DueTimes(tmp_path).last_done("a", "daily") is None


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"a": 1}', b'{"a": [1]}', b'{"a": ["x", "y"]}', b"\xff", b'"a"'])
def test_a_file_that_cannot_be_read_is_replaced(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(content)
    times = DueTimes(tmp_path)
    assert times.last_done("a", "daily") is None
    assert "are not known any more" in caplog.text
    times.note_done("a", "daily", 5.0)
    assert DueTimes(tmp_path).last_done("a", "daily") == 5.0


def test_while_another_module_uses_the_directory_nothing_is_known_or_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    DueTimes(tmp_path).note_done("a", "daily", 5.0)
    is_free = False

    def guard() -> None:
        if not is_free:
            raise PermissionDenied("it is in use by another module")

    times = DueTimes(tmp_path, guard=guard)
    with pytest.raises(PermissionDenied):
        times.last_done("a", "daily")
    is_free = True
    assert times.last_done("a", "daily") == 5.0
    is_free = False
    times.note_done("a", "daily", 6.0)
    assert times.last_done("a", "daily") == 6.0
    assert "known until the module ends only: it is in use by another module" in caplog.text
    assert DueTimes(tmp_path).last_done("a", "daily") == 5.0


def test_without_a_directory_nothing_is_written() -> None:
    times = DueTimes()
    times.note_done("a", "daily", 5.0)
    assert times.last_done("a", "daily") == 5.0
