"""What the runs of a row amount to: medians with their spread, whole and without the empty run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.rows import GIB

LEAST = 0.001  # seconds: less than an empty run takes by chance is no time


@dataclass(frozen=True)
class Spread:
    """A median, with the least and the most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of some values."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known))

    def inverse(self, amount: float) -> Spread:
        """Return how much a second, where this is in how many seconds."""
        return Spread(amount / self.median, amount / self.high, amount / self.low)


@dataclass(frozen=True)
class Figures:
    """What a client took for one kind of work.

    Attributes:
        runs: how many there were.
        whole: seconds of the whole process, which starts, connects, works and ends.
        empty: the same for a file of one byte (or a folder with one name in it); a median.
        net: `whole` without `empty`.
        cpu: processor seconds of the client's whole process; a median.
        cpu_net: the same without the empty run's.
        peak: bytes of resident memory at the most, in any run.
        idle: the same in the empty runs; a median.
        server_cpu: processor seconds of the server; a median.
        proxy_cpu: processor seconds of the proxy; a median.
    """

    runs: int
    whole: Spread
    empty: float
    net: Spread
    cpu: float
    cpu_net: float
    peak: int
    idle: float
    server_cpu: float
    proxy_cpu: float

    @property
    def over_idle(self) -> float:
        """Bytes of memory beyond those of a process that has connected and moved one byte."""
        return max(0.0, self.peak - self.idle)


def figures(result: dict[str, Any], client: str, kind: str) -> Figures | None:
    """Return what a client took; `None` if it took no part, or failed."""
    samples = [one for one in result["samples"] if one["client"] == client and one["kind"] == kind]
    if not samples or any(one["failure"] for one in samples):
        return None
    empty, full = ([one for one in samples if one["empty"] is wanted] for wanted in (True, False))
    idle_seconds = _median(empty, "seconds")
    return Figures(
        runs=len(full),
        whole=Spread.of(one["seconds"] for one in full),
        empty=idle_seconds,
        net=Spread.of(max(LEAST, one["seconds"] - idle_seconds) for one in full),
        cpu=_median(full, "cpu_seconds"),
        cpu_net=max(LEAST, _median(full, "cpu_seconds") - _median(empty, "cpu_seconds")),
        peak=max(one["peak_bytes"] for one in full),
        idle=_median(empty, "peak_bytes"),
        server_cpu=_median(full, "server_cpu_seconds"),
        proxy_cpu=_median(full, "proxy_cpu_seconds"),
    )


def failures(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return client, kind and words of each failed run, once each."""
    failed = [(one["client"], one["kind"], one["failure"]) for one in result["samples"] if one["failure"]]
    return list(dict.fromkeys(failed))


def moved_bytes(result: dict[str, Any]) -> int:
    """Return how many bytes a row moves."""
    return int(result["row"]["size"]) * int(result["row"]["files"])


def files_beyond_empty(result: dict[str, Any]) -> int:
    """Return how many files a row moves beyond the one of the empty run."""
    return max(1, int(result["row"]["files"]) - 1)


def cpu_per_gib(result: dict[str, Any], taken: Figures) -> float:
    """Return the processor seconds that a client takes for a GiB, beyond those for connecting."""
    return taken.cpu_net * GIB / moved_bytes(result)


def round_trips(result: dict[str, Any], taken: Figures) -> float | None:
    """Return how many round trips a client takes for a file, if waiting for them is all that takes time."""
    seconds = result["row"]["link"]["round_trip"]
    return taken.net.median / files_beyond_empty(result) / seconds if seconds else None


def _median(samples: list[dict[str, Any]], name: str) -> float:
    return float(statistics.median(one[name] for one in samples))
