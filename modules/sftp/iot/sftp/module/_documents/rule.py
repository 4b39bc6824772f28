"""The section `rules` of the desired document; each rule is valid or invalid by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, PlainSerializer, ValidationError
from pydantic_core import PydanticCustomError

from iot.sftp.client import Append, Selection
from iot.sftp.client._base.text import excerpt
from iot.sftp.module._documents.append import COPY, Lines, Mode
from iot.sftp.module._documents.delivery import IfExistsTemplate, RenameTemplate
from iot.sftp.module._documents.failing_files import FailingFilesField
from iot.sftp.module._documents.fields import (
    AGE_MAXIMUM,
    AnyText,
    AsWritten,
    TemplateContext,
    Text,
    as_written,
    check_text,
    seconds,
    template,
    then_template,
)
from iot.sftp.module._documents.marker import MarkerField
from iot.sftp.module._documents.selection import SelectionDocument
from iot.sftp.module._documents.servers import DEFAULT_SERVER
from iot.sftp.module._documents.template import Placeholders, Template, TemplateKind
from iot.sftp.module._documents.times import RuleTimes
from iot.sftp.module._documents.validation import explain

RULES_MAXIMUM = 20  # the status of each has to fit into a twin of 32 KB, with everything else that is reported
# A rule is reported under its name: a key of a twin must not contain `.`, `$`, `#` or spaces
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FOLDER_MAXIMUM = 1024  # characters
AGE_DEFAULT = 5.0  # seconds
SERVER_SHOWN = 40  # characters of a server's name that no server has


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise PydanticCustomError("name", "must be 1 to 64 letters, digits, hyphens and underscores")
    return value


def _folder(value: object) -> str:
    folder = check_text(value)
    if len(folder) > FOLDER_MAXIMUM:
        raise PydanticCustomError("folder", f"must have {FOLDER_MAXIMUM} characters at most")
    return folder


Folder = Annotated[Template, template(_folder), AsWritten]
FileFolder = Annotated[Template, template(_folder, TemplateKind.FILE), AsWritten]


class Rule(RuleTimes, SelectionDocument):
    """One rule: a folder that is transferred without a call."""

    name: Annotated[Text, AfterValidator(_name)]
    direction: Literal["upload", "download"]
    server: AnyText = DEFAULT_SERVER  # in front of what may name it by a placeholder
    source: Folder
    dest: FileFolder
    rename: RenameTemplate = None
    if_exists: IfExistsTemplate = "replace"
    then: Annotated[str | dict[str, Template], then_template(), PlainSerializer(as_written)] = "keep"
    marker: MarkerField = None
    on_failure: FailingFilesField = None  # behind `source` and `then`, which it looks at
    min_age: Annotated[float, seconds(0, AGE_MAXIMUM)] = AGE_DEFAULT
    mode: Mode = COPY  # behind what it is compared with
    lines: Lines = False

    def selection(self) -> Selection:
        """Return which files are meant: one that grows is always young, and taken all the same."""
        chosen = super().selection()
        return chosen if self.mode == COPY else replace(chosen, min_age=0.0)

    def append(self) -> Append | None:
        """Return how growing files are kept up with, if they are."""
        return None if self.mode == COPY else Append(lines=self.lines)


@dataclass(frozen=True)
class RulesSection:
    """The section, validated.

    Attributes:
        rules: the valid ones, by their names.
        errors: what is wrong with the invalid ones, by their names.
        error: what is wrong with the section itself, or with rules that have no valid name.
        is_list: whether the section is a list of rules; if not, the rules in force stay.
    """

    rules: Mapping[str, Rule] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    is_list: bool = True

    def checked(self, servers: Sequence[str]) -> RulesSection:
        """Return the section with those rules among the invalid ones whose server is none of these."""
        unknown = {
            name: f"'server' must be one of {', '.join(servers)}, not '{excerpt(rule.server, SERVER_SHOWN)}'"
            for name, rule in self.rules.items()
            if rule.server not in servers
        }
        rules = {name: rule for name, rule in self.rules.items() if name not in unknown}
        return replace(self, rules=rules, errors={**self.errors, **unknown})


def read_rules(content: Any, placeholders: Placeholders | None = None) -> RulesSection | None:
    """Read the section, with the placeholders in force; `None` if it is missing. Never raises."""
    if content is None:
        return None
    if not isinstance(content, list):
        return RulesSection(error="'rules' must be a list of objects", is_list=False)
    if len(content) > RULES_MAXIMUM:
        return RulesSection(error=f"'rules' holds more than {RULES_MAXIMUM} rules", is_list=False)
    rules: dict[str, Rule] = {}
    errors: dict[str, str] = {}
    unnamed: list[str] = []
    for number, item in enumerate(content, 1):
        if not isinstance(item, dict):
            unnamed.append(f"rule {number}: must be an object")
            continue
        name = item.get("name")
        named = isinstance(name, str) and NAME.fullmatch(name) is not None
        if named and (name in rules or name in errors):
            unnamed.append(f"rule {number}: another rule has the name '{name}'")
            continue
        try:
            rule = Rule.model_validate(item, context=TemplateContext(placeholders or Placeholders()))
            rules[rule.name] = rule
        except ValidationError as error:
            words = explain(error, Rule)
            if isinstance(name, str) and named:
                errors[name] = words
            else:
                unnamed.append(f"rule {number}: {words}")
    return RulesSection(rules, errors, "; ".join(unnamed) or None)
