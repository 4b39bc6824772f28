"""An image that was built, laid open: its root file system, its configuration, and what it adds to its base."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images._engine import Engine
from images._platforms import Platform


@dataclass(frozen=True)
class Image:
    """An image's root file system in a directory, for as long as it is opened."""

    tag: str
    platform: Platform
    root: Path
    config: dict[str, Any]

    @property
    def user(self) -> tuple[int, int]:
        """The numeric user and group that its process runs as."""
        user, _, group = self.config["User"].partition(":")
        return int(user), int(group)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that it sets."""
        return dict(item.partition("=")[::2] for item in self.config["Env"])


@contextlib.contextmanager
def opened(engine: Engine, tag: str, platform: Platform) -> Iterator[Image]:
    """Open an image."""
    with engine.root(tag, platform) as root:
        yield Image(tag, platform, root, engine.config(tag))


def added_files(base: Path, image: Path) -> dict[str, int]:
    """Return the files that an image has and its base has not, or has otherwise, with their sizes in bytes."""
    before = dict(_files(base))
    return {path: status.st_size for path, status in _files(image) if not _same(before.get(path), status)}


def _files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            yield os.path.relpath(path, root), os.lstat(path)


def _same(before: os.stat_result | None, after: os.stat_result) -> bool:
    # An archive keeps whole seconds of the times
    return before is not None and (stat.S_IFMT(before.st_mode), before.st_size, int(before.st_mtime)) == (
        stat.S_IFMT(after.st_mode),
        after.st_size,
        int(after.st_mtime),
    )
