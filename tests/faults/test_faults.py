"""Whatever breaks: each call is answered once and in time, each file is old or new, nothing is left, nothing leaks.

`make test` lets a few faults strike; `make test-faults` all of them, with either server; `make soak` for long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from tests.faults.drive import Drive, driving
from tests.faults.failing_connections import run_cycles
from tests.faults.faults import FAULTS, Fault
from tests.faults.report import Report
from tests.faults.scene import SERVERS

SEED = os.environ.get("SFTP_TEST_SEED") or str(time.time_ns())
SELECTION = ("hub drops the connection", "server connection is cut at any byte", "module is killed")


@pytest.fixture(scope="module", params=SERVERS)
def drive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[Drive]:
    """A device with a real server, and what drives it; all faults of a file strike the same one."""
    directory = tmp_path_factory.mktemp(f"faults-{request.param}")
    with driving(directory, address, request.param, SEED, Report(SEED)) as drive:
        yield drive


@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_goes_wrong_while(drive: Drive, fault: Fault) -> None:
    assert drive.step(fault) == [], f"SFTP_TEST_SEED={SEED}"


def test_a_few_faults_do_no_harm(another_address: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("faults")
    with driving(directory, another_address, "OpenSSH", SEED, Report(SEED)) as drive:
        for fault in FAULTS:
            if fault.name in SELECTION:
                assert drive.step(fault) == [], f"{fault.name}, SFTP_TEST_SEED={SEED}"


@pytest.mark.faults
@pytest.mark.timeout(400)
def test_connections_that_fail_cost_nothing_in_the_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert run_cycles(tmp_path_factory.mktemp("cycles"), 400)["wrong"] == []
