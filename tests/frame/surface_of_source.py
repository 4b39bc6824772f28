"""The public surface as the source has it: names and signatures, requests, the twin's schema, the command line."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from iot.sftp import client
from iot.sftp.client import SFTPError
from iot.sftp.command_line._arguments import parser
from iot.sftp.command_line._server import PREFIX, settings_of
from iot.sftp.module._base.environment import Environment, missing_variables
from iot.sftp.module._documents.retention import RetentionEntry
from iot.sftp.module._documents.rule import Rule
from iot.sftp.module._documents.server import ServerSection
from iot.sftp.module._documents.twin import SECTIONS, TransfersSection, read_desired
from iot.sftp.module._documents.validation import Document
from iot.sftp.module._methods.idempotency import RequestIdConflict
from iot.sftp.module._methods.responses import failed
from iot.sftp.module._methods.table import METHODS

SOURCE = Path(client.__file__).parents[1]
SPECIAL_METHODS = ("__init__", "__enter__", "__exit__", "__iter__", "__next__", "__str__")
DAY = 86_400
LONG = 1_000_000  # characters or bytes: above every limit

# What is tried in each field: the label that the record shows, and the value. Of neighbours in a scale that are all
# taken, the record shows the first and the last.
SCALES: tuple[dict[str, Any], ...] = (
    {str(number): number for number in (0.0005, 0.001, 0.9, 1.5, 290.5)},
    {
        **{str(number): number for number in (-1, 0, 1, 16, 17, 290, 291, 65_535, 65_536)},
        **{f"{days} d{more}": days * DAY + bool(more) for days in (1, 7, 30, 366) for more in ("", " 1 s")},
        "10^12": 10**12,
        "10^12 + 1": 10**12 + 1,
    },
    {f"{length} x a": "a" * length for length in (1, 64, 65, 128, 129, 1024, 1025, 4096, 4097, LONG)},
)
WORDS = {
    f'"{word}"': word
    for word in (
        *("keep", "delete", "replace", "skip", "skip_same", "upload", "download", "size", "sha256"),
        *("debug", "info", "warning", "WARNING", "error"),
    )
}
OTHERS: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "infinity": float("inf"),
    "NaN": float("nan"),
    '""': "",
    '" a"': " a",
    '"a b"': "a b",
    '"1"': "1",
    '"1.a"': "1.a",
    '"SHA256:…"': "SHA256:" + "A" * 43,
    '"a" with a NUL': "a\0",
    '"a" with a newline': "a\n",
    '"a" with a lone surrogate': "a\udce4",
    "[]": [],
    '["a"]': ["a"],
    '["SHA256:…"]': ["SHA256:" + "A" * 43],
    "{}": {},
    '{"move": "c"}': {"move": "c"},
    '{"move": ""}': {"move": ""},
    '{"file": "/a"}': {"file": "/a"},
    '{"file": "a"}': {"file": "a"},
    '{"env": "A"}': {"env": "A"},
}


def taken(takes: Callable[[Any], bool]) -> str:
    """Name the values that a field takes."""
    words: list[str] = []
    for scale in SCALES:
        for are_taken, group in itertools.groupby(scale.items(), lambda item: takes(item[1])):
            labels = [label for label, _ in group]
            if are_taken:
                words.append(labels[0] if len(labels) == 1 else f"{labels[0]} … {labels[-1]}")
    others = OTHERS if takes("a") else OTHERS | WORDS
    return ", ".join([*words, *(label for label, value in others.items() if takes(value))])


# --- the library


def library() -> Iterator[str]:
    """Give the exports of the library: signatures, bases, fields and methods."""
    for name in client.__all__:
        exported = getattr(client, name)
        if inspect.isclass(exported):
            yield from _class(name, exported)
        elif callable(exported):
            yield f"def {name}{_signature(exported)}"
        else:
            yield f"{name}: {type(exported).__name__}"
        yield ""


def _class(name: str, exported: type) -> Iterator[str]:
    bases = [base for base in exported.__mro__[1:] if _is_public(base)]
    yield f"class {name}({', '.join(base.__name__ for base in bases)})"
    inherited = set(_members(bases[0])) if bases else set()
    yield from (f"    {member}" for member in _members(exported) if member not in inherited)


def _members(owner: type) -> Iterator[str]:
    """Give the public members of a class, those of its bases of ours included."""
    fields: set[str] = set()
    if dataclasses.is_dataclass(owner):
        fields = {field.name for field in dataclasses.fields(owner)}
        frozen = owner.__dataclass_params__.frozen  # type: ignore[attr-defined] # there is no public way to ask
        yield f"dataclass, {'frozen' if frozen else 'not frozen'}"
        yield from (f"field {_field(field)}" for field in dataclasses.fields(owner))
    members: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.startswith("iot.sftp."):
            members |= vars(base) | dict.fromkeys(_set_in_init(base), Ellipsis)
    made = dataclasses.is_dataclass(owner) or issubclass(owner, tuple) or typing.Protocol in owner.__mro__
    for name, value in sorted(members.items()):
        is_public = not name.startswith("_") or (name in SPECIAL_METHODS and not (made and name == "__init__"))
        if is_public and name not in fields:
            yield _member(name, value)
    if issubclass(owner, tuple):
        yield f"fields {', '.join(getattr(owner, '_fields', ()))}"


def _set_in_init(owner: type) -> set[str]:
    """Return the names of the public attributes that `__init__` sets."""
    init = vars(owner).get("__init__")
    if not inspect.isfunction(init) or init.__qualname__ != f"{owner.__name__}.__init__":
        return set()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except OSError:  # it was made by `dataclass`
        return set()
    targets = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    return {node.attr for node in targets if ast.unparse(node.value) == "self" and not node.attr.startswith("_")}


def _is_public(base: type) -> bool:
    return base.__name__ in client.__all__ or base in {Exception, tuple, typing.Protocol}


def _field(field: dataclasses.Field[Any]) -> str:
    default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
    if field.default_factory is not dataclasses.MISSING:
        default = " = (a new one for each)"
    return f"{field.name}: {field.type}{default}"


def _member(name: str, value: Any) -> str:
    if isinstance(value, property):
        return f"property {name} -> {inspect.signature(value.fget).return_annotation}"  # type: ignore[arg-type] # it has one
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {name}{_signature(value.__func__)}"
    if inspect.isfunction(value):
        return f"def {name}{_signature(value)}"
    if value is Ellipsis or inspect.isdatadescriptor(value):
        return f"attribute {name}"
    return f"attribute {name} = {value!r}"


def _signature(function: Callable[..., Any]) -> str:
    # Annotations are texts, and defaults that are functions have addresses
    return re.sub(r"<function .*? at 0x[0-9a-f]+>", "…", str(inspect.signature(function)).replace("'", ""))


# --- errors


def error_codes() -> Iterator[str]:
    """Give each code with its status and the class that has it."""
    public = [
        error
        for error in _subclasses(SFTPError)
        if error.__name__ in client.__all__
        and not (error.__subclasses__() and "code" not in vars(error))  # for catching
    ]
    errors: list[type[SFTPError]] = [*public, RequestIdConflict]
    rows = {(error.code, failed("exists", error("because")).status, error.__name__) for error in errors}
    codes = {code for code, _, _ in rows}
    assert {error.code for error in _subclasses(SFTPError)} <= codes, "a code that no public class has"
    for code, status, name in sorted(rows):
        yield f"{code:24}{status}  {name}"


def _subclasses(base: type[SFTPError]) -> Iterator[type[SFTPError]]:
    for error in base.__subclasses__():
        yield error
        yield from _subclasses(error)


# --- requests and the twin


def methods() -> Iterator[str]:
    """Give each method with the fields of its request, and what each of them takes."""
    for name, method in METHODS.items():
        fields = method.request.model_fields
        required = {"source": "a", "dest": "b", "path": "a", "task_id": "a", "content": "a"}
        base = {key: value for key, value in required.items() if key in fields}

        def takes(key: str, value: Any, request: type[Document] = method.request, base: Any = base) -> bool:
            tasks = {"background": True} if key == "time_limit" else {}
            try:
                request.model_validate({**base, **tasks, key: value})
            except ValueError:
                return False
            return True

        yield name
        yield from _fields(method.request, takes)
        yield ""


def desired_properties() -> Iterator[str]:
    """Give each key of the desired properties, and what it takes."""
    server = {"host": "a", "user": "a", "password": "a", "privateKey": {"env": "A"}}
    rule = {"name": "a", "direction": "upload", "source": "a", "dest": "a"}

    def error_of(document: Mapping[str, Any]) -> Any:
        read = read_desired(document)
        return read.refused or read.unknown

    for section, model, base in (("sftp", ServerSection, server), ("transfers", TransfersSection, {})):
        yield section
        yield from _fields(
            model,
            lambda key, value, section=section, base=base: not error_of({section: {**base, key: value}}),  # type: ignore[misc] # defaults bind
        )
        yield ""
    yield "rules[]"
    yield from _fields(Rule, lambda key, value: not error_of({"rules": [{**rule, key: value}]}))
    yield from ("", "retention[]")
    entry = {"path": "a", "maxAge": 1}
    yield from _fields(RetentionEntry, lambda key, value: not error_of({"retention": [{**entry, key: value}]}))
    for section in SECTIONS:
        if section not in {"sftp", "transfers", "rules", "retention"}:
            words = taken(lambda value, section=section: not error_of({section: value}))  # type: ignore[misc] # as above
            yield from ("", section, f"    takes {words}")


def _fields(model: type[Document], takes: Callable[[str, Any], bool]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        default = "required" if field.is_required() else f"default {field.default!r}"
        yield f"    {key}: {default}"
        yield f"        takes {taken(lambda value, key=key: takes(key, value))}"  # type: ignore[misc] # defaults bind


# --- the command line and the environment


def command_line() -> Iterator[str]:
    """Give each command with its arguments and options."""
    (commands,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    yield from ("iot-sftp", *_arguments(parser()), "")
    for name, command in commands.choices.items():
        yield from (f"iot-sftp {name}", *_arguments(command), "")


def _arguments(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        words = [", ".join(action.option_strings) or action.dest.upper()]
        if action.nargs is not None:
            words.append(f"nargs {action.nargs}")
        if action.choices:
            words.append(f"one of {', '.join(action.choices)}")
        if action.default not in {None, argparse.SUPPRESS}:
            words.append(f"default {action.default!r}")
        if type(action) is argparse._AppendAction:
            words.append("repeatable")
        yield f"    {'; '.join(words)}"


class _Asked(dict[str, str]):
    """Variables that note which of them are asked for."""

    def __init__(self, **values: str) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)


def environment() -> Iterator[str]:
    """Give the environment variables that are asked for, and the module's defaults."""
    of_module = _Asked()
    yield "the module's defaults"
    yield from (f"    {name} = {str(value)!r}" for name, value in vars(Environment.read(of_module)).items())
    missing_variables(of_module)
    yield from ("", "the module", *(f"    {name}" for name in sorted(of_module.names)))
    of_program = _Asked(**{f"{PREFIX}HOST": "a", f"{PREFIX}USER": "a", f"{PREFIX}PASSWORD": "a"})
    settings_of(parser().parse_args(["ls"]), of_program)
    of_program.get(f"{PREFIX}PASSPHRASE")
    yield from ("", "iot-sftp", *(f"    {name}" for name in sorted(of_program.names)))
    yield from ("", "both, and the library", *(f"    {name}" for name in sorted(_asked_of_the_process())))


def _asked_of_the_process() -> set[str]:
    """Return the constant names in `os.environ.get(…)`, `os.environ[…]` and `os.getenv(…)`."""
    found: set[str] = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                asks, arguments = ast.unparse(node.func) in {"os.environ.get", "os.getenv"}, node.args[:1]
            elif isinstance(node, ast.Subscript):
                asks, arguments = ast.unparse(node.value) == "os.environ", [node.slice]
            else:
                continue
            found |= {str(one.value) for one in arguments if asks and isinstance(one, ast.Constant)}
    return found
