"""Placeholders in paths and names: a text is parsed once, and filled in whenever it is used.

What never changes (the device, the server, variables) is filled in while the text is parsed; what is left are dates,
and the words for one file. So two templates are equal if they always give the same, and a text whose values cannot be
used is refused where it is read, not where it is used.

A value never adds a component to a path, and never makes one `..`: a component with a placeholder in it is checked
after it was filled in. Only the format of a date (the author's own text) and `{folder}` have slashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timezone, tzinfo
from enum import Enum
from itertools import groupby

from iot.sftp.client import PathNotAllowed
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._documents.template_parts import Component, DateWord, FileWord, Part, TemplateError, written

NAME_SHOWN = 60  # characters of a placeholder that is quoted in a message
DATE = "date"
DEVICE_WORDS = ("deviceId", "moduleId", "hub", "server", DATE)
# Those of strftime that mean the same in every locale and on every system, and never give a slash. Python leaves the
# locale of dates at "C", so that names are English everywhere.
DIRECTIVES = "aAbBdFfGHIjmMpSTuUVwWyYzZ%"

_SPECIAL = re.compile(r"\{\{|\}\}|[{}/]")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)


class TemplateKind(Enum):
    """Which words a field knows beside those for the device.

    Attributes:
        DEVICE: none.
        FILE: those for one file; the field is a path.
        NAME: those for one file, except `{folder}`; the field is a name, without slashes.
    """

    DEVICE = ()
    FILE = tuple(FileWord)
    NAME = (FileWord.NAME, FileWord.STEM, FileWord.EXT)


FILE_WORDS = tuple(word.value for word in FileWord)
BUILT_IN = (*DEVICE_WORDS, *FILE_WORDS)


@dataclass(frozen=True)
class Placeholders:
    """What the words for the device stand for.

    Attributes:
        device: `{deviceId}`; empty if it is not known, as the next two.
        module: `{moduleId}`.
        hub: `{hub}`, its name without the domain.
        variables: of the section `variables`.
        zone: the time zone of dates.
    """

    device: str = ""
    module: str = ""
    hub: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo = timezone.utc

    def values(self, server: str) -> dict[str, str]:
        """Return the values by their words, in the terms of one server; dates are not among them."""
        return {"deviceId": self.device, "moduleId": self.module, "hub": self.hub, "server": server, **self.variables}


@dataclass(frozen=True)
class Template:
    """A text with placeholders; equal to another one if both always give the same.

    Attributes:
        text: as its author wrote it.
        components: its parts between slashes.
    """

    text: str = field(compare=False)
    components: tuple[Component, ...]

    @classmethod
    def parse(
        cls,
        text: str,
        placeholders: Placeholders | None = None,
        *,
        server: str = "",
        kind: TemplateKind = TemplateKind.DEVICE,
    ) -> Template:
        """Parse a text, and fill in what never changes.

        Parameters:
            text: with placeholders.
            placeholders: their values on this device.
            server: the name of the server that it is for.
            kind: which words it may hold.

        Raises:
            TemplateError: a placeholder is unknown, a brace has no counterpart, or a value cannot be used here.
        """
        try:
            text.encode("utf-8", "surrogateescape")  # as names are: see PEP 383
        except UnicodeEncodeError:
            raise TemplateError("has a lone surrogate that stands for no byte, which no name can hold") from None
        template = cls(text, _Parser(text, placeholders or Placeholders(), server, kind).components())
        for component in template.components:
            if component.is_fixed:
                try:
                    component.fill(None, None)
                except PathNotAllowed as error:
                    raise TemplateError(f"cannot be used with the values of this device: {error.message}") from None
        return template

    @property
    def is_fixed(self) -> bool:
        """Whether it always gives the same."""
        return all(component.is_fixed for component in self.components)

    @property
    def has_date(self) -> bool:
        """Whether it depends on the time."""
        return self._has(DateWord)

    @property
    def has_folder(self) -> bool:
        """Whether it says where files lie below the source."""
        return any(component.parts == (FileWord.FOLDER,) for component in self.components)

    def _has(self, kind: type) -> bool:
        return any(isinstance(part, kind) for component in self.components for part in component.parts)

    def fill(self, now: float | None = None, path: str | None = None) -> str:
        """Return the text with all its placeholders filled in.

        Parameters:
            now: in seconds since 1970; needed if it has a date.
            path: of the file, relative to the source; needed if it has words for one file.

        Raises:
            NotConfigured: it has a date, and the clock is not set.
            PathNotAllowed: what is filled in makes a component that is no name.
        """
        components = [component.fill(now, path) for component in self.components]
        text = "/".join(component for component in components if component is not None)
        if components[0] is None:
            return text.lstrip("/")  # what is below a folder stays below it
        return text or "/" * (len(components) > 1)

    def at(self, now: float) -> str:
        """Return the text of a template that always gives what this one does at a moment.

        Raises:
            NotConfigured: it has a date, and the clock is not set.
        """
        components = (
            "".join(written(part.at(now) if isinstance(part, DateWord) else part) for part in component.parts)
            for component in self.components
        )
        return "/".join(components)

    def split(self) -> tuple[str, Template | None]:
        """Return the folder that is always the same, and the rest, which differs; `None` if nothing does.

        In the rest, components that mean nothing (`//`, `/./`, a slash at the end) are left out.
        """
        fixed: list[str] = []
        for component in self.components:
            if not component.is_fixed:
                break
            fixed.append(component.fill(None, None) or "")
        if len(fixed) == len(self.components):
            return self.fill(), None
        rest = tuple(each for each in self.components[len(fixed) :] if str(each) not in {"", "."})
        folder = "/".join(fixed) or ("/" if fixed else ".")
        return folder, Template("/".join(map(str, rest)), rest)

    def identity(self) -> str | list[str]:
        """Return what stands for all that it gives over time: as JSON, for a record that outlives the process."""
        # A list, as a text that is fixed may look like one that is not: `{{date}}`
        return self.fill() if self.is_fixed else ["template", "/".join(map(str, self.components))]

    def __str__(self) -> str:
        """Return the text as it was written."""
        return self.text


def check_value(value: str) -> None:
    """Check that a value may be filled in.

    Raises:
        TemplateError: it would add a component to a path, or lead out of it.
    """
    if any(separator in value for separator in "/\\"):
        raise TemplateError("must not contain '/' or '\\', as a value is a part of one name")
    if value == "..":
        raise TemplateError("must not be '..', which is no name")
    if not value.isprintable():
        raise TemplateError("must not contain control characters, or others that cannot be printed")


class _Parser:
    """Parses one text, from left to right."""

    def __init__(self, text: str, placeholders: Placeholders, server: str, kind: TemplateKind) -> None:
        self._text = text
        self._zone = placeholders.zone
        self._values = placeholders.values(server)
        self._kind = kind
        self._parts: list[Part] = []  # of the component at hand
        self._has_value = False
        self._components: list[Component] = []

    def components(self) -> tuple[Component, ...]:
        position = 0
        while (match := _SPECIAL.search(self._text, position)) is not None:
            start = match.start()
            self._add(self._text[position:start])
            if match[0] == "/":
                self._end_component()
            elif len(match[0]) > 1:
                self._add(match[0][0])
            elif match[0] == "}":
                raise TemplateError(f"has a '}}' at character {start + 1} that closes nothing: write '}}}}' for one")
            position = match.end() if match[0] != "{" else self._placeholder(start)
        self._add(self._text[position:])
        self._end_component(is_last=True)
        return tuple(self._components)

    def _add(self, part: Part) -> None:
        if part != "":
            self._parts.append(part)

    def _end_component(self, *, is_last: bool = False) -> None:
        if not is_last and self._kind is TemplateKind.NAME:
            raise TemplateError("is a name, and must not contain '/'")
        if FileWord.FOLDER in self._parts and self._parts != [FileWord.FOLDER]:
            raise TemplateError("has {folder} as a part of a name: it is a path, and stands between slashes")
        component = Component(tuple(_joined(self._parts)), self._has_value)
        if self._kind is TemplateKind.NAME and component.is_fixed and str(component) in {"", ".", ".."}:
            raise TemplateError(f"is '{component}', which is no name")
        if (
            self._kind is TemplateKind.FILE
            and component.parts == ("..",)
            and not all(each.is_fixed for each in self._components)
        ):
            raise TemplateError("has '..' behind what differs from file to file")
        self._components.append(component)
        self._parts, self._has_value = [], False

    def _placeholder(self, start: int) -> int:
        """Add what begins with the brace at `start`; return where it ends."""
        end = self._text.find("}", start)
        if end < 0 or "{" in self._text[start + 1 : end]:
            raise TemplateError(f"has a '{{' at character {start + 1} that is not closed: write '{{{{' for one")
        word, colon, form = self._text[start + 1 : end].partition(":")
        self._has_value = True
        if word == DATE:
            self._date(form, start)
        elif colon and (word in self._values or word in FILE_WORDS):
            raise TemplateError(f"has a format in {{{word}}} at character {start + 1}: only {{date:…}} takes one")
        elif word in self._values:
            self._value(word)
        elif word in (known.value for known in self._kind.value):
            self._add(FileWord(word))
        else:
            raise TemplateError(self._unknown(word, start))
        return end + 1

    def _value(self, word: str) -> None:
        value = self._values[word]
        if not value and word in DEVICE_WORDS:
            raise TemplateError(f"has {{{word}}}, which is not known here: the edge agent sets it (IOTEDGE_…)")
        try:
            check_value(value)
        except TemplateError as error:
            raise TemplateError(f"has {{{word}}}, whose value {error}") from None
        self._add(value)

    def _date(self, form: str, start: int) -> None:
        place = f"at character {start + 1}"
        directives = _DIRECTIVE.findall(form)
        if not directives:
            raise TemplateError(f"has a {{date}} {place} without a format such as {{date:%Y/%m/%d}}")
        for directive in directives:
            if not directive or directive not in DIRECTIVES:
                known = " ".join(f"%{known}" for known in DIRECTIVES)
                shown = excerpt(f"%{directive}", NAME_SHOWN)
                raise TemplateError(f"has '{shown}' in the date {place}, which is not known here; known are: {known}")
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in form):
            raise TemplateError(
                f"has a date {place} with a NUL character or a lone surrogate"
            )  # strftime takes neither
        pieces = form.split("/")
        if any(piece in {"", ".", ".."} for piece in pieces):
            raise TemplateError(f"has a date {place} with a part that is no name: '', '.' or '..'")
        for number, piece in enumerate(pieces):
            if number:
                self._end_component()
                self._has_value = True
            self._add(DateWord(piece, self._zone) if "%" in piece else piece)

    def _unknown(self, word: str, start: int) -> str:
        known = [*DEVICE_WORDS, *(word.value for word in self._kind.value), *self._values]
        shown = ", ".join(f"{{{name}:…}}" if name == DATE else f"{{{name}}}" for name in dict.fromkeys(known))
        found = f"{{{excerpt(word, NAME_SHOWN)}}}"
        if word in FILE_WORDS:
            reason = "which stands for one file and has no meaning here"
            return f"has {found} at character {start + 1}, {reason}; known are: {shown}"
        return f"has the unknown placeholder {found} at character {start + 1}; known are: {shown}"


def _joined(parts: list[Part]) -> Iterator[Part]:
    """Give the parts, with texts beside each other as one."""
    for is_text, group in groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            yield "".join(part for part in group if isinstance(part, str))
        else:
            yield from group
