"""The matrix as tests: quick checks of servers that install quickly in `make test`, the others with `-m interop`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.interop import matrix
from tests.interop.checks import CHECKS, Check, Target
from tests.interop.kinds import KINDS, Kind


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Give one running server of a kind for all checks of a worker."""
    kind: Kind = request.param
    why = kind.missing()
    if why:
        pytest.skip(f"{kind.title}: {why}")
    with matrix.running(kind, tmp_path_factory.mktemp(kind.name)) as running:
        yield running


def _pairs() -> Iterator[object]:
    for kind in KINDS:
        for check in CHECKS:
            marks = [] if kind.fast and not check.slow else [pytest.mark.interop]
            yield pytest.param(kind, check, id=f"{kind.name}-{check.name}", marks=marks)


@pytest.mark.timeout(2 * matrix.LIMIT + 30)
@pytest.mark.parametrize("target,check", _pairs(), indirect=["target"])
def test_a_server_that_others_wrote(target: Target, check: Check) -> None:
    outcome = matrix.run(check, target)
    if outcome.status == matrix.SKIPPED:
        pytest.skip(outcome.reason)
    if outcome.status == matrix.CANNOT:
        pytest.skip(f"OpenSSH's sftp cannot do it either ({outcome.peer}): {outcome.reason}")
    assert outcome.status == matrix.PASSED, f"{outcome.reason} (OpenSSH's sftp: {outcome.peer or 'not asked'})"
