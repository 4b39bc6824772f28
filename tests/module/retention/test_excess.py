"""Which files go is decided without touching any: oldest first, no more than has to go, and none of unknown age."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import FileVersion
from iot.sftp.module._retention.age_clock import SETTLING, STEP, UNSET_BEFORE, AgeClock
from iot.sftp.module._retention.excess import Excess
from iot.sftp.module._retention.found_file import FoundFile, OldestFiles

NOW = 1_800_000_000_000_000_000


def found(path: str, modified: int, size: int = 1, links: int = 1, changed: int = NOW) -> FoundFile:
    return FoundFile(modified, path, size, size, links, FileVersion(size, modified, changed, 1, 2))


FILES = st.lists(
    st.builds(
        found,
        st.text("abc/", min_size=1, max_size=4),
        st.integers(NOW - 100, NOW + 10),
        st.integers(0, 50),
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([NOW, NOW, UNSET_BEFORE - 1]),
    ),
    max_size=30,
    unique_by=lambda file: file.path,
)


@given(
    files=FILES,
    oldest_kept=st.none() | st.integers(NOW - 110, NOW),
    most=st.none() | st.integers(0, 400),
    space=st.tuples(st.integers(0, 300), st.integers(0, 400)),
    delivered=st.randoms(use_true_random=False),
)
def test_what_goes_is_the_least_that_keeps_all_limits_and_the_oldest(
    files: list[FoundFile],
    oldest_kept: int | None,
    most: int | None,
    space: tuple[int, int],
    delivered: random.Random,
) -> None:
    free, wanted = space
    may_go = {file.path for file in files if delivered.random() < 0.7}
    total = sum(file.size for file in files)
    excess = Excess(oldest_kept, 0 if most is None else total - most, wanted - free)
    gone, freed = list[FoundFile](), 0
    for file in sorted(files):
        if excess.is_over(file):
            break
        if excess.takes(file) and file.path in may_go:
            held, missing_before = total - sum(each.size for each in gone), wanted - free - freed
            is_old = oldest_kept is not None and file.modified < oldest_kept and file.version.changed == NOW
            assert is_old or (most is not None and held > most) or (missing_before > 0 and file.links == 1)
            freed += file.allocated * (file.links == 1)
            excess.note_removed(file, free + freed, wanted)
            gone.append(file)
    rest = [file for file in files if file not in gone and file.path in may_go]
    if oldest_kept is not None:
        assert not [file for file in rest if file.modified < oldest_kept and file.version.changed == NOW]
    if most is not None and total - sum(file.size for file in gone) > most:
        assert not rest
    if free + freed < wanted:
        assert not [file for file in rest if file.links == 1]
    assert gone == sorted(gone)


def test_space_that_is_freed_late_counts_at_once() -> None:
    excess = Excess(missing=10)
    excess.note_removed(found("a", NOW, 10), free=0, wanted=10)
    assert excess.missing == 0


@given(
    files=st.lists(st.builds(found, st.text("abcdefg", min_size=1, max_size=3), st.integers(0, 9)), max_size=60),
    room=st.integers(1, 7),
)
def test_all_files_come_in_order_however_few_there_is_room_for(files: list[FoundFile], room: int) -> None:
    files = list(dict.fromkeys(files))
    came, last = list[FoundFile](), None
    while True:
        oldest = OldestFiles(last, room)
        for file in files:
            oldest.offer(file)
        batch = oldest.in_order()
        assert len(batch) <= room
        came += batch
        if not oldest.is_full:
            break
        last = batch[-1]
    assert came == sorted(files)


class Clocks:
    """A clock that may be set, and one that may not."""

    def __init__(self, now: float) -> None:
        self.now, self.running = now, 100.0
        self.ages = AgeClock(lambda: self.now, lambda: self.running)

    def run(self, seconds: float) -> None:
        self.now += seconds
        self.running += seconds


def test_ages_count_from_a_clock_that_is_set_only() -> None:
    clocks = Clocks(0.0)
    assert clocks.ages.now() is None
    clocks.now = NOW / 1e9
    assert clocks.ages.now() is None
    clocks.run(SETTLING - 1)
    assert clocks.ages.now() is None
    clocks.run(1)
    assert clocks.ages.now() == int(clocks.now * 1e9)
    clocks.run(86_400)  # a device that slept
    assert clocks.ages.now() is not None


def test_a_clock_that_steps_makes_no_file_old() -> None:
    clocks = Clocks(NOW / 1e9)
    clocks.now += STEP / 2  # adjusted, not set
    assert clocks.ages.now() is not None
    clocks.now += 10 * 366 * 86_400
    assert clocks.ages.now() is None
    clocks.now -= 10 * 366 * 86_400
    assert clocks.ages.now() is None
    clocks.run(SETTLING)
    assert clocks.ages.now() is not None
