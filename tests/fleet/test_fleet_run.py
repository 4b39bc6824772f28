"""What `make fleet` does, with a few devices, and with some hundred simulated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fleet.devices import running
from tests.fleet.figures import Figures
from tests.fleet.simulation import simulated

from localedge.testing import worker_address

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 300  # seconds: a hang; half of a run waits for intervals of the module


@pytest.mark.timeout(LIMIT)
def test_devices_have_their_folders_keys_and_costs_from_one_deployment(tmp_path: Path) -> None:
    figures = Figures()
    with running(tmp_path / "devices", 2, 2, worker_address(), figures) as devices:
        devices.run()
    assert figures.wrong == []
    assert figures.figures["devices whose logins were seen"] == "2"
    figures.write(tmp_path / "report.md")
    assert "**0 wrong.**" in (tmp_path / "report.md").read_text()


@pytest.mark.nightly
@pytest.mark.timeout(LIMIT)
def test_keys_and_jobs_of_more_devices_than_a_page_holds(tmp_path: Path) -> None:
    figures = Figures()
    with simulated(tmp_path / "simulated", 201, worker_address(), figures) as simulation:
        simulation.run(figures)
    assert figures.wrong == []
