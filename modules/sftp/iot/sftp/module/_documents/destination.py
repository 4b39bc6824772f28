"""Where each file of a rule goes: below a folder that is always the same, by what is filled in for each file."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.module._documents.template_parts import FileWord

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.module._documents.template import Template


@dataclass(frozen=True)
class FilePlaces:
    """Returns the path of each file, relative to the destination, by its path relative to the source.

    Attributes:
        below: the folder below the destination; `None` for the destination itself.
        name: the file's name there; `None` for the one that it has.
        clock: gives the moment for dates, in seconds since 1970.
    """

    below: Template | None
    name: Template | None
    clock: Callable[[], float]

    def __call__(self, path: str) -> str:
        """Return the path at the destination.

        Raises:
            PathNotAllowed: what is filled in makes a component that is no name.
            NotConfigured: it has a date, and the clock is not set.
        """
        now = self.clock()
        folder, name = posixpath.split(path)
        if self.below is not None:
            below = self.below.fill(now, path)
            folder = below if self.below.has_folder else posixpath.join(below, folder)
        return posixpath.join(folder, name if self.name is None else self.name.fill(now, path))

    @property
    def name_identity(self) -> str | list[str] | None:
        """What stands for the names that files get, over time, as JSON; `None` if they keep their own."""
        return None if self.name is None or str(self.name) == f"{{{FileWord.NAME.value}}}" else self.name.identity()

    @property
    def has_date(self) -> bool:
        """Whether the path depends on the time."""
        return any(each is not None and each.has_date for each in (self.below, self.name))
