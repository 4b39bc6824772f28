"""The picture of the architecture, drawn from the source: rooms on their floors, and what each imports.

A room is a private folder, or a file beside them. Its floor follows from its imports: the lowest rooms import nothing
of their house. An import that other imports imply has no arrow. Only what is outside the source is recorded here.
"""

from __future__ import annotations

import ast
import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[2] / "modules/sftp/iot/sftp"
NAMESPACE = "iot.sftp."
HOUSES = {
    "module": "iot.sftp.module: does no SFTP of its own",
    "command_line": "iot.sftp.command_line",
    "client": "iot.sftp.client: knows nothing of Azure",
}
NO_ROOMS = {"__init__", "_version"}  # files that hold names only

_BOX_WIDTH, _BOX_HEIGHT, _COLUMN, _ROW, _MARGIN, _HEAD = 340, 60, 364, 92, 16, 30
_NARROW = 196  # a box outside, or of a house with one room
_WORDS, _LINES = 56, 2  # characters of a line of text, lines in a box
_COLOURS = {"module": "#e8f1fb", "command_line": "#f4effb", "client": "#eaf6ec", "outside": "#fff6e0"}
_TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z" fill="#57606a"/></marker></defs>'
)


class Room(NamedTuple):
    """A room: its house and its name. The name of a whole house is empty."""

    house: str
    name: str


# --- what the source says


@cache
def rooms(house: str) -> Mapping[str, tuple[Path, ...]]:
    """Return the rooms of a house with their files; the file that describes a room comes first."""
    found: dict[str, tuple[Path, ...]] = {}
    for place in sorted((SOURCE / house).iterdir()):
        if place.is_dir() and (place / "__init__.py").exists():
            description = place / "__init__.py"
            found[place.name] = (description, *sorted(set(place.rglob("*.py")) - {description}))
        elif place.suffix == ".py" and place.stem not in NO_ROOMS:
            found[place.stem] = (place,)
    return found


def description(house: str, room: str) -> str:
    """Return the first paragraph of a room's docstring, without its full stop; `__init__` stands for the house."""
    file = SOURCE / house / "__init__.py" if room == "__init__" else rooms(house)[room][0]
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    if not text:
        message = f"{file.relative_to(SOURCE)} needs a docstring that says what the room is for"
        raise ValueError(message)
    return " ".join(text.partition("\n\n")[0].split()).rstrip(".").replace("`", "")


@cache
def imports(house: str, room: str) -> frozenset[Room]:
    """Return the rooms that a room imports; of another house, only the house."""
    found: set[Room] = set()
    for file in rooms(house)[room]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(NAMESPACE):
                other, _, rest = str(node.module).removeprefix(NAMESPACE).partition(".")
                name = rest.partition(".")[0]
                found |= {Room(other, name if other == house else "")}
    return frozenset(found - {Room(house, room), Room(house, ""), Room(house, "_version")})


@cache
def arrows() -> frozenset[tuple[Room, Room]]:
    """Return the arrows of the picture: between rooms of a house, and between houses."""
    found: set[tuple[Room, Room]] = set()
    for house in HOUSES:
        direct = {room: {other.name for other in imports(house, room) if other.house == house} for room in rooms(house)}
        if len(_floors(house)) > 1:
            found |= {(Room(house, room), Room(house, other)) for room in direct for other in _reduced(room, direct)}
        outward = {other.house for room in rooms(house) for other in imports(house, room)} - {house}
        found |= {(Room(house, ""), Room(other, "")) for other in outward}
    return frozenset(found)


def _reduced(room: str, direct: Mapping[str, set[str]]) -> set[str]:
    """Return what a room imports, without what these import themselves."""
    return {
        other
        for other in direct[room]
        if not any(other in _reached(between, direct) for between in direct[room] - {other})
    }


def _reached(room: str, direct: Mapping[str, set[str]]) -> set[str]:
    return direct[room].union(*(_reached(other, direct) for other in direct[room]))


@cache
def _floors(house: str) -> tuple[tuple[str, ...], ...]:
    """Return the rooms floor by floor, from the top. A house without folders has one floor, and stands for itself."""
    if not any(len(files) > 1 for files in rooms(house).values()):
        return (("",),)
    direct = {room: {other.name for other in imports(house, room) if other.house == house} for room in rooms(house)}

    def height(room: str) -> int:
        return 1 + max((height(other) for other in direct[room]), default=-1)

    floors: dict[int, list[str]] = {}
    for room in direct:
        floors.setdefault(height(room), []).append(room)
    return tuple(tuple(floors[number]) for number in sorted(floors, reverse=True))


# --- where things are drawn


@dataclass(frozen=True)
class Box:
    """A rectangle in the picture."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """The middle, from left to right."""
        return self.left + self.width / 2

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.top + self.height


@cache
def _columns(house: str) -> Mapping[str, float]:
    """Return the column of each room, such that arrows are short and pass behind no box.

    All choices are compared floor by floor from the top, but none that already costs as much as the best one.
    """
    floors, best, least = _floors(house), dict[str, float](), math.inf
    width = max(map(len, floors))

    def places(floor: tuple[str, ...]) -> Iterator[dict[str, float]]:
        if len(floor) == 1:
            yield from ({floor[0]: half / 2} for half in (width - 1, *range(2 * width - 1)))
        else:
            for order in itertools.permutations(range(width), len(floor)):
                yield {room: float(column) for room, column in zip(floor, order, strict=True)}

    def descend(floor: int, columns: Mapping[str, float], so_far: float) -> None:
        nonlocal best, least
        if so_far >= least:
            return
        if floor == len(floors):
            best, least = dict(columns), so_far
            return
        for choice in places(floors[floor]):
            chosen = {**columns, **choice}
            descend(floor + 1, chosen, so_far + _cost(house, floor, chosen))

    descend(0, {}, 0.0)
    return best


def _cost(house: str, floor: int, columns: Mapping[str, float]) -> float:
    """Return what the arrows cost that end on a floor."""
    floors, total = _floors(house), 0.0
    for start, end in arrows():
        if start.house == end.house == house and end.name in floors[floor]:
            above = _floor_of(house, start.name)
            passed = (room for between in floors[above + 1 : floor] for room in between)  # in the column of its end
            behind = sum(abs(columns[end.name] - columns[room]) < 1 for room in passed)
            total += abs(columns[end.name] - columns[start.name]) + 100 * behind
    return total


def _floor_of(house: str, room: str) -> int:
    return next(number for number, floor in enumerate(_floors(house)) if room in floor)


@cache
def _ground(house: str) -> Box:
    """Return the ground that a house stands on."""
    width = max(len(floor) for floor in _floors("module") + _floors("client")) * _COLUMN + 2 * _MARGIN
    height = len(_floors(house)) * _ROW + _HEAD
    below_outside = _MARGIN + _BOX_HEIGHT + 2 * _MARGIN
    if house == "module":
        return Box(_MARGIN, below_outside, width, height)
    if house == "command_line":
        return Box(_MARGIN + width + 2 * _MARGIN, below_outside, _NARROW + 2 * _MARGIN, height)
    right = _ground("command_line").left + _ground("command_line").width
    return Box(_MARGIN, _ground("module").bottom + 2 * _MARGIN, right - _MARGIN, height)


def _box_of(room: Room) -> Box:
    if room.house == "outside":
        return _outside()[room.name]
    ground = _ground(room.house)
    if not room.name:
        return ground
    column, floor = _columns(room.house)[room.name], _floor_of(room.house, room.name)
    top = ground.top + _HEAD + floor * _ROW
    return Box(ground.left + _MARGIN + column * _COLUMN + (_COLUMN - _BOX_WIDTH) / 2, top, _BOX_WIDTH, _BOX_HEIGHT)


OUTSIDE = {
    "hub": ("Azure IoT Edge hub", "calls, the twin, messages"),
    "terminal": ("a terminal", "iot-sftp"),
    "program": ("your program", "IoTSFTPClient, SFTPSession"),
    "server": ("the SFTP server", "SSH, SFTP version 3"),
}
OUTSIDE_ARROWS = (
    (Room("outside", "hub"), Room("module", "")),
    (Room("outside", "terminal"), Room("command_line", "")),
    (Room("outside", "program"), Room("client", "")),
    (Room("client", ""), Room("outside", "server")),
)


def _outside() -> dict[str, Box]:
    module, command_line, client = (_ground(house) for house in HOUSES)
    program_top = client.top - 2 * _MARGIN - _BOX_HEIGHT
    return {
        "hub": Box(module.middle - _NARROW / 2, _MARGIN, _NARROW, _BOX_HEIGHT),
        "terminal": Box(command_line.middle - _NARROW / 2, _MARGIN, _NARROW, _BOX_HEIGHT),
        "program": Box(command_line.left + 2 * _MARGIN, program_top, _NARROW, _BOX_HEIGHT),
        "server": Box(module.middle - _NARROW / 2, client.bottom + 2 * _MARGIN, _NARROW, _BOX_HEIGHT),
    }


# --- the drawing


def drawing() -> str:
    """Return the picture as SVG."""
    client = _ground("client")
    width, height = int(client.left + client.width + _MARGIN), int(_outside()["server"].bottom + _MARGIN)
    inhabited = [(Room(house, room), _box_of(Room(house, room))) for house in HOUSES for room in _named_rooms(house)]
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#1b1f24" role="img" '
        'aria-label="The rooms of the source on their floors; an arrow leads from a room to one that it imports">'
    )
    return "\n".join([
        opening,
        _TIP,
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *map(_house, HOUSES),
        *(_arrow(start, end) for start, end in (*OUTSIDE_ARROWS, *sorted(arrows()))),
        *(line for room, box in inhabited for line in _labelled(box, f"{room.name}{_is_folder(room)}", *_text(room))),
        *(line for name, box in _outside().items() for line in _labelled(box, *OUTSIDE[name], fill="outside")),
        "</svg>",
        "",
    ])  # fmt: skip


def _named_rooms(house: str) -> list[str]:
    return [room for floor in _floors(house) for room in floor if room]


def _is_folder(room: Room) -> str:
    return "/" if (SOURCE / room.house / room.name).is_dir() else ".py"


def _text(room: Room) -> list[str]:
    lines = textwrap.wrap(description(*room), _WORDS)
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"{lines[_LINES - 1][: _WORDS - 2]} …"]
    return lines


def _house(house: str) -> str:
    ground = _ground(house)
    lines = [
        f'<rect x="{ground.left:g}" y="{ground.top:g}" width="{ground.width:g}" height="{ground.height:g}" rx="10"',
        f'fill="{_COLOURS[house]}" stroke="#d0d7de"/>',
        f'<text x="{ground.left + _MARGIN:g}" y="{ground.top + 18:g}" font-weight="600">{escape(HOUSES[house])}</text>',
    ]
    if not _named_rooms(house):
        words = textwrap.wrap(description(house, "__init__"), _WORDS * _NARROW // _BOX_WIDTH)
        for number, line in enumerate(words, 1):
            place = f'x="{ground.left + _MARGIN:g}" y="{ground.top + 18 + 16 * number:g}"'
            lines.append(f'<text {place} font-size="11" fill="#57606a">{escape(line)}</text>')
    return "\n".join(lines)


def _arrow(start: Room, end: Room) -> str:
    above, below = _box_of(start), _box_of(end)
    if start.name == end.name == "" and above.top == below.top:  # side by side
        y = above.top + above.height / 2
        points = [(above.left, y), (below.left + below.width, y)]
    elif not start.name or not end.name:  # straight down: one of the two is a house
        x = above.middle if above.width < below.width else below.middle
        x -= _NARROW / 2 if start.house == "command_line" else 0
        points = [(x, above.bottom), (x, below.top)]
    else:
        shift = (below.middle - above.middle) / 8
        x = below.middle - shift
        points = [(above.middle + shift, above.bottom), (x, below.top)]
        if below.top - above.top > _ROW:  # past other floors in the column of its end
            points.insert(1, (x, above.top + _ROW))
    way = " L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path d="M{way}" fill="none" stroke="#57606a" marker-end="url(#tip)"/>'


def _labelled(box: Box, name: str, *text: str, fill: str = "") -> Iterator[str]:
    yield (
        f'<rect x="{box.left:g}" y="{box.top:g}" width="{box.width:g}" height="{box.height:g}" rx="6" '
        f'fill="{_COLOURS.get(fill, "#ffffff")}" stroke="#8c959f"/>'
    )
    top = box.top + (26 if len(text) == 1 else 19)
    yield f'<text x="{box.middle:g}" y="{top:g}" text-anchor="middle" font-weight="600">{escape(name)}</text>'
    for number, line in enumerate(text, 1):
        place = f'x="{box.middle:g}" y="{top + 16 * number:g}" text-anchor="middle"'
        yield f'<text {place} font-size="11" fill="#57606a">{escape(line)}</text>'
