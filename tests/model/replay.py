"""Scripts of the model, done again: a failure's words, or a regression test."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from tests.model.people import NAMES
from tests.model.server import Moment
from tests.model.strategies import Event, Made

if TYPE_CHECKING:
    from tests.model.machine import Machine


def replay(machine: type[Machine], script: str) -> None:
    """Do what a script says (`model.begin(…)` and so on) with a machine; the parts have to be running.

    Raises:
        Broken: a promise was broken.
    """
    words: dict[str, Any] = {"Event": Event, "Made": Made, "Moment": Moment, "NAMES": NAMES, "model": machine()}
    lines = [line for line in textwrap.dedent(script).splitlines() if line != "model.finish()"]
    try:
        exec("\n".join(lines), words)  # noqa: S102 - it is our own, and was printed by the model
    finally:
        words["model"].teardown()
