"""A fleet on this machine, for the examples to call."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from localedge import LocalFleet
from localedge.testing import worker_address

# On Python 3.14, and on ARM, there is no azure-iot-hub: see the marker in pyproject.toml.
collect_ignore = [] if find_spec("azure.iot.hub") else ["test_calling.py"]

NORTH = [f"north-{number}" for number in range(4)]
SOUTH = [f"south-{number}" for number in range(3)]


@pytest.fixture(scope="module")
def fleet() -> Iterator[LocalFleet]:
    """Some devices at two sites, each with the module as it is deployed."""
    tags = {**{name: {"site": "north"} for name in NORTH}, **{name: {"site": "south"} for name in SOUTH}}
    template = Path(__file__).parents[2] / "deployment.template.json"
    with LocalFleet(tags, template, address=worker_address()) as fleet:
        yield fleet
