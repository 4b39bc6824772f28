"""Which files of a folder are meant, and in which order: one value, which methods, rules and retention share."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import InvalidRequest
from iot.sftp.client._files.file_version import SECOND
from iot.sftp.client._folders.globs import Globs, check_globs
from iot.sftp.client._transfer.file_order import check_member, member_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from iot.sftp.client._files.file_version import FileVersion


class Order(Enum):
    """Which files come first, over all of a folder and the folders in it."""

    NAME = "name"
    OLDEST = "oldest"
    NEWEST = "newest"

    @classmethod
    def of(cls, value: str) -> Order:
        """Return the member with this value; raise `InvalidRequest` if there is none."""
        return member_of("order", cls, value)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which files of a folder are meant; see `SFTPSession.download_files`.

    Globs are relative to the folder: `*` and `?` stand for characters of a name, `**` for folders, none included.

    Attributes:
        include: globs of which a file has to match one; empty for all files.
        exclude: globs of which a file must match none.
        file_pattern: a substring of a file's path, as `list_files` shows it; `None` for all files.
        recursive: the files of the folders in it too.
        min_age: seconds since a file's modification.
        order: which files come first.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    file_pattern: str | None = None
    recursive: bool = False
    min_age: float = 0.0
    order: Order = Order.NAME

    def __post_init__(self) -> None:
        """Raise `InvalidRequest` for values that cannot be meant."""
        for key in ("include", "exclude"):
            patterns: object = getattr(self, key)  # of any type, where no type checker looks
            if not isinstance(patterns, tuple | list):  # a text is a sequence too
                raise InvalidRequest(f"{key} must be a list of patterns")
            object.__setattr__(self, key, tuple(patterns))
            check_globs(key, tuple(patterns))
        check_member("order", self.order, Order)
        min_age: object = self.min_age
        if not isinstance(min_age, int | float) or not 0 <= min_age < float("inf"):
            raise InvalidRequest("min_age must be a number of seconds, 0 or more")
        if self.include and not self.recursive and all("/" in glob.replace("**/", "") for glob in self.include):
            raise InvalidRequest("include has only patterns for files in folders, which needs recursive")

    @cached_property
    def _included(self) -> Globs:
        return Globs(tuple(self.include))

    @cached_property
    def _excluded(self) -> Globs:
        return Globs(tuple(self.exclude))

    def selects(self, path: str, listed_path: str) -> bool:
        """Return whether a file is meant; whether it is old enough is not asked.

        Parameters:
            path: the file's, relative to the folder.
            listed_path: the same as `list_files` shows it.
        """
        if self.file_pattern is not None and self.file_pattern not in listed_path:
            return False
        if self.include and not self._included.match(path):
            return False
        return not (self.exclude and self._excluded.match(path))

    def goes_into(self, directory: str) -> bool:
        """Return whether any file in a directory may be meant: else it need not be listed."""
        if not self.recursive or (self.include and not self._included.may_match_in(directory)):
            return False
        return not (self.exclude and self._excluded.match_all_in(directory))

    def is_too_young(self, version: FileVersion) -> bool:
        """Return whether a file is to be left for the next time because of `min_age`.

        SFTP does not report the server's time: its clock is assumed to be right to better than `min_age`, as ours is.
        So a file is too young if its time is less than `min_age` away from now, either way.
        """
        if version.modified is None or not self.min_age:
            return False
        return abs(time.time_ns() - version.modified) < self.min_age * SECOND
