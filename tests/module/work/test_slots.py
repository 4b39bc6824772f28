"""Places are given in order, calls and tasks share them fairly, and tasks make way for calls."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import Busy
from iot.sftp.module._work.slots import Kind, Slots, TimeSlice, Turn


class Line:
    """Those who ask for places, and who got one, in this order."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.came: list[str] = []
        self.turns: dict[str, Turn] = {}
        self.was_preempted = threading.Event()

    def ask(self, name: str, kind: Kind = Kind.CALL) -> None:
        def preempt(_turn: Turn) -> None:
            self.was_preempted.set()

        turn = self.slots.ask(kind, lambda _turn: self.came.append(name), preempt if kind is Kind.TASK else None)
        self.turns[name] = turn

    def leave(self, name: str) -> None:
        self.turns[name].leave()


def test_whoever_comes_first_is_first() -> None:
    line = Line(Slots(2))
    for name in "abcde":
        line.ask(name)
    assert line.came == ["a", "b"]
    line.leave("b")
    line.leave("a")
    line.leave("a")  # a second time changes nothing
    assert line.came == ["a", "b", "c", "d"]


def test_a_call_that_waits_no_more_is_passed_over() -> None:
    line = Line(Slots(1))
    for name in "abc":
        line.ask(name)
    assert line.turns["b"].withdraw()
    assert not line.turns["a"].withdraw()  # it has its place already
    line.leave("a")
    assert line.came == ["a", "c"]


def test_a_free_place_goes_to_the_side_that_has_fewer() -> None:
    line = Line(Slots(2))
    for name in ("call 1", "call 2", "call 3"):
        line.ask(name)
    line.ask("task 1", Kind.TASK)
    line.leave("call 1")
    assert line.came[-1] == "task 1"  # though call 3 came before


def test_with_one_place_calls_and_tasks_take_turns() -> None:
    line = Line(Slots(1))
    for number in range(3):
        line.ask(f"call {number}")
    for number in range(3):
        line.ask(f"task {number}", Kind.TASK)
    while len(line.came) < 6:
        line.leave(line.came[-1])
    assert line.came == ["call 0", "task 0", "call 1", "task 1", "call 2", "task 2"]


def test_the_youngest_task_makes_way_for_a_call_once_it_has_had_its_time() -> None:
    line = Line(Slots(2, time_slice=0.05))
    line.ask("task 1", Kind.TASK)
    line.ask("task 2", Kind.TASK)
    line.ask("call")
    assert not line.was_preempted.is_set()
    assert line.was_preempted.wait(60)
    line.leave("task 2")
    assert line.came == ["task 1", "task 2", "call"]


def test_a_task_with_a_short_slice_is_preempted_beside_one_with_a_long_one() -> None:
    line = Line(Slots(1, time_slice=3_600))
    line.ask("patient", Kind.TASK)
    line.ask("call")  # which is looked after in an hour
    line.leave("patient")
    line.leave("call")
    line.ask("task", Kind.TASK)
    line.turns["task"].slice = 0.05
    line.ask("another call")
    assert line.was_preempted.wait(60)


def test_a_slice_grows_until_something_of_it_is_kept() -> None:
    time_slice = TimeSlice(2)
    seconds = []
    for first in (100, 100, 100, 5_000, 5_000, 9_000):  # bytes that are there when a try begins
        for count in (0, first, first + 1_000_000):
            time_slice.note(count)
        time_slice.interrupt()
        seconds.append(time_slice.seconds)
    assert seconds == [4, 8, 16, 2, 4, 2]


def test_a_time_slice_grows_while_a_folder_is_listed_until_files_are_done() -> None:
    time_slice = TimeSlice(2)
    seconds = []
    for files in (None, None, 3, 1, 0):
        if files is not None:
            time_slice.note(10, files=files)
        time_slice.interrupt()
        seconds.append(time_slice.seconds)
    assert seconds == [4, 8, 2, 2, 4]


def test_without_a_free_thread_slots_are_granted_and_preemption_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    line = Line(Slots(1, time_slice=0.01))
    line.ask("task", Kind.TASK)
    with monkeypatch.context() as none_left:
        none_left.setattr(threading.Timer, "start", start)
        line.ask("call")
        assert line.came == ["task"]
    line.ask("another call")
    assert line.was_preempted.wait(60)
    line.leave("task")
    assert line.came == ["task", "call"]


def test_no_task_makes_way_while_a_call_has_a_place() -> None:
    line = Line(Slots(2, time_slice=0))
    line.ask("call 1")
    line.ask("task", Kind.TASK)
    line.ask("call 2")
    assert not line.was_preempted.is_set()


def test_calls_that_are_too_many_are_refused_and_tasks_are_not() -> None:
    line = Line(Slots(1, length=2))
    for name in "abc":
        line.ask(name)
    with pytest.raises(Busy, match="try again later"):
        line.ask("d")
    line.ask("task", Kind.TASK)


def test_more_slots_are_granted_at_once() -> None:
    line = Line(Slots(1))
    for name in "abc":
        line.ask(name)
    line.slots.widen(3)
    assert line.came == ["a", "b", "c"]
    line.slots.widen(1)
    line.ask("d")
    line.leave("a")
    line.leave("b")
    assert line.came == ["a", "b", "c"]
    line.leave("c")
    assert line.came == ["a", "b", "c", "d"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["call", "task", "leave", "withdraw", "widen"]), st.integers(0, 30)), max_size=60
)


@given(width=st.integers(1, 4), steps=STEPS)
def test_in_any_order_of_events_each_turn_comes_and_slots_suffice(width: int, steps: list[tuple[str, int]]) -> None:
    slots = Slots(width, time_slice=1_000)
    line = Line(slots)
    gone: set[str] = set()
    widest = width
    for number, (step, value) in enumerate(steps):
        inside = [name for name in line.came if name not in gone]
        waiting = [name for name in line.turns if name not in line.came and name not in gone]
        if step in ("call", "task"):
            line.ask(f"{step} {number}", Kind(step))
        elif step == "leave" and inside:
            name = inside[value % len(inside)]
            gone.add(name)
            line.leave(name)
        elif step == "withdraw" and waiting:
            name = waiting[value % len(waiting)]
            assert line.turns[name].withdraw()
            gone.add(name)
        elif step == "widen":
            width = value % 4 + 1
            widest = max(widest, width)
            slots.widen(width)
        inside = [name for name in line.came if name not in gone]
        waiting = [name for name in line.turns if name not in line.came and name not in gone]
        assert len(inside) <= widest
        assert not waiting or len(inside) >= width
