"""The matrix itself: what it calls a failure, and that its page covers every server and check."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.interop import matrix, report
from tests.interop.checks import CHECKS, OTHER_BYTES, Check, Skipped, Target
from tests.interop.kinds import KINDS, NOT_TO_BE_HAD, Kind
from tests.interop.peers import PeerFailed
from tests.servers import Server

from iot.sftp.client import PermissionDenied, Unsupported

PAGE = Path(__file__).parents[2] / "docs" / "interoperability.md"
OURS = "the server refused"


@pytest.fixture
def target(tmp_path: Path, openssh_server: Server) -> Target:
    return Target(KINDS[0], openssh_server, tmp_path)


def refuses(_: Target) -> None:
    raise PermissionDenied(OURS)


def works(_: Target) -> None:
    return


def neither(_: Target) -> None:
    raise PeerFailed("remote open: Permission denied")


def has_other_bytes(_: Target) -> None:
    raise AssertionError(f"{OTHER_BYTES}: file has 3 bytes")


def would_overwrite(_: Target) -> None:
    raise Unsupported("cannot replace this file: renaming was refused")


def needs_more(_: Target) -> None:
    raise Skipped("only root can mount")


@pytest.mark.parametrize(
    "check,status",
    [
        (Check("works", works, neither), matrix.PASSED),
        (Check("refused_to_us_alone", refuses, works), matrix.FAILED),
        (Check("refused_to_others_too", refuses, neither), matrix.CANNOT),
        (Check("refused_without_comparison", refuses, None), matrix.FAILED),
        (Check("refused_though_others_can", refuses, neither, strict=True), matrix.FAILED),
        (Check("wrong_bytes_have_no_excuse", has_other_bytes, neither), matrix.FAILED),
        (Check("never_overwritten_in_place", would_overwrite, works), matrix.DECLINED),
        (Check("not_to_be_made_here", needs_more, works), matrix.SKIPPED),
    ],
    ids=lambda value: value.name if isinstance(value, Check) else value,
)
def test_a_check_fails_only_where_another_client_can_do_it(target: Target, check: Check, status: str) -> None:
    assert matrix.run(check, target).status == status


def test_what_a_server_refuses_on_purpose_is_no_excuse(target: Target) -> None:
    target.kind = replace(target.kind, strict=True)

    assert matrix.run(Check("refused", refuses, neither), target).status == matrix.FAILED


def test_the_report_has_the_reason_and_no_path_of_the_run(target: Target) -> None:
    def fails(target: Target) -> None:
        raise PermissionDenied(f"{target.local('a')} to {target.remote('b')}, {target.on_disk('c')}: {OURS}")

    outcome = matrix.run(Check("fails", fails, neither), target)

    assert outcome.reason == f"permission_denied: a to b, c: {OURS}"
    assert outcome.peer == "remote open: Permission denied"


def test_a_check_that_does_not_end_is_a_failure(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(matrix, "LIMIT", 0.05)

    def hangs(_: Target) -> None:
        released.wait(20)

    outcome = matrix.run(Check("hangs", hangs, None), target)
    released.set()

    assert (outcome.status, outcome.reason) == (matrix.FAILED, "TimeoutError: not done after 0.05 s")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Give what writes a page from these results."""
    monkeypatch.setattr(report, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(report, "KINDS", KINDS[:3])

    def page(*outcomes: matrix.Outcome, kind: Kind = KINDS[0]) -> str:
        report.keep(kind.name, report.result(kind, "1.2", [outcome.as_json() for outcome in outcomes], ""))
        report.write(tmp_path / "page.md")
        return (tmp_path / "page.md").read_text()

    return page


def test_the_page_counts_and_explains(kept: Callable[..., str]) -> None:
    page = kept(
        matrix.Outcome(CHECKS[0].name, matrix.PASSED, notes=["aes128-gcm"]),
        matrix.Outcome(CHECKS[1].name, matrix.FAILED, "permission_denied: a|b", "does it"),
        matrix.Outcome(CHECKS[2].name, matrix.CANNOT, "permission_denied: no", "Permission denied"),
        matrix.Outcome(CHECKS[3].name, matrix.CANNOT, "permission_denied: no", "Permission denied"),
    )

    assert f"| [{KINDS[0].title}](#{KINDS[0].name}) | 1.2 | 1 | 1 | 2 |  |  |" in page
    assert rf"- {CHECKS[1].sentence}: permission_denied: a\|b. OpenSSH's `sftp`: does it." in page
    assert f"- {CHECKS[2].sentence}, {CHECKS[3].sentence}: permission_denied: no." in page
    assert f"- {CHECKS[0].sentence}: aes128-gcm" in page


def test_the_page_says_how_a_server_keeps_up_with_files_that_grow(kept: Callable[..., str]) -> None:
    kept(matrix.Outcome(report.GROWTH, matrix.PASSED, notes=["appended to in place"]), kind=KINDS[1])
    page = kept(matrix.Outcome(report.GROWTH, matrix.CANNOT, "permission_denied: no", "no"), kind=KINDS[0])

    section = page.partition("## Files that grow")[2].partition("\n## ")[0]
    assert f"- Appended to in place: {KINDS[1].title}." in section
    assert f"- Not possible: {KINDS[0].title}." in section


def test_a_server_that_did_not_run_is_told_with_the_reason(kept: Callable[..., str]) -> None:
    page = kept(matrix.Outcome(CHECKS[0].name, matrix.PASSED))

    absent = re.search(r"## Not run here\n\n(.*?)\n\n", page, re.DOTALL)

    assert absent
    assert all(f"- {kind.title}: " in absent.group(1) for kind in KINDS[1:3])
    assert all(f"- {name}: " in absent.group(1) for name in NOT_TO_BE_HAD)


def test_the_page_of_the_documentation_is_of_these_servers_and_checks() -> None:
    page = PAGE.read_text()

    assert not [kind.title for kind in KINDS if kind.title not in page]
    assert not [check.sentence for check in CHECKS if f"| {check.sentence} |" not in page]
