"""How files get to their destination: the keys that requests and rules share, in both forms.

In a rule, texts are templates, filled in at the moment of use. In a request, only `rename` has placeholders of its own,
the words for one file; the others are filled in when the request comes, if it asks for that.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from iot.sftp.module._documents.fields import (
    as_written,
    below,
    check_apart,
    check_local,
    check_name,
    check_path,
    read_template,
)
from iot.sftp.module._documents.template import Placeholders, Template, TemplateKind
from iot.sftp.module._documents.template_parts import TemplateError

IF_EXISTS = ("replace", "skip", "skip_same", "rename", "fail")
MODE_DIGITS = 4


def _if_exists(value: object) -> str | dict[str, str]:
    if isinstance(value, str) and value in IF_EXISTS:
        return value
    if isinstance(value, dict) and value.keys() == {"backup"}:
        return {"backup": below("backup", lambda: check_path(value["backup"]))}
    known = ", ".join(f'"{each}"' for each in IF_EXISTS)
    raise PydanticCustomError("if_exists", f'must be {known} or {{"backup": "folder"}}')


def _if_exists_of_request(value: object, info: ValidationInfo) -> str | dict[str, str]:
    checked = _if_exists(value)
    if isinstance(checked, dict):
        check_apart(checked["backup"], info, "dest", key="backup")
    return checked


def _if_exists_template(value: object, info: ValidationInfo) -> str | dict[str, Template]:
    checked = _if_exists(value)
    if isinstance(checked, str):
        return checked
    folder = below("backup", lambda: read_template(checked["backup"], info, TemplateKind.FILE))
    check_local(folder, info, of="download", key="backup")
    check_apart(folder, info, "dest", key="backup")
    return {"backup": folder}


def _rename(value: object, info: ValidationInfo) -> str | None:
    if value is None:
        return None
    text = check_path(value)
    if info.data.get("expand"):
        return text  # it is read when the values of the device are known
    try:
        parsed = Template.parse(text, kind=TemplateKind.NAME)
    except TemplateError as error:
        reason = 'has a placeholder of the device, which needs "expand": true' if _is_of_device(text) else str(error)
        raise PydanticCustomError("template", "{reason}", {"reason": reason}) from None
    if parsed.has_date:
        raise PydanticCustomError("template", 'has a date, which needs "expand": true')
    return text


def _is_of_device(name: str) -> bool:
    """Return whether a name is refused for nothing but placeholders of the device, whose values are not known yet."""
    try:
        Template.parse(name, Placeholders(device="-", module="-", hub="-"), server="-", kind=TemplateKind.NAME)
    except TemplateError:
        return False
    return True


def _rename_template(value: object, info: ValidationInfo) -> Template | None:
    if value is None:
        return None
    name = read_template(check_path(value), info, TemplateKind.NAME)
    check_name(name)
    return name


def _mode(value: object, *, kinds: str) -> str:
    is_mode = isinstance(value, str) and len(value) == MODE_DIGITS and value[0] in kinds
    if not is_mode or not set(str(value)) <= set("01234567"):
        raise PydanticCustomError("mode", 'must be four octal digits in a string, such as "0640"')
    return str(value)


IfExists = Annotated[str | dict[str, str], PlainValidator(_if_exists_of_request)]
"""What is done where something is at the destination, of a request."""
IfExistsTemplate = Annotated[
    str | dict[str, Template], PlainValidator(_if_exists_template), PlainSerializer(as_written)
]
"""The same of a rule."""
Rename = Annotated[str | None, PlainValidator(_rename)]
"""The name at the destination, of a request."""
RenameTemplate = Annotated[
    Template | None, PlainValidator(_rename_template), PlainSerializer(lambda name: None if name is None else str(name))
]
"""The same of a rule."""
FileMode = Annotated[str, PlainValidator(lambda value: _mode(value, kinds="0"))]
"""The permissions of files."""
DirectoryMode = Annotated[str, PlainValidator(lambda value: _mode(value, kinds="02"))]
"""The permissions of directories: the bit for the group of the parent may be set too."""


@dataclass(frozen=True)
class BackupPlaces:
    """Returns where what a file replaces is kept: in a folder whose path has words for one file, or dates.

    Attributes:
        folder: on the destination's side.
        clock: gives the moment for dates, in seconds since 1970.
    """

    folder: Template
    clock: Callable[[], float]

    def __call__(self, path: str, dest: str) -> str:
        """Return the path of the kept file.

        Parameters:
            path: of the file that replaces it, relative to the source.
            dest: where both go, relative to the destination.

        Raises:
            PathNotAllowed: what is filled in makes a component that is no name.
            NotConfigured: it has a date, and the clock is not set.
        """
        folder = self.folder.fill(self.clock(), path)
        return posixpath.join(folder, posixpath.basename(dest) if self.folder.has_folder else dest)


def backup_of(
    if_exists: str | Mapping[str, str] | Mapping[str, Template], clock: Callable[[], float]
) -> str | BackupPlaces | None:
    """Return the folder for what is replaced, in the client's terms; `None` if nothing is kept."""
    if isinstance(if_exists, str):
        return None
    folder = if_exists["backup"]
    if isinstance(folder, str):
        return folder
    return folder.fill() if folder.is_fixed else BackupPlaces(folder, clock)
