"""What becomes of each file of a folder is reported with the place where it is now."""

from __future__ import annotations

from dataclasses import replace

from tests.folders import OLD, Way, fill

from iot.sftp.client import Direction, FileOutcome, FolderOrder, IfExists, Selection

SECOND = 1_000_000_000


def outcomes_of(way: Way, **changes: object) -> list[FileOutcome]:
    """Transfer the folder; return what was reported of its files, in the order of their paths."""
    if way.download:
        order = FolderOrder(Direction.DOWNLOAD, f"{way.folder}/in", str(way.dest))
    else:
        order = FolderOrder(Direction.UPLOAD, str(way.source), f"{way.folder}/out")
    outcomes: list[FileOutcome] = []
    way.session.transfer_folder(replace(order, **changes), on_file=outcomes.append)  # type: ignore[arg-type]
    return sorted(outcomes, key=lambda outcome: outcome.path)


def arrived(way: Way, path: str) -> str:
    return str(way.dest / path) if way.download else f"{way.folder}/out/{path}"


def test_each_file_is_reported_once_with_its_size_and_its_time(way: Way) -> None:
    fill(way.source, {"a.csv": b"1", "b/c.csv": b"22"})
    first, second = outcomes_of(way, selection=Selection(recursive=True))
    assert first == FileOutcome("a.csv", way.shown("a.csv"), arrived(way, "a.csv"), 1, OLD * SECOND)
    assert (second.path, second.dest, second.size) == ("b/c.csv", arrived(way, "b/c.csv"), 2)
    assert (
        outcomes_of(way, selection=Selection(recursive=True), if_exists=IfExists.SKIP) == []
    )  # what is skipped is not


def test_a_file_with_another_name_is_reported_under_that(way: Way) -> None:
    fill(way.source, {"a.csv": b"1"})
    (first,) = outcomes_of(way, rename=lambda path: f"new-{path}")
    assert first.dest == arrived(way, "new-a.csv")
    fill(way.source, {"a.csv": b"other"}, OLD + 60)
    (second,) = outcomes_of(way, rename=lambda path: f"new-{path}", if_exists=IfExists.RENAME)
    assert second.dest == arrived(way, "new-a-1.csv")


def test_a_file_that_fails_is_reported_with_its_reason(way: Way) -> None:
    fill(way.source, {"a.csv": b"1", "b.csv": b"22"})
    (way.dest / "b.csv").mkdir(parents=True)
    first, second = outcomes_of(way)
    assert first.code is None
    assert (second.path, second.dest, second.code) == ("b.csv", arrived(way, "b.csv"), "is_a_directory")
    assert second.message
