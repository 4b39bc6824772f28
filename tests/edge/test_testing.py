"""Addresses for runtimes side by side."""

from __future__ import annotations

import pytest

from localedge.testing import worker_address


@pytest.mark.parametrize("workers", [1, 2, 16, 254])
def test_each_worker_of_a_run_has_an_address_of_its_own(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", f"run with {workers}")
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(workers))
    addresses = set()
    for worker in range(workers):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
        addresses.add(worker_address())
        assert worker_address() in addresses
    assert len(addresses) == workers
    assert addresses <= {f"127.0.1.{number}" for number in range(1, 255)}


def test_runs_at_the_same_time_have_different_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    addresses = set()
    for run in ("one", "two"):
        monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", run)
        addresses.add(worker_address())
    assert len(addresses) == 2
