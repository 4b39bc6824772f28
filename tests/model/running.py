"""How the machines are run: with one server and one process of victims for all of them, and without long pauses."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.model.calls import Calls
from tests.model.device import hurried, victims
from tests.model.folders import BatchInbox, BatchOutbox, Inbox, Outbox
from tests.model.logs import LogInbox, LogOutbox
from tests.model.machine import Machine
from tests.model.server import ModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.model.figures import Figures

MACHINES: tuple[type[Machine], ...] = (Outbox, Inbox, BatchOutbox, BatchInbox, LogOutbox, LogInbox, Calls)
STEPS = 25  # of one example


@contextmanager
def parts(
    figures: Figures, *, goes_on: bool = False, only: frozenset[str] = frozenset(), kills: bool = True
) -> Iterator[None]:
    """Run what all machines share.

    Parameters:
        figures: where they count.
        goes_on: whether violations are recorded only; else the first one ends a machine.
        only: kinds of violations that count; all of them where it is empty.
        kills: whether processes are killed.
    """
    with ExitStack() as stack:
        stack.enter_context(hurried())
        Machine.server = stack.enter_context(ModelServer().running())
        Machine.victims = stack.enter_context(victims()) if kills else None
        Machine.figures, Machine.goes_on, Machine.only = figures, goes_on, only
        yield


def run(
    machine: type[Machine],
    *,
    examples: int,
    seed: int,
    steps: int = STEPS,
    phases: Sequence[Phase] = (Phase.generate,),
) -> None:
    """Run so many examples of a machine, the same ones for the same seed.

    Raises:
        Broken: a promise was broken; its words are a script that leads there.
    """
    machine._hypothesis_internal_use_seed = seed  # what `hypothesis.seed` sets
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)
