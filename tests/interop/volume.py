"""The same uploads many times: what depends on how a server's workers overtake each other shows at random only."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tests.interop import matrix, report
from tests.interop.checks import LIMIT, OTHER_BYTES, SIZES, Target, digest
from tests.interop.kinds import KINDS, Kind

from iot.sftp.client import SFTPError

TIMES = 200
SERVERS = ("pkg-sftp", "pkg-sftp-requests")  # they take WRITEs in parallel, and FSTAT beside them


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, flush=True)  # noqa: T201 - a program's way to speak


def results(kinds: list[Kind]) -> list[dict[str, Any]]:
    """Return for each server and size how many of so many uploads failed."""
    found = []
    for kind in kinds:
        if kind.name not in SERVERS or kind.missing():
            continue
        with (
            tempfile.TemporaryDirectory(prefix="iot-sftp-interop-", ignore_cleanup_errors=True) as base,
            matrix.running(kind, Path(base)) as target,
        ):
            for words, size in SIZES.items():
                if size:
                    target.begin(f"volume-{size}")
                    found.append({"server": kind.name, "size": words, "times": TIMES, **_many(target, size)})
                    say(f"{kind.name} {words}: {found[-1]['failures']} of {TIMES} uploads failed")
    return found


def _many(target: Target, size: int) -> dict[str, Any]:
    failures, first = 0, ""
    source = target.write(target.local("source"), size)
    wanted = digest(source)
    with target.session() as session:
        for number in range(TIMES):
            try:
                session.upload_file(str(source), target.remote(f"file-{number % 4}"), timeout=LIMIT)
                why = "" if digest(target.on_disk(f"file-{number % 4}")) == wanted else OTHER_BYTES
            except SFTPError as error:
                why = f"{error.code}: {error}"
            failures += bool(why)
            first = first or why
    return {"failures": failures, "first": first}


def main(kinds: list[Kind] | None) -> int:
    """Print the results and keep them; return the exit status."""
    found = results(kinds or KINDS)
    if found:
        report.keep(report.VOLUME, found)
    return 1 if any(one["failures"] for one in found) else 0
