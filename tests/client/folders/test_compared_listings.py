"""A second run over a folder looks at its destination by listings, and decides as it does file by file."""

from __future__ import annotations

import os

import pytest
from tests.folders import OLD, Way, content_of, fill, many
from tests.servers import Server

from iot.sftp.client._base.steps import Steps
from iot.sftp.client._folders.compared_listings import NAMES_FOR_EACH, WORTH_A_LISTING
from iot.sftp.client._folders.existing_files import ExistingFiles

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
