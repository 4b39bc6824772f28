"""The books of logs: what a careless reader of logs does is planted, and has to be found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.model.clock import Clock
from tests.model.log_books import LOG, ROTATED, LogBooks, Logger


class Plant:
    """A folder with a log and its destination; what moves bytes between them is the test."""

    def __init__(self, base: Path, *, lines: bool = False) -> None:
        for name in ("source", "dest"):
            (base / name).mkdir()
        self.books = LogBooks(base / "source", base / "dest", (LOG, *ROTATED), lines)
        self.logger = Logger(self.books, Clock())

    def written(self, name: str = LOG) -> bytes:
        return (self.books.source / name).read_bytes()

    def deliver(self, content: bytes, name: str = LOG) -> None:
        (self.books.dest / name).write_bytes(content)
        self.books.look()

    @property
    def kinds(self) -> list[str]:
        return [violation.kind for violation in self.books.violations]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_one_that_keeps_up_is_not_found_fault_with(plant: Plant) -> None:
    for way in ("renamed", "copied and cut", "renamed"):
        plant.logger.write(4_000)
        plant.books.begin_run()
        plant.deliver(plant.written()[:1_000])
        plant.deliver(plant.written())
        plant.books.end_run()
        plant.logger.rotate(way)
    plant.books.begin_run()
    for name in sorted(plant.books.there, reverse=True):
        plant.deliver(plant.written(name), name)
    (plant.books.dest / LOG).unlink()
    plant.books.finish()
    assert plant.books.violations == []


def _skips(content: bytes) -> bytes:
    return content[:100] + content[116:]


def _repeats(content: bytes) -> bytes:
    return content[:200] + content[184:]


def _leaves_a_gap(content: bytes) -> bytes:
    return content[:160] + bytes(16) + content[176:]


@pytest.mark.parametrize("spoils", [_skips, _repeats, _leaves_a_gap])
def test_bytes_that_are_left_out_repeated_or_blank_are_found(plant: Plant, spoils: Callable[[bytes], bytes]) -> None:
    plant.logger.write(4_000)
    plant.deliver(spoils(plant.written()))
    assert plant.kinds == ["mixed"]


def test_the_beginning_of_one_log_and_the_end_of_another_are_found(plant: Plant) -> None:
    plant.logger.write(4_000)
    first = plant.written()
    plant.logger.rotate("rewritten")
    plant.logger.write(8_000)
    plant.deliver(first[:1_000] + plant.written()[1_000:])
    assert plant.kinds == ["mixed"]


def test_a_log_that_becomes_shorter_is_found(plant: Plant) -> None:
    plant.logger.write(4_000)
    plant.deliver(plant.written())
    plant.deliver(plant.written()[:500])
    assert plant.kinds == ["shrunk"]


def test_a_rotated_log_that_makes_way_before_it_is_complete_is_found(plant: Plant) -> None:
    plant.logger.write(4_000)
    plant.deliver(plant.written())
    plant.logger.write(16)
    plant.logger.rotate("renamed")
    plant.logger.write(4_000)
    plant.books.begin_run()
    plant.deliver(plant.written())
    assert plant.kinds == ["unfinished"]


def test_what_never_arrives_and_what_is_left_over_is_found(plant: Plant) -> None:
    plant.logger.write(4_000)
    plant.deliver(plant.written()[:-1])
    (plant.books.dest / ".iot-sftp-0123").write_bytes(b"1")
    assert not plant.books.is_quiet()
    plant.books.finish()
    assert plant.kinds == ["never", "left over"]


def test_a_line_without_its_end_is_not_waited_for_where_whole_lines_are_asked_for(tmp_path: Path) -> None:
    plant = Plant(tmp_path, lines=True)
    plant.logger.write(4_000)
    content = plant.written()
    assert not content.endswith(b"\n")
    plant.deliver(content[: content.rfind(b"\n") + 1])
    plant.books.finish()
    assert plant.books.violations == []
    assert os.listdir(plant.books.dest) == [LOG]
