"""Addresses for runtimes side by side."""

from __future__ import annotations

import ipaddress

import pytest

from localedge.testing import worker_address


def test_each_worker_of_each_run_has_a_loopback_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = set()
    for run in ("one", "two"):
        monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", run)
        for worker in range(3):
            monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{worker}")
            addresses.add(worker_address())
            assert worker_address() in addresses
    assert len(addresses) == 6
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)
