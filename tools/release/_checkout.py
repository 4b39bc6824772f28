"""The commit that is released, and copies of it."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from release._command import run
from release._errors import ReleaseError

# Whoever works in a container may not own the files; and modes of files must not depend on anybody's settings
_GIT = ("git", "-c", "safe.directory=*", "-c", "tar.umask=0022")


@dataclass(frozen=True)
class Checkout:
    """A clone whose files are those of its commit.

    Attributes:
        root: where it is.
        commit: that is checked out.
        moment: of the commit, in seconds since 1970: the time of all files that are made.
    """

    root: Path
    commit: str
    moment: int

    @classmethod
    def of(cls, root: Path) -> Checkout:
        """Look at a clone.

        Raises:
            ReleaseError: it is none, or its files are not those of its commit.
        """
        changed = run(*_GIT, "status", "--porcelain", "--untracked-files=all", cwd=root).splitlines()
        if changed:
            shown = "".join(f"\n  {line}" for line in changed[:20])
            raise ReleaseError(f"{len(changed)} files are not those of the commit: commit or remove them.{shown}")
        commit, moment = run(*_GIT, "log", "-1", "--format=%H %ct", cwd=root).split()
        return cls(root, commit, int(moment))

    def copy(self, directory: Path) -> Path:
        """Write the files of the commit, and nothing else, into a new directory."""
        directory.mkdir(parents=True)
        archive = directory.with_suffix(".tar")
        run(*_GIT, "archive", "--format=tar", f"--output={archive}", self.commit, cwd=self.root)
        with tarfile.open(archive) as files:
            files.extractall(directory, filter="tar")
        archive.unlink()
        return directory
