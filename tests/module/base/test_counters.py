"""The counts that the parts of the module keep of their own work."""

from __future__ import annotations

import pytest

from iot.sftp.client import Cancelled, FolderProgress, NotFound
from iot.sftp.module._base.counters import Durations, LabelledCounter, TransferCounters


def test_known_labels_begin_at_zero() -> None:
    tally = LabelledCounter(("a",), ("b",))
    tally.add("b")
    tally.add("c", "d", count=2)
    assert tally.counts() == {("a",): 0, ("b",): 1, ("c", "d"): 2}


def test_the_longest_duration_expires_after_two_windows_and_the_sum_does_not() -> None:
    now = 100.0
    durations = Durations(window=10, clock=lambda: now)
    durations.add("a", 7.0)
    durations.add("a", 1.0)
    assert max(durations.durations()["a"].longest) == 7.0
    now = 119.0
    assert max(durations.durations()["a"].longest) == 7.0
    now = 120.0
    durations.add("a", 2.0)
    known = durations.durations()["a"]
    assert (known.count, known.seconds, max(known.longest)) == (3, 10.0, 2.0)


def test_a_transfer_that_raises_has_failed_unless_it_was_interrupted() -> None:
    moves = TransferCounters()

    def transfer(method: str, error: Exception, progress: FolderProgress | None = None) -> None:
        with moves.one(method, "mes") as move:
            if progress is not None:
                move.note(progress)
            raise error

    with pytest.raises(NotFound):
        transfer("upload_file", NotFound("x"))
    with pytest.raises(Cancelled):
        transfer("download_files", Cancelled("x"), FolderProgress(files=2, failed=1))
    counts = {labels: count for labels, count in moves.files.counts().items() if count}
    assert counts == {
        ("mes", "upload", "failed"): 1,
        ("mes", "download", "completed"): 2,
        ("mes", "download", "failed"): 1,
        ("mes", "download", "interrupted"): 1,
    }
