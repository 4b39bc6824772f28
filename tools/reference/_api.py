"""The library's reference: signatures and docstrings of all that `iot.sftp.client` exports, as a page."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from iot.sftp import client

CHAPTERS = {
    "The client": ("IoTSFTPClient",),
    "Sessions": (
        "SFTPSession",
        "Direction",
        "FileOrder",
        "Transfer",
        "Interruption",
        "Counts",
        "FileContent",
        "FileInfo",
        "Modes",
        "RateLimit",
        "Bandwidth",
        "ServerInfo",
    ),
    "Folders": (
        *("FolderOrder", "Selection", "Order", "IfExists", "Then", "FolderTransfer", "FolderProgress"),
        *("FileFailure", "FileOutcome"),
        *("Ledger", "FileVersion", "Append", "GrowthLedger", "GrowthRecord", "Quarantine", "FailureCounts"),
        *("Markers", "MarkerName", "MarkerRecord", "OwedMarkers", "SpentMarker"),
    ),
    "Settings": ("ServerSettings", "Proxy", "Jump", "TimeLimits", "Secret", "check_pin", "check_private_key"),
    "Local files": ("LocalFiles", "LocalName", "LocalEntry"),
    "Diagnosis": ("diagnose", "Step"),
    "Errors": (
        "SFTPError",
        "Fault",
        "Retry",
        "Scope",
        "error_classes",
        "error_for_code",
        "from_os_error",
    ),  # and the table of the subclasses of `SFTPError`
    "Version": ("VERSION", "__version__"),
}
"""The exports by chapter. Classes of errors are in the table of theirs, and not named here."""

_MADE_BY_THE_LIBRARY = frozenset({"FileInfo.of", "Transfer.of", "Secret.beside"})  # of types that are not exported
_LINE_MAXIMUM = 96  # characters of a signature on one line
_SECTION = re.compile(r"(Parameters|Attributes|Raises|Returns):")
_ENTRY = re.compile(r"    (\S[^:]*): (.*)")

_OPENING = """\
# The library's reference

Made by `make reference` from the docstrings of `iot.sftp.client`; what is not on this page is private, and may change.
[The library](library.md) shows how the client is used, [security.md](security.md) what is promised.

```python
from iot.sftp.client import IoTSFTPClient
```
"""


def reference() -> str:
    """Return the page.

    Raises:
        ValueError: an export is in no chapter, or a chapter names what is no export.
    """
    errors = {error.__name__: error for error in _errors() if error.__name__ in client.__all__}
    placed = {*errors, *(name for names in CHAPTERS.values() for name in names)}
    if placed != set(client.__all__):
        message = f"in no chapter, or no export: {sorted(placed ^ set(client.__all__))}"
        raise ValueError(message)
    parts = [_OPENING]
    for chapter, names in CHAPTERS.items():
        parts += [f"## {chapter}\n", *(part for name in names for part in _export(name, getattr(client, name)))]
        if chapter == "Errors":
            parts.append(_table(list(errors.values())))
    return "\n".join(parts)


def _errors() -> Iterator[type[client.SFTPError]]:
    yield from (error for error in client.error_classes() if error is not client.SFTPError)


def _table(errors: list[type[client.SFTPError]]) -> str:
    rows = [
        f"| `{error.__name__}` | {_base(error)} | {_code_of(error)} | {error.fault.value} | {error.retry.value} "
        f"| {_summary(error)} |"
        for error in errors
    ]
    head = ["| class | a kind of | `code` | `fault` | `retry` | |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, ""])


def _base(error: type[client.SFTPError]) -> str:
    (base,) = error.__bases__
    return f"`{base.__name__}`"


def _code_of(error: type[client.SFTPError]) -> str:
    """Return the code of a reason; a base that is only there to be caught has none of its own."""
    return "" if error.code == client.SFTPError.code and error is not client.Internal else f"`{error.code}`"


def _summary(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _export(name: str, value: Any) -> Iterator[str]:
    yield f"### `{name}`\n"
    if isinstance(value, str):
        yield "The version, as text: `major.minor.patch`.\n"
    elif inspect.isclass(value):
        yield from _class(name, value)
    else:
        yield _code(name, value)
        yield _text(value)


def _class(name: str, kind: type) -> Iterator[str]:
    is_made_by_callers = not getattr(kind, "_is_protocol", False) and not issubclass(kind, enum.Enum)
    bases = [base.__name__ for base in kind.__bases__ if base.__name__ in client.__all__]
    if is_made_by_callers:
        yield _code(name, kind)
    if bases:
        yield f"A {', '.join(f'[`{base}`](#{base.lower()})' for base in bases)}.\n"
    yield _text(kind)
    members = _members(kind)
    if not dataclasses.is_dataclass(kind) and "__init__" in members and is_made_by_callers:
        yield f"#### A new `{name}`\n"
        yield _text(members["__init__"])
    for member, raw in members.items():
        described = _member(raw)
        if described is None or member.startswith("_") or f"{name}.{member}" in _MADE_BY_THE_LIBRARY:
            continue
        yield f"#### `{name}.{member}`\n"
        if isinstance(raw, property):
            yield _fenced(f"{member}: {inspect.signature(described).return_annotation}")
        else:
            yield _code(f"{name}.{member}" if isinstance(raw, classmethod) else member, described)
        yield _text(described)


def _members(kind: type) -> dict[str, Any]:
    """Return the members of a class, behind those of its bases of ours that are no exports and have no entry."""
    members: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base is kind or (base.__module__.startswith("iot.sftp.client.") and base.__name__ not in client.__all__):
            members |= vars(base)
    return members


def _member(raw: object) -> Callable[..., Any] | None:
    """Return the function behind a method or a property, if it is one."""
    if isinstance(raw, property):
        return raw.fget
    function = raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw
    return function if inspect.isfunction(function) else None


def _code(name: str, value: Callable[..., Any]) -> str:
    signature = inspect.signature(value)
    parameters = [one for one in signature.parameters.values() if one.name not in {"self", "cls"}]
    texts: list[str] = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in texts:
            texts.append("*")
        texts.append(_parameter(parameter, value))
    # A constructor gives the object, which the heading says
    arrow = "" if inspect.isclass(value) else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(texts)}){arrow}"
    if len(line) > _LINE_MAXIMUM:
        line = "\n".join([f"{name}(", *(f"    {text}," for text in texts), f"){arrow}"])
    return _fenced(line)


def _fenced(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _parameter(parameter: inspect.Parameter, owner: Callable[..., Any]) -> str:
    stars = "**" if parameter.kind is inspect.Parameter.VAR_KEYWORD else ""
    text = f"{stars}{parameter.name}: {parameter.annotation}"
    if parameter.default is inspect.Parameter.empty:
        return text
    is_lambda = inspect.isfunction(parameter.default) and parameter.default.__name__ == "<lambda>"
    default = "…" if is_lambda else repr(parameter.default)  # its repr has an address, another one in each process
    if isinstance(parameter.default, enum.Enum):
        default = str(parameter.default)
    if dataclasses.is_dataclass(owner):
        for field in dataclasses.fields(owner):
            if field.name == parameter.name and field.default_factory is not dataclasses.MISSING:
                default = f"{getattr(field.default_factory, '__name__', '…')}()"
    return f"{text} = {default}"


def _text(value: object) -> str:
    """Return a docstring as Markdown: its sections of names become lists."""
    lines: list[str] = []
    in_section = False
    for line in (inspect.getdoc(value) or "").splitlines():
        section = _SECTION.fullmatch(line)
        entry = _ENTRY.match(line) if in_section else None
        if section is not None:
            in_section = True
            lines += [f"**{section[1]}**", ""]
        elif entry is not None:
            lines.append(f"- {', '.join(f'`{name}`' for name in entry[1].split(', '))}: {entry[2]}")
        elif line and not line.startswith(" "):
            in_section = False
            lines.append(line)
        else:
            lines.append(f"  {line.strip()}" if line else "")
    return "\n".join([*lines, ""])
