"""What was set out to be reached, and whether a run has reached it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import cpu_per_gib, figures, moved_bytes, round_trips
from benchmarks.rows import MIB, ROWS

Result = dict[str, Any]
FOLDER_SECONDS = 3.0
MEMORY_MIB = 16.0
MANY_MIB = 32.0  # of which half is for names, however many there are


@dataclass(frozen=True)
class Verdict:
    """What ours took, what it is compared with, and whether that is the goal; `None` if there is no bound."""

    ours: str
    other: str
    reached: bool | None


@dataclass(frozen=True)
class Goal:
    """One goal: for a kind of work in a row, in words, and how it is judged (`None`: not measured)."""

    row: str
    kind: str
    text: str
    judge: Callable[[Result, str], Verdict | None]


def times_as_fast(peer: str, factor: float) -> Callable[[Result, str], Verdict | None]:
    """Judge by the net time beside a peer's."""

    def judge(result: Result, kind: str) -> Verdict | None:
        ours, other = figures(result, "ours", kind), figures(result, peer, kind)
        if ours is None or other is None:
            return None
        net, whole = other.net.median / ours.net.median, other.whole.median / ours.whole.median
        return Verdict(f"{net:.2f} x", f"{whole:.2f} x as whole processes", net >= factor)

    return judge


def beside_direct(client: str, factor: float) -> Callable[[Result, str], Verdict | None]:
    """Judge a way to the server by its net time beside the direct one's; OpenSSH's own ratio is shown as well."""

    def judge(result: Result, kind: str) -> Verdict | None:
        ours, hop = figures(result, "ours", kind), figures(result, client, kind)
        direct, jump = figures(result, "openssh", kind), figures(result, "openssh_jump", kind)
        if ours is None or hop is None:
            return None
        longer = hop.net.median / ours.net.median
        theirs = f"OpenSSH through a jump host: {jump.net.median / direct.net.median:.2f}" if direct and jump else ""
        return Verdict(f"{longer:.2f} of the direct way", theirs, longer <= factor)

    return judge


def through_socks(factor: float) -> Callable[[Result, str], Verdict | None]:
    """Judge a SOCKS proxy's way by its time beside the direct one's; tell the share of what the proxy carries."""
    by_time = beside_direct("ours_socks", factor)

    def judge(result: Result, kind: str) -> Verdict | None:
        verdict, taken = by_time(result, kind), figures(result, "ours_socks", kind)
        if verdict is None or taken is None or "socks_alone" not in result:
            return verdict
        share = moved_bytes(result) / taken.net.median / result["socks_alone"]
        return Verdict(verdict.ours, f"{share:.2f} of the proxy alone", verdict.reached)

    return judge


def share_of_link(least: float) -> Callable[[Result, str], Verdict | None]:
    """Judge by the net speed beside the link's rate."""

    def judge(result: Result, kind: str) -> Verdict | None:
        ours = figures(result, "ours", kind)
        if ours is None:
            return None
        rate = result["row"]["link"]["rate"]
        net, whole = (moved_bytes(result) / time.median / rate for time in (ours.net, ours.whole))
        return Verdict(f"{net:.3f}", f"{whole:.3f} as a whole process", net >= least)

    return judge


def within(seconds: float) -> Callable[[Result, str], Verdict | None]:
    """Judge by the time of the whole process."""

    def judge(result: Result, kind: str) -> Verdict | None:
        ours = figures(result, "ours", kind)
        if ours is None:
            return None
        return Verdict(f"{ours.whole.median:.2f} s", f"{ours.net.median:.2f} s net", ours.whole.median < seconds)

    return judge


def processor_time(peer: str, factor: float) -> Callable[[Result, str], Verdict | None]:
    """Judge by the processor seconds for a GiB beside a peer's."""

    def judge(result: Result, kind: str) -> Verdict | None:
        ours, other = figures(result, "ours", kind), figures(result, peer, kind)
        if ours is None or other is None:
            return None
        mine, theirs = cpu_per_gib(result, ours), cpu_per_gib(result, other)
        return Verdict(f"{mine / theirs:.2f}", f"{mine:.2f} s to {theirs:.2f} s for a GiB", mine <= factor * theirs)

    return judge


def memory_under(mebibytes: float) -> Callable[[Result, str], Verdict | None]:
    """Judge by the memory beyond that of an idle process."""

    def judge(result: Result, kind: str) -> Verdict | None:
        ours = figures(result, "ours", kind)
        if ours is None:
            return None
        used = ours.over_idle / MIB
        return Verdict(f"{used:.1f} MiB", f"over {ours.idle / MIB:.1f} MiB", used < mebibytes)

    return judge


def count_round_trips(result: Result, kind: str) -> Verdict | None:
    """Show the round trips for a file beside OpenSSH's; safety sets the bound, not a number."""
    ours, other = figures(result, "ours", kind), figures(result, "openssh", kind)
    mine = round_trips(result, ours) if ours else None
    theirs = round_trips(result, other) if other else None
    if mine is None:
        return None
    return Verdict(f"{mine:.1f}", f"OpenSSH {theirs:.1f}" if theirs is not None else "", None)


def _both(row: str, text: str, judge: Callable[[Result, str], Verdict | None]) -> list[Goal]:
    kinds = ("get_folder", "put_folder") if row == "folder" else ("get", "put")
    return [Goal(row, kind, text, judge) for kind in kinds]


def _mirrors(row: str) -> list[Goal]:
    return [
        Goal(row, kind, f"at least {peer}", times_as_fast(peer, 1))
        for kind in ROWS[row].kinds
        for peer in ("rclone", "lftp")
    ]


GOALS: list[Goal] = [
    Goal("loopback", "get", "1.5 x OpenSSH's sftp", times_as_fast("openssh", 1.5)),
    Goal("loopback", "put", "1.2 x OpenSSH's sftp", times_as_fast("openssh", 1.2)),
    *_both("loopback", "at least asyncssh", times_as_fast("asyncssh", 1)),
    *_both("loopback", "3 x pysftp", times_as_fast("pysftp", 3)),
    *_both("loopback", "at most 0.6 of asyncssh's processor seconds", processor_time("asyncssh", 0.6)),
    *_both("hops", "SOCKS: within 25 % of the direct way", through_socks(1.25)),
    *_both("hops", "jump host: within 25 % of the direct way", beside_direct("ours_jump", 1.25)),
    *_both("aes256-gcm", "at least OpenSSH's sftp", times_as_fast("openssh", 1)),
    *_both("chacha20-poly1305", "at least OpenSSH's sftp", times_as_fast("openssh", 1)),
    *_both("aes128-ctr", "at least OpenSSH's sftp", times_as_fast("openssh", 1)),
    Goal("rtt50", "get", "12 x OpenSSH", times_as_fast("openssh", 12)),
    Goal("rtt50", "put", "4 x OpenSSH", times_as_fast("openssh", 4)),
    Goal("rtt200", "get", "10 x OpenSSH", times_as_fast("openssh", 10)),
    Goal("rtt200", "put", "6 x OpenSSH", times_as_fast("openssh", 6)),
    *_both("slow", "0.97 of the link", share_of_link(0.97)),
    *_both("small", "at least OpenSSH's batch", times_as_fast("openssh", 1)),
    *_both("small20", "as few round trips a file as safety allows", count_round_trips),
    *_both("folder", "under 3 s", within(FOLDER_SECONDS)),
    *_both("folder", "20 x OpenSSH", times_as_fast("openssh", 20)),
    *_mirrors("many"),
    *_mirrors("many20"),
    *_mirrors("same"),
    *_mirrors("same20"),
    Goal("most", "put_folder", "under 32 MiB over idle", memory_under(MANY_MIB)),
    Goal("most20", "get_folder", "under 32 MiB over idle", memory_under(MANY_MIB)),
    Goal("list", "list", "at least asyncssh", times_as_fast("asyncssh", 1)),
    *_both("memory", "under 16 MiB over idle", memory_under(MEMORY_MIB)),
]


def best_peer(result: Result, kind: str) -> tuple[str, float] | None:
    """Return the fastest other client, and how many times its net time ours takes less (below 1: more)."""
    ours = figures(result, "ours", kind)
    others = {
        name: taken for name in result["row"]["clients"] if name != "ours" and (taken := figures(result, name, kind))
    }
    if ours is None or not others:
        return None
    name = min(others, key=lambda other: others[other].net.median)
    return name, others[name].net.median / ours.net.median
