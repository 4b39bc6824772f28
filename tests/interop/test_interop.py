"""The matrix as tests: quick checks of servers that install quickly in `make test`, the others with `-m interop`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from tests.interop import matrix
from tests.interop.checks import CHECKS, Check, Target
from tests.interop.kinds import KINDS, Kind

MANY = 100  # files of a folder, which are enough for what shows with many at once


@pytest.fixture(scope="session")
def target_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Kind], Target]]:
    """Give what starts a server of a kind, once for all tests of a worker."""
    running: dict[str, Target] = {}
    with ExitStack() as stack:

        def target(kind: Kind) -> Target:
            if kind.name not in running:
                started = stack.enter_context(matrix.running(kind, tmp_path_factory.mktemp(kind.name)))
                started.many = MANY
                running[kind.name] = started
            return running[kind.name]

        yield target


def _pairs() -> Iterator[object]:
    for kind in KINDS:
        for check in CHECKS:
            marks = [] if kind.fast and not check.slow else [pytest.mark.interop]
            yield pytest.param(kind, check, id=f"{kind.name}-{check.name}", marks=marks)


@pytest.mark.timeout(2 * matrix.LIMIT + 30)
@pytest.mark.parametrize("kind,check", list(_pairs()))
def test_a_server_that_others_wrote(kind: Kind, check: Check, target_of: Callable[[Kind], Target]) -> None:
    if why := kind.missing():
        pytest.skip(f"{kind.title}: {why}")
    outcome = matrix.run(check, target_of(kind))
    if outcome.status == matrix.SKIPPED:
        pytest.skip(outcome.reason)
    if outcome.status == matrix.DECLINED:
        pytest.skip(f"the old file is not overwritten in place: {outcome.reason}")
    if outcome.status == matrix.CANNOT:
        pytest.skip(f"OpenSSH's sftp cannot do it either ({outcome.peer}): {outcome.reason}")
    assert outcome.status == matrix.PASSED, f"{outcome.reason} (OpenSSH's sftp: {outcome.peer or 'not asked'})"
