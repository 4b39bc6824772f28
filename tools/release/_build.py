"""Building the source archive and the wheel, so that the same commit gives the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path

from release._checkout import Checkout
from release._command import run
from release._errors import ReleaseError

_DIRECTORY, _FILE = 0o755, 0o644


def build_twice(checkout: Checkout, work: Path, dist: Path) -> list[Path]:
    """Build in two places, with other settings; return the files in `dist`, which are the same twice.

    Raises:
        ReleaseError: they differ, or cannot be built.
    """
    first = _build(checkout, work / "first", {"TZ": "UTC", "PYTHONHASHSEED": "1", "LC_ALL": "C.UTF-8"})
    second = _build(checkout, work / "another-place", {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2", "LC_ALL": "C"})
    if first.keys() != second.keys():
        raise ReleaseError(f"two builds gave {sorted(first)} and {sorted(second)}")
    differing = [name for name in first if first[name] != second[name]]
    if differing:
        raise ReleaseError(f"two builds of one commit differ: {', '.join(differing)}")
    dist.mkdir(parents=True)
    for name, content in first.items():
        (dist / name).write_bytes(content)
    return [dist / name for name in sorted(first)]


def sums(directory: Path) -> str:
    """Return the hashes of all files below a directory, as `sha256sum` writes and checks them there."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(directory).as_posix()}\n" for path in files
    )


def repacked(archive: bytes, moment: int) -> bytes:
    """Return a source archive whose bytes follow from the contents of its files alone.

    setuptools makes wheels so, if SOURCE_DATE_EPOCH is set. In a source archive it keeps owners, the times of files,
    and that of the build.
    """
    content, packed = io.BytesIO(), io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            kept = tarfile.TarInfo(member.name)
            kept.type, kept.size, kept.mtime = member.type, member.size, moment
            kept.mode = _DIRECTORY if member.isdir() or member.mode & 0o100 else _FILE
            new.addfile(kept, old.extractfile(member) if member.isreg() else None)
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=moment) as file:
        file.write(content.getvalue())
    return packed.getvalue()


def _build(checkout: Checkout, place: Path, variables: dict[str, str]) -> dict[str, bytes]:
    """Build in a copy of the commit; return the files by their names."""
    source = checkout.copy(place / "source")
    variables = {**variables, "SOURCE_DATE_EPOCH": str(checkout.moment)}
    built = place / "dist"
    # The environment has what requirements/build.txt pins: nothing else is fetched
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(source))
    run(*command, cwd=place, variables=variables)
    files = {path.name: path.read_bytes() for path in built.iterdir()}
    return {
        name: repacked(content, checkout.moment) if name.endswith(".tar.gz") else content
        for name, content in files.items()
    }
