"""A second run over a folder looks at its destination by listings, and decides as it does file by file."""

from __future__ import annotations

import os

import pytest
from tests.folders import OLD, Way, content_of, fill, many
from tests.servers import Server

from iot.sftp.client._base.memory import Budget
from iot.sftp.client._base.steps import Steps
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._folders import findings, skipped_names
from iot.sftp.client._folders.compared_listings import NAMES_FOR_EACH, WORTH_A_LISTING
from iot.sftp.client._folders.existing_files import ExistingFiles
from iot.sftp.client._folders.folder_page import FolderPage, FoundFile

FILES = {f"{directory}{name}": content for directory in ("", "sub/") for name, content in many(WORTH_A_LISTING).items()}


@pytest.fixture(params=["openssh", "proftpd"])
def server(request: pytest.FixtureRequest) -> Server:
    running: Server = request.getfixturevalue(f"{request.param}_server")
    return running


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Record the files that are looked at one by one."""
    paths = set[str]()
    look = ExistingFiles.target_of

    def record(self: ExistingFiles, remote: object, found: object) -> Steps[str | None]:
        paths.add(found.path)  # type: ignore[attr-defined] # it is a FoundFile
        return (yield from look(self, remote, found))  # type: ignore[arg-type]

    monkeypatch.setattr(ExistingFiles, "target_of", record)
    return paths


def test_what_is_there_is_not_looked_at_file_by_file(way: Way, looked_at: set[str]) -> None:
    fill(way.source, FILES)
    fill(way.dest, FILES)
    done = way.transfer(if_exists="skip_same", recursive=True)
    assert (done.skipped, done.files, done.total_files) == (len(FILES), 0, len(FILES))
    assert looked_at == set()


@pytest.mark.parametrize("if_exists", ["skip", "skip_same"])
def test_what_a_listing_leaves_in_doubt_is_looked_at(way: Way, looked_at: set[str], if_exists: str) -> None:
    fill(way.source, FILES)
    fill(way.dest, FILES)
    longer, later, missing, link = sorted(FILES)[:4]
    fill(way.dest, {longer: b"longer" * 100})
    os.utime(way.dest / later, (OLD, OLD + 1))
    (way.dest / missing).unlink()
    (way.dest / link).rename(way.dest / "elsewhere")
    (way.dest / link).symlink_to(way.dest / "elsewhere")
    before = content_of(way.dest)
    done = way.transfer(if_exists=if_exists, recursive=True)
    replaced = {longer, later, missing} if if_exists == "skip_same" else {missing}
    assert (done.files, done.skipped) == (len(replaced), len(FILES) - len(replaced))
    assert content_of(way.dest) == before | {path: FILES[path] for path in replaced}
    assert looked_at == replaced | {link}


def test_a_destination_that_holds_much_else_is_not_listed_to_its_end(way: Way, looked_at: set[str]) -> None:
    fill(way.source, {name: b"x" for name in FILES if "/" not in name})
    fill(way.dest, dict.fromkeys((f"other-{n}" for n in range(NAMES_FOR_EACH * WORTH_A_LISTING)), b""))
    assert way.transfer(if_exists="skip_same").files == WORTH_A_LISTING
    assert len(looked_at) == WORTH_A_LISTING


def test_a_destination_that_is_not_there_is_no_failure(way: Way) -> None:
    fill(way.source, FILES)
    done = way.transfer(if_exists="skip_same", recursive=True)
    assert (done.files, done.failed) == (len(FILES), 0)
    assert content_of(way.dest) == FILES


def test_proof_is_not_replaced_by_a_listing(way: Way, looked_at: set[str]) -> None:
    # No command is requested for each of them either: ProFTPD ends a connection in which it has refused some twenty
    fill(way.source, FILES)
    fill(way.dest, {name: bytes(len(content)) for name, content in FILES.items()})
    done = way.transfer(if_exists="skip_same", recursive=True, verify_existing=True)
    assert (done.files, done.skipped) == (len(FILES), 0)
    assert content_of(way.dest) == FILES
    assert looked_at == set(FILES)


@pytest.mark.parametrize("at_once", [0, 1_000_000])
def test_a_directory_of_many_files_is_compared_when_it_is_on_the_page(
    way: Way, looked_at: set[str], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(findings, "MOST_COMPARED", at_once)
    fill(way.source, FILES)
    fill(way.dest, FILES)
    (way.dest / min(FILES)).unlink()
    done = way.transfer(if_exists="skip_same", recursive=True)
    assert (done.skipped, done.files, done.total_files) == (len(FILES) - 1, 1, len(FILES))
    assert looked_at == {min(FILES)}


def test_what_is_too_young_is_not_counted_as_skipped(way: Way) -> None:
    fill(way.source, FILES)
    fill(way.dest, FILES)
    young = min(FILES)
    for folder in (way.source, way.dest):
        os.utime(folder / young)
    done = way.transfer(if_exists="skip_same", recursive=True, min_age=1_000)
    assert (done.skipped, done.young, done.total_files) == (len(FILES) - 1, 1, len(FILES) - 1)


@pytest.mark.parametrize("most", [1, 100])
def test_a_page_ends_when_it_has_skipped_many_and_each_file_is_counted_once(
    way: Way, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Else a link that breaks now and then would have a folder without end compared again from its beginning."""
    monkeypatch.setattr(skipped_names, "MOST_SKIPPED", most)
    files = {f"{directory:02}/{name}": content for directory in range(40) for name, content in FILES.items()}
    fill(way.source, files)
    fill(way.dest, files)
    done = way.transfer(if_exists="skip_same", recursive=True)
    assert (done.skipped, done.files, done.total_files) == (len(files), 0, len(files))


def test_a_page_that_ends_amid_what_was_skipped_leaves_the_rest_to_the_next_one() -> None:
    def is_found(number: int, directory: str = "b") -> FoundFile:
        return FoundFile(f"{directory}/{number:02}", FileVersion(1))

    page = FolderPage(Budget())
    for directory in ("a", "b", "c"):
        files = [is_found(number, directory) for number in range(10)]
        page.skip(directory, files, files)
    page.bound = 0, "b\0" + "04"
    number, alike = page.skipped()
    assert number == len(alike) == 14
    assert alike[-1] == is_found(3)
    page.bound = None
    assert page.skipped()[0] == 30
