"""The places that name the version: where they are, whether they agree, and how to change them all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from release._errors import ReleaseError

NUMBER = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"
UNRELEASED = "## [Unreleased]\n"
CHANGELOG = "CHANGELOG.md"


@dataclass(frozen=True)
class Place:
    """A place in a file.

    Attributes:
        file: relative to the root of the project.
        before: a regular expression for what comes just before the version.
        after: and for what follows.
    """

    file: str
    before: str
    after: str = ""

    def versions(self, root: Path) -> list[str]:
        """Return what is there; nothing if the place is not there any more."""
        return re.findall(f"(?:{self.before})({NUMBER})(?:{self.after})", self._text(root))

    def write(self, root: Path, version: str) -> None:
        """Put another version there."""
        pattern = f"({self.before}){NUMBER}({self.after})"
        changed = re.sub(pattern, lambda match: f"{match[1]}{version}{match[2]}", self._text(root))
        (root / self.file).write_text(changed, encoding="utf-8")

    def _text(self, root: Path) -> str:
        return (root / self.file).read_text(encoding="utf-8")


VERSION_FILE = "modules/sftp/iot/sftp/client/_version.py"
PLACES = (
    Place(VERSION_FILE, r'(?m:^)VERSION = "', '"'),
    Place("modules/sftp/module.json", r'"version": "', '"'),
    Place("docs/deploy.md", "iot-sftp-client:", "-arm64v8"),
    Place("docs/direct-methods.md", r'"versions": \{ "module": "', '"'),
    Place("docs/twin.md", r'"module": \{ "version": "', '"'),
)
# What looks like the version of an image or a wheel in any page, manifest or example
_ANYWHERE = re.compile(rf"(?:iot-sftp-client:|iot-sftp-client==|iot_sftp_client-)({NUMBER})")
_SEARCHED = ("*.md", "*.json", "docs/**/*.md", "docs/**/*.json", "deployments/*", "examples/**/*.py", "monitoring/*")


def version_of(root: Path) -> str:
    """Return the version that the code has.

    Raises:
        ReleaseError: it has none.
    """
    found = PLACES[0].versions(root)
    if len(found) != 1:
        raise ReleaseError(f'{VERSION_FILE} has to have one line VERSION = "1.2.3"')
    return found[0]


def wrong_places(root: Path, version: str) -> Iterator[str]:
    """Yield what does not name the version."""
    for place in PLACES[1:]:
        found = place.versions(root)
        if not found:
            yield f"{place.file}: the version is not where it was: correct PLACES in tools/release/_places.py"
        yield from (f"{place.file} names {other}, and the code is {version}" for other in found if other != version)
    listed = {place.file for place in PLACES}
    for path in sorted({path for pattern in _SEARCHED for path in root.glob(pattern)}):
        name = path.relative_to(root).as_posix()
        if name in listed or name == CHANGELOG or not path.is_file():
            continue
        for other in _ANYWHERE.findall(path.read_text(encoding="utf-8", errors="replace")):
            if other != version:
                yield f"{name} names {other}, and the code is {version}"


def unreleased(changelog: str) -> str:
    """Return what is under *Unreleased*."""
    return changelog.partition(UNRELEASED)[2].partition("\n## ")[0].strip()


def changelog_with(changelog: str, version: str, date: str) -> str:
    """Return the changelog, with what was under *Unreleased* under a heading of its own.

    Raises:
        ReleaseError: there is nothing under it, or the version has a heading already.
    """
    if f"\n## [{version}]" in changelog:
        raise ReleaseError(f"{CHANGELOG} has a section for {version} already")
    if not unreleased(changelog):
        raise ReleaseError(f"{CHANGELOG} has nothing under Unreleased: say what a user gets")
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n## [{version}] - {date}\n", 1)


def set_version(root: Path, version: str, date: str) -> list[str]:
    """Write a version into all its places; return the files that have changed.

    Raises:
        ReleaseError: it is not a version, or the changelog cannot have it.
    """
    if not re.fullmatch(NUMBER, version):
        raise ReleaseError(f"{version!r} is not a version such as 1.2.3 or 1.2.3rc1")
    file = root / CHANGELOG
    changelog = changelog_with(file.read_text(encoding="utf-8"), version, date)
    file.write_text(changelog, encoding="utf-8")
    for place in PLACES:
        place.write(root, version)
    return [CHANGELOG, *dict.fromkeys(place.file for place in PLACES)]
