"""What the documentation has from the source is what the source says now; `make reference` makes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from iot.sftp import client
from reference import CHAPTERS, HOUSES, arrows, description, drawing, error_page, imports, reference, rooms
from reference._architecture import NO_ROOMS, SOURCE, Room, _box_of

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_that_is_committed_is_current() -> None:
    assert (DOCS / "api.md").read_text() == reference(), "run: make reference"


def test_the_page_of_errors_that_is_committed_is_current() -> None:
    assert (DOCS / "errors.md").read_text() == error_page(), "run: make reference"


def test_the_picture_of_the_architecture_that_is_committed_is_current() -> None:
    assert (DOCS / "architecture.svg").read_text() == drawing(), "run: make reference"


@pytest.mark.parametrize("name", client.__all__)
def test_every_export_is_in_the_reference(name: str) -> None:
    page = reference()

    assert f"### `{name}`\n" in page or f"| `{name}` | `" in page


def test_an_export_without_a_chapter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(CHAPTERS, "Folders")

    with pytest.raises(ValueError, match="FolderTransfer"):
        reference()


def direct(house: str) -> Mapping[str, set[str]]:
    return {room: {other.name for other in imports(house, room) if other.house == house} for room in rooms(house)}


def reached(room: str, graph: Mapping[str, set[str]]) -> set[str]:
    return graph[room].union(*(reached(other, graph) for other in graph[room]))


@pytest.mark.parametrize("house", ["client", "module"])
def test_the_arrows_lead_to_what_a_room_imports_and_to_nothing_else(house: str) -> None:
    drawn = {room: {end.name for start, end in arrows() if start == Room(house, room)} for room in rooms(house)}

    assert sum(map(len, drawn.values())) > 5
    for room, others in direct(house).items():
        assert drawn[room] <= others
        assert reached(room, drawn) == reached(room, direct(house)), room


@pytest.mark.parametrize("house", ["client", "module"])
def test_every_arrow_leads_down(house: str) -> None:
    for start, end in arrows():
        if start.house == end.house == house:
            assert _box_of(start).bottom < _box_of(end).top, (start, end)


def test_the_houses_import_in_one_direction() -> None:
    between = {(start.house, end.house) for start, end in arrows() if start.house != end.house}

    assert between == {("module", "client"), ("command_line", "client"), ("command_line", "module")}


def test_every_file_of_the_source_is_in_a_room_of_the_picture() -> None:
    files = {file for house in HOUSES for file in (SOURCE / house).rglob("*.py") if file.stem not in NO_ROOMS}

    assert files <= {file for house in HOUSES for room in rooms(house) for file in rooms(house)[room]}


def test_every_room_of_the_picture_says_what_it_is_for() -> None:
    texts = [element.text or "" for element in ET.fromstring(drawing()).iter() if element.tag.endswith("text")]  # noqa: S314 - our own

    for house in ("client", "module"):
        for room in rooms(house):
            assert {f"{room}/", f"{room}.py"} & set(texts), room
            (start, *_) = re.split(r"[ ,:]", description(house, room))
            assert any(text.startswith(start) for text in texts), room
