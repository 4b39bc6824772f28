"""The pages of the site: those in `docs/`, those elsewhere in the project, and the files that they refer to."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from book._lists import indent_lists

OTHER_PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "vulnerabilities.md",
    "CHANGELOG.md": "changelog.md",
    "tools/localedge/README.md": "localedge.md",
    "benchmarks/results.md": "benchmarks.md",
    "benchmarks/footprint.md": "footprint.md",
    "README.md": "index.md",  # of the site, which says what is where
}
"""Pages outside `docs/`, and their names in the site."""

_PICTURES = (".svg", ".png")
_LANGUAGES = {".py": "python", ".json": "json", ".yml": "yaml", ".toml": "toml"}
_LINK = re.compile(
    r"(?P<code>^ *(?P<fence>```+)[^\n]*\n.*?^ *(?P=fence) *$|`[^`\n]*`)|\]\((?P<target>[^)\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


class BrokenLinkError(Exception):
    """A page links to what is not there."""


def stage(root: Path, target: Path) -> None:
    """Write the source of the site.

    Args:
        root: the project.
        target: the folder to write into; what was in it is deleted.

    Raises:
        BrokenLinkError: a page links to a file that does not exist.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "docs", target)
    site = _Site(root, target)
    for page in sorted((root / "docs").rglob("*.md")):
        site.write_page(page.relative_to(root).as_posix())
    for other in OTHER_PAGES:
        if other != "README.md":
            site.write_page(other)


class _Site:
    """The site's source while it is written."""

    def __init__(self, root: Path, target: Path) -> None:
        self._root = root
        self._target = target

    def write_page(self, page: str) -> None:
        """Write one page of the project, with links that lead to pages of the site."""
        place = _place_of(page)
        text = (self._root / page).read_text(encoding="utf-8")

        def replacement(link: re.Match[str]) -> str:
            if link["code"]:
                return link[0]
            return f"]({self._link(page, place, link['target'])})"

        self._write(place, indent_lists(_LINK.sub(replacement, text)))

    def _link(self, page: str, place: str, target: str) -> str:
        """Return where a link of a page leads to in the site."""
        name, hash_sign, anchor = target.partition("#")
        if not name or ":" in name:
            return target
        file = normpath(join(dirname(page), name))
        if not (self._root / file).exists() or file.startswith("../"):
            message = f"{page} links to '{target}', which is not there"
            raise BrokenLinkError(message)
        destination = _place_of(file)
        if not (self._target / destination).exists() and file not in OTHER_PAGES:
            self._write_file(file, destination)
        return f"{relpath(destination, dirname(place) or '.')}{hash_sign}{anchor}"

    def _write_file(self, file: str, place: str) -> None:
        """Write a file that is no page: a picture as it is, a text as a page that shows it."""
        source = self._root / file
        if file.endswith(_PICTURES):
            os.makedirs((self._target / place).parent, exist_ok=True)
            shutil.copyfile(source, self._target / place)
            return
        if source.is_dir():
            text = "\n".join(sorted(one.name for one in source.iterdir()))
        else:
            text = source.read_text(encoding="utf-8").rstrip("\n")
        language = _LANGUAGES.get(source.suffix, "text")
        head = f"---\nsearch:\n  exclude: true\n---\n\n# {source.name}\n\n`{file}`\n\n"
        self._write(place, f"{head}````{language}\n{text}\n````\n")

    def _write(self, place: str, text: str) -> None:
        file = self._target / place
        os.makedirs(file.parent, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _place_of(file: str) -> str:
    """Return the name that a file of the project has in the site."""
    if file in OTHER_PAGES:
        return OTHER_PAGES[file]
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    return f"source/{file}" if file.endswith(_PICTURES) else f"source/{file}.md"
