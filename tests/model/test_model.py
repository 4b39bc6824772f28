"""Some hundred steps of the model, the same ones each time: `make soak` takes thousands, others each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.model.figures import Figures
from tests.model.running import MACHINES, parts, run

if TYPE_CHECKING:
    from tests.model.machine import Machine

EXAMPLES, STEPS = 5, 20  # of each machine: some 300 steps of all
SEED = 15


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_each_version_arrives_once_and_whole_whatever_goes_wrong(machine: type[Machine]) -> None:
    figures = Figures()
    with parts(figures):
        run(machine, examples=EXAMPLES, steps=STEPS, seed=SEED)
    assert figures.counts["deliveries"] > 0
    assert sum(figures.faults.values()) > 0
