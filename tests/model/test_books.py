"""The books themselves: what a careless mover does is planted, and has to be found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.model.books import Books
from tests.model.clock import Clock
from tests.model.people import Partner, Producer


class Plant:
    """Two folders with their books, a producer and a partner; what moves files between them is the test."""

    def __init__(self, base: Path, then: str, *, times_are_whole: bool = False) -> None:
        for name in ("source", "dest", "archive"):
            (base / name).mkdir()
        done, archive = base / "done", base / "archive"
        self.books = Books(base / "source", base / "dest", done, archive, then, times_are_whole)
        self.producer = Producer(self.books, Clock(), base / "of the producer")
        self.partner = Partner(self.books)

    def make(self, name: str = "a.csv", way: str = "replaced", size: int = 4_000) -> None:
        self.producer.make(name, way, size, quiet=True)

    def deliver(self, content: bytes | None = None, name: str = "a.csv") -> None:
        """Put a file to its destination, with one rename."""
        part = self.books.dest / ".iot-sftp-part"
        part.write_bytes((self.books.source / name).read_bytes() if content is None else content)
        part.replace(self.books.dest / name)
        self.books.look()

    @property
    def kinds(self) -> list[str]:
        return [violation.kind for violation in self.books.violations]


@pytest.fixture(params=["keep", "delete"])
def plant(request: pytest.FixtureRequest, tmp_path: Path) -> Plant:
    return Plant(tmp_path, request.param)


def run(plant: Plant, *, delivers: bool = True, deletes: bool | None = None) -> None:
    """Move a file as it should be, or not."""
    plant.books.begin_run()
    if delivers:
        plant.deliver()
    if plant.books.then == "delete" if deletes is None else deletes:
        (plant.books.source / "a.csv").unlink()
    plant.books.end_run()


def test_a_mover_that_does_it_right_is_not_found_fault_with(plant: Plant) -> None:
    plant.make()
    run(plant)
    plant.partner.take("a.csv")
    plant.make()
    run(plant)
    plant.books.finish()
    assert plant.books.violations == []


def test_what_is_deleted_and_has_not_arrived_is_lost(plant: Plant) -> None:
    plant.make()
    run(plant, delivers=False, deletes=True)
    assert plant.kinds == ["lost"]


def test_a_source_that_is_to_stay_and_is_deleted_is_lost(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "keep")
    plant.make()
    run(plant, deletes=True)
    assert plant.kinds == ["lost"]


def test_the_file_of_another_that_looks_the_same_is_no_arrival(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "delete")
    plant.make()
    plant.partner.leave("a.csv")
    status, theirs = os.stat(plant.books.source / "a.csv"), os.stat(plant.books.dest / "a.csv")
    assert (status.st_size, int(status.st_mtime)) == (theirs.st_size, int(theirs.st_mtime))
    run(plant, delivers=False, deletes=True)
    assert plant.kinds == ["lost"]


def test_a_version_that_is_rewritten_before_it_is_deleted_is_lost(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "delete")
    plant.make()
    plant.books.begin_run()
    plant.deliver()
    plant.make(way="in place, same size and time")
    (plant.books.source / "a.csv").unlink()
    plant.books.end_run()
    assert plant.kinds == ["lost"]


def test_half_of_a_file_that_is_still_written_is_found(plant: Plant) -> None:
    plant.producer.begin("a.csv", 4_000)
    run(plant, deletes=False)
    assert plant.kinds == ["mixed or half"]
    assert "2000 of 4000 bytes" in plant.books.violations[0].words


def test_the_head_of_one_version_and_the_tail_of_another_are_found(plant: Plant) -> None:
    plant.make()
    first = (plant.books.source / "a.csv").read_bytes()
    plant.make(way="replaced, same size and time")
    second = (plant.books.source / "a.csv").read_bytes()
    plant.deliver(first[:1_600] + second[1_600:])
    assert plant.kinds == ["mixed or half"]
    assert "100 blocks of #000001, 150 blocks of #000002" in plant.books.violations[0].words


def test_what_arrives_again_is_found_also_where_the_partner_has_taken_it(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "keep")
    plant.make()
    run(plant)
    plant.partner.take("a.csv")
    run(plant)
    assert plant.kinds == ["twice"]


def test_what_arrives_again_in_the_same_bytes_over_itself_is_found(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "keep")
    plant.make()
    run(plant)
    run(plant)
    assert plant.kinds == ["twice"]


def test_what_was_taken_in_the_documented_moment_may_arrive_again(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "keep")
    plant.make()
    plant.books.begin_run()
    plant.deliver()
    plant.books.end_run(killed=True)
    plant.partner.take("a.csv")
    run(plant)
    assert plant.books.violations == []
    plant.partner.take("a.csv")
    run(plant)
    assert plant.kinds == ["twice"]


def test_what_never_arrives_and_what_stays_is_found_in_the_end(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "delete")
    plant.make()
    plant.make("b.csv")
    plant.deliver()
    plant.books.finish()
    assert plant.kinds == ["stays", "never"]


def test_an_older_version_that_arrives_after_a_newer_one_is_found(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "keep")
    plant.make()
    first = (plant.books.source / "a.csv").read_bytes()
    plant.make()
    run(plant)
    plant.deliver(first)
    plant.books.finish()
    assert plant.kinds == ["stale"]


def test_what_is_left_over_is_found(plant: Plant) -> None:
    (plant.books.dest / ".iot-sftp-0123").write_bytes(b"1")
    plant.books.finish()
    assert plant.kinds == ["left over"]


def test_what_is_moved_to_where_it_does_not_belong_is_lost(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "move")
    plant.make()
    plant.books.begin_run()
    plant.deliver()
    shutil.move(plant.books.source / "a.csv", tmp_path / "elsewhere")
    plant.books.end_run()
    assert plant.kinds == ["lost"]


def test_what_no_client_can_tell_apart_on_a_server_is_not_asked_for(tmp_path: Path) -> None:
    plant = Plant(tmp_path, "keep", times_are_whole=True)
    plant.make()
    run(plant)
    plant.make(way="replaced, same size and time")
    plant.books.finish()
    assert plant.books.violations == []
