"""Where things are: files lie in rooms, rooms have a purpose, tests lie in the same tree, a class name is one thing."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "modules/sftp/iot/sftp"
BESIDE_THE_ROOMS = {
    "client": {"__init__", "_client", "_diagnosis", "_session", "_version"},
    "module": {"__init__", "__main__", "_module"},
}
ROOMS = [
    room for house in BESIDE_THE_ROOMS for room in sorted((SOURCE / house).iterdir()) if (room / "__init__.py").exists()
]


def named(room: Path) -> str:
    return room.relative_to(SOURCE).as_posix()


@pytest.mark.parametrize("house", BESIDE_THE_ROOMS)
def test_every_file_lies_in_a_room_but_for_the_few_that_use_the_rooms(house: str) -> None:
    assert {file.stem for file in (SOURCE / house).glob("*.py")} == BESIDE_THE_ROOMS[house]


@pytest.mark.parametrize("room", ROOMS, ids=named)
def test_a_room_is_private_and_its_files_need_no_underscore(room: Path) -> None:
    assert room.name.startswith("_")
    assert not [file for file in room.rglob("*.py") if file.name.startswith("_") and file.name != "__init__.py"]


@pytest.mark.parametrize("room", ROOMS, ids=named)
def test_a_room_says_in_one_line_what_it_is_for_and_holds_nothing_else_itself(room: Path) -> None:
    tree = ast.parse((room / "__init__.py").read_text())

    assert len(tree.body) == 1
    assert len((ast.get_docstring(tree) or "").splitlines()) == 1


@pytest.mark.parametrize("room", ROOMS, ids=named)
def test_the_tests_of_a_room_are_where_the_room_is(room: Path) -> None:
    assert list((ROOT / "tests" / room.parent.name / room.name.removeprefix("_")).glob("test_*.py"))


@pytest.mark.parametrize("house", BESIDE_THE_ROOMS)
def test_a_class_name_stands_for_one_thing(house: str) -> None:
    classes = Counter(
        node.name
        for file in (SOURCE / house).rglob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
    )

    assert not {name: count for name, count in classes.items() if count > 1}
