"""The section `servers` of the desired document: further servers by their names, each valid or invalid by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iot.sftp.client._base.text import excerpt
from iot.sftp.module._documents.server import ServerSection, read_server
from iot.sftp.module._documents.template import Placeholders

DEFAULT_SERVER = "sftp"  # the name of the section `sftp`, for whom names none
SERVERS_MAXIMUM = 16  # the state of each has to fit into a twin of 32 KB, with everything else that is reported
# A server is reported under its name: a key of a twin must not contain `.`, `$`, `#` or spaces
NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
RESERVED = ("ac", "av", "ad", "value")  # what is reported of the section itself, beside the servers
NAMES_SHOWN, NAME_SHOWN = 5, 40  # unusable names in a message, and characters of each


def on_server(thing: str, server: str) -> str:
    """Return the name of a thing in log lines and lists of failures: with its server, unless that is the default."""
    return thing if server == DEFAULT_SERVER else f"{thing} ({server})"


@dataclass(frozen=True)
class ServersSection:
    """The section, validated.

    Attributes:
        servers: the valid ones, by their names.
        errors: what is wrong with the invalid ones, by their names.
        error: what is wrong with the section itself, or with servers whose names cannot be used.
        is_object: whether the section is an object of servers; if not, the servers in force stay.
    """

    servers: Mapping[str, ServerSection] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    is_object: bool = True


def read_servers(content: Any, placeholders: Placeholders) -> ServersSection | None:
    """Read the section, with the placeholders in force; `None` if it is missing. Never raises."""
    if content is None:
        return None
    if not isinstance(content, dict):
        return ServersSection(error="'servers' must be an object of servers by their names", is_object=False)
    named = {name: server for name, server in content.items() if server is not None}
    if len(named) > SERVERS_MAXIMUM:
        return ServersSection(error=f"'servers' holds more than {SERVERS_MAXIMUM} servers", is_object=False)
    servers: dict[str, ServerSection] = {}
    errors: dict[str, str] = {}
    unusable: list[str] = []
    for name, server in named.items():
        problem = _problem(name)
        if problem is not None:
            unusable.append(f"'{excerpt(str(name), NAME_SHOWN)}' {problem}")
            continue
        section = read_server(server, name, placeholders)
        if section.value is not None:
            servers[name] = section.value
        elif section.error is not None:
            errors[name] = section.error
    further = [f"and {len(unusable) - NAMES_SHOWN} more"] if len(unusable) > NAMES_SHOWN else []
    return ServersSection(servers, errors, "; ".join(unusable[:NAMES_SHOWN] + further) or None)


def _problem(name: object) -> str | None:
    """Return why a server cannot have this name; `None` if it can."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return "cannot be the name of a server: it must be 1 to 32 letters, digits, hyphens and underscores"
    if name == DEFAULT_SERVER:
        return f"is the name of the section '{DEFAULT_SERVER}' beside 'servers': write that server there"
    if name in RESERVED:
        return "cannot be the name of a server: it is a key of what is reported of them"
    return None
