"""The picture of the architecture, drawn from a description in text whose arrows are held to the imports of the source.

A line of `ROWS` is one row of boxes, from the top to the bottom. A word is a file of the floor, `-` an empty place.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[2] / "modules/sftp/iot/sftp"

ROWS = """
outside:hub            -                     -                      outside:program    outside:terminal
module:_hub            module:_twin          -                      -                  command_line:_main
module:_dispatch       module:_configuration module:_watching       -                  -
module:_methods        module:_tasks         module:_rules          -                  command_line:_commands
module:_local_files    module:_transfers     module:_current_session -                 -
client:_local_files    client:_listing       client:_session        client:_client     -
client:_operations     client:_download      client:_upload         client:_directions client:_folders
client:_replace        client:_transfer      client:_verify         client:_unfinished -
client:_host_keys      client:_remote_files  client:_channel        -                  -
client:_credentials    client:_connection    client:_paramiko       -                  -
-                      -                     outside:server         -                  -
"""

SAYS = {
    "outside:hub": ("IoT Hub, edge hub", "methods, twin, messages"),
    "outside:program": ("a Python program", "on the device"),
    "outside:terminal": ("a person", "at a terminal"),
    "outside:server": ("SFTP server", "SSH, checked and encrypted"),
    "module:_hub": ("_hub", "receive, answer, report"),
    "module:_twin": ("_twin", "reads desired properties"),
    "module:_dispatch": ("_dispatch", "each call by its deadline"),
    "module:_configuration": ("_configuration", "puts them in force"),
    "module:_watching": ("_watching", "events of folders"),
    "module:_methods": ("_methods", "the table of methods"),
    "module:_tasks": ("_tasks", "work that outlives a call"),
    "module:_rules": ("_rules", "standing orders"),
    "module:_local_files": ("_local_files", "the local root, no way out"),
    "module:_transfers": ("_transfers", "one transfer or folder"),
    "module:_current_session": ("_current_session", "the session in force"),
    "command_line:_main": ("_main", "iot-sftp"),
    "command_line:_commands": ("_commands", "ls get put mv rm stat"),
    "client:_local_files": ("_local_files", "openat, renameat"),
    "client:_listing": ("_listing", "page by page"),
    "client:_session": ("_session", "reconnect, repeat, limits"),
    "client:_client": ("_client", "IoTSFTPClient"),
    "client:_operations": ("_operations", "exists, delete, move"),
    "client:_download": ("_download", "one whole file"),
    "client:_upload": ("_upload", "one whole file"),
    "client:_directions": ("_directions", "folders, down and up"),
    "client:_folders": ("_folders", "many files at once"),
    "client:_replace": ("_replace", "old or new, never half"),
    "client:_transfer": ("_transfer", "windows of requests"),
    "client:_verify": ("_verify", "the hash of all bytes"),
    "client:_unfinished": ("_unfinished", "goes on where it was"),
    "client:_host_keys": ("_host_keys", "pinned, known, refused"),
    "client:_remote_files": ("_remote_files", "SFTP version 3"),
    "client:_channel": ("_channel", "requests in flight"),
    "client:_credentials": ("_credentials", "passwords, keys"),
    "client:_connection": ("_connection", "pysftp's, made safe"),
    "client:_paramiko": ("_paramiko", "SSH, with fewer copies"),
}

ARROWS = (
    ("outside:hub", "module:_hub"),
    ("outside:program", "client:_client"),
    ("outside:terminal", "command_line:_main"),
    ("module:_hub", "module:_dispatch"),
    ("module:_hub", "module:_twin"),
    ("module:_configuration", "module:_twin"),
    ("module:_dispatch", "module:_methods"),
    ("module:_dispatch", "module:_tasks"),
    ("module:_methods", "module:_transfers"),
    ("module:_tasks", "module:_transfers"),
    ("module:_rules", "module:_watching"),
    ("module:_rules", "module:_current_session"),
    ("module:_transfers", "module:_current_session"),
    ("module:_current_session", "client:_session"),
    ("module:_local_files", "client:_local_files"),
    ("command_line:_main", "command_line:_commands"),
    ("command_line:_commands", "client:_session"),
    ("client:_client", "client:_session"),
    ("client:_session", "client:_listing"),
    ("client:_session", "client:_operations"),
    ("client:_session", "client:_download"),
    ("client:_session", "client:_upload"),
    ("client:_session", "client:_directions"),
    ("client:_directions", "client:_folders"),
    ("client:_operations", "client:_replace"),
    ("client:_download", "client:_replace"),
    ("client:_download", "client:_transfer"),
    ("client:_download", "client:_verify"),
    ("client:_upload", "client:_transfer"),
    ("client:_upload", "client:_verify"),
    ("client:_upload", "client:_unfinished"),
    ("client:_transfer", "client:_remote_files"),
    ("client:_replace", "client:_remote_files"),
    ("client:_transfer", "client:_channel"),
    ("client:_verify", "client:_channel"),
    ("client:_remote_files", "client:_connection"),
    ("client:_connection", "client:_host_keys"),
    ("client:_connection", "client:_credentials"),
    ("client:_connection", "client:_paramiko"),
    ("client:_channel", "client:_paramiko"),
    ("client:_paramiko", "outside:server"),
)

HANDED_OVER = frozenset({
    ("module:_hub", "module:_dispatch"),
    ("module:_hub", "module:_twin"),
    ("module:_tasks", "module:_transfers"),
})  # fmt: skip
"""Arrows that are no imports: parts that `_module` puts together, each knowing nothing of the other."""

_BOX_WIDTH, _BOX_HEIGHT, _COLUMN, _ROW, _MARGIN, _TOP = 164, 42, 190, 74, 34, 16
_TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z" fill="#57606a"/></marker></defs>'
)
_COLOURS = {"module": "#e8f1fb", "command_line": "#f4effb", "client": "#eaf6ec", "outside": "#fff6e0"}


class _Place(NamedTuple):
    """Where a box is, in rows and columns."""

    row: int
    column: int

    @property
    def left(self) -> int:
        return _MARGIN + self.column * _COLUMN

    @property
    def top(self) -> int:
        return _TOP + self.row * _ROW

    @property
    def middle(self) -> int:
        return self.left + _BOX_WIDTH // 2


class _Floor(NamedTuple):
    """The ground that a floor's boxes stand on: from the first place to the last one."""

    name: str
    title: str
    indent: int
    first: _Place
    last: _Place


_FLOORS = (
    _Floor("module", "the module: does no SFTP of its own", 166, _Place(1, 0), _Place(4, 2)),
    _Floor("command_line", "command line", 10, _Place(1, 4), _Place(4, 4)),
    _Floor("client", "the library: knows nothing of Azure", 166, _Place(5, 0), _Place(9, 4)),
)


def imports(floor: str, name: str) -> set[str]:
    """Return what a file imports of our own: `client:_session`, or `client:` for the library as others see it."""
    tree = ast.parse((SOURCE / floor / f"{name}.py").read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("iot.sftp."):
            package, _, file = node.module.removeprefix("iot.sftp.").partition(".")
            found |= {f"{package}:{file}"} if file else {f"{package}:{alias.name}" for alias in node.names}
            found.add(f"{package}:")
    return found


def drawing() -> str:
    """Return the picture as SVG."""
    rows = [line.split() for line in ROWS.strip().splitlines()]
    places = {
        box: _Place(row, column) for row, boxes in enumerate(rows) for column, box in enumerate(boxes) if box != "-"
    }
    width = 2 * _MARGIN + 4 * _COLUMN + _BOX_WIDTH
    height = _TOP + len(rows) * _ROW
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#1b1f24" role="img" '
        'aria-label="The parts of the project and the way of a call through them">'
    )
    return "\n".join([
        opening,
        _TIP,
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *map(_floor, _FLOORS),
        *(_arrow(places[start], places[end]) for start, end in ARROWS),
        *(part for box, place in places.items() for part in _box(box, place)),
        "</svg>",
        "",
    ])  # fmt: skip


def _floor(floor: _Floor) -> str:
    end = floor.last
    left, top = floor.first.left - 14, floor.first.top - 22
    right, bottom = end.left + _BOX_WIDTH + 14, end.top + _BOX_HEIGHT + 8
    return (
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="10" '
        f'fill="{_COLOURS[floor.name]}" stroke="#d0d7de"/>'
        f'<text x="{left + floor.indent}" y="{top + 15}" font-size="11" fill="#57606a">{escape(floor.title)}</text>'
    )


def _arrow(start: _Place, end: _Place) -> str:
    if start.row == end.row:
        rightwards = end.column > start.column
        x1, x2 = (start.left + _BOX_WIDTH, end.left) if rightwards else (start.left, end.left + _BOX_WIDTH)
        y1 = y2 = start.top + _BOX_HEIGHT // 2
    else:
        downwards = end.row > start.row
        x1 = start.middle + 10 * (end.column > start.column) - 10 * (end.column < start.column)
        x2 = end.middle + 10 * (start.column > end.column) - 10 * (start.column < end.column)
        y1, y2 = (start.top + _BOX_HEIGHT, end.top) if downwards else (start.top, end.top + _BOX_HEIGHT)
    bend = (y2 - y1) // 2
    way = f"M{x1} {y1} C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}" if bend else f"M{x1} {y1} L{x2} {y2}"
    return f'<path d="{way}" fill="none" stroke="#57606a" stroke-width="1.2" marker-end="url(#tip)"/>'


def _box(box: str, place: _Place) -> Iterator[str]:
    floor = box.partition(":")[0]
    fill = _COLOURS["outside"] if floor == "outside" else "#ffffff"
    name, says = SAYS[box]
    yield (
        f'<rect x="{place.left}" y="{place.top}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6" '
        f'fill="{fill}" stroke="#8c959f"/>'
    )
    for offset, text, style in ((17, name, 'font-weight="600"'), (33, says, 'font-size="11" fill="#57606a"')):
        yield f'<text x="{place.middle}" y="{place.top + offset}" text-anchor="middle" {style}>{escape(text)}</text>'
