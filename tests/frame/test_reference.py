"""What the documentation has from the source is what the source says now; `make reference` makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from iot.sftp import client
from reference import ARROWS, CHAPTERS, drawing, imports, reference
from reference._architecture import HANDED_OVER, ROWS, SAYS, SOURCE

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_that_is_committed_is_current() -> None:
    assert (DOCS / "api.md").read_text() == reference(), "run: make reference"


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


def test_every_arrow_of_the_picture_is_an_import() -> None:
    inside = [arrow for arrow in ARROWS if not any(box.startswith("outside:") for box in arrow)]

    assert len(inside) > 20
    for start, end in inside:
        floor, _, name = start.partition(":")
        found = imports(floor, name)
        if floor != end.partition(":")[0]:  # another floor is known by what it exports
            assert {end, f"{end.partition(':')[0]}:"} & found, (start, end)
        else:
            assert ((start, end) in HANDED_OVER) == (end not in found), (start, end)


def test_the_library_imports_nothing_of_the_floors_above_it() -> None:
    for file in (SOURCE / "client").glob("*.py"):
        assert not {found for found in imports("client", file.stem) if not found.startswith("client:")}, file


def test_every_box_of_the_picture_is_a_file() -> None:
    boxes = set(ROWS.split()) - {"-"}

    assert boxes == set(SAYS) == {box for arrow in ARROWS for box in arrow}
    for box in boxes:
        floor, _, name = box.partition(":")
        assert floor == "outside" or (SOURCE / floor / f"{name}.py").is_file()
