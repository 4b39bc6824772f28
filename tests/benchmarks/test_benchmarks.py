"""The benchmarks run, tiny, with all clients that are here; nothing is said of speed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from benchmarks import bench, concurrency, growth, report
from benchmarks.bench import Bench
from benchmarks.figures import figures
from benchmarks.goals import GOALS, through_socks, times_as_fast
from benchmarks.machine import about
from benchmarks.peers import PEERS, Job, OpenSSH, Peer, Place
from benchmarks.processes import run
from benchmarks.proxy import Link
from benchmarks.rows import MIB, ROWS, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what processes take is read from Linux")
ROOT = Path(__file__).parents[2]
TINY = Row("tiny", "a tiny row", ("get", "put"), 1000, clients=("ours", "openssh"), repeats=2)
CHEAP = replace(TINY, kinds=("get",), clients=("openssh",))  # ours imports for a second, in each of its processes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench.running(tmp_path_factory.mktemp("benchmarks")) as running:
        yield running


def say_nothing(_: str) -> None:
    """Be silent."""


def does_its_work_rightly(row: Row, server: Bench) -> None:
    here = {client for client in row.clients if PEERS[client].version() and not PEERS[client].lacks(row.kinds[0])}
    result = bench.measure(server, row, say_nothing)

    failed = [sample for sample in result["samples"] if sample["failure"]]
    assert failed == []
    assert {sample["client"] for sample in result["samples"]} == here
    assert set(result["missing"]) == set(row.clients) - here


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name", ["loopback", "small", "folder", "many", "same", "list", "delete-folders20", "mkdir20", "hops"]
)
def test_each_client_that_is_here_does_each_kind_of_work_rightly(name: str, server: Bench) -> None:
    does_its_work_rightly(replace(ROWS[name].quick(), link=Link()), server)


def test_our_client_and_another_one_do_their_work_rightly(server: Bench) -> None:
    does_its_work_rightly(replace(ROWS["loopback"].quick(), clients=("ours", "openssh")), server)


def test_a_far_server_is_reached_through_the_proxy(server: Bench) -> None:
    result = bench.measure(server, replace(CHEAP, link=Link(0.02, 1e6), repeats=1), say_nothing)

    assert [sample["failure"] for sample in result["samples"]] == [None] * 2
    assert min(sample["seconds"] for sample in result["samples"]) > 0.1  # logging in takes more than five round trips
    assert result["proxy_alone"]["round_trip"] >= 0.02


def test_clients_take_turns_and_another_one_begins_each_time() -> None:
    order = list(bench.turns(replace(TINY, once=("openssh",), repeats=3), [PEERS["ours"], PEERS["openssh"]]))

    told = [(repeat, kind, peer.name) for repeat, kind, peer in order]
    assert told[:4] == [(0, "get", "ours"), (0, "get", "openssh"), (0, "put", "ours"), (0, "put", "openssh")]
    assert told[4:] == [(1, "get", "ours"), (1, "put", "ours"), (2, "get", "ours"), (2, "put", "ours")]


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in growth.COMMANDS if growth.is_here(name)])
def test_a_log_that_grows_is_kept_up_with_by_each_client_that_is_here(name: str, server: Bench) -> None:
    taken = growth.measure(server, name, growth.Work(200_000, 20_000, 2), Link())

    assert taken.grown <= taken.wire


def test_a_log_that_grows_is_a_section_of_the_report(
    server: Bench, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "ALL", (growth.OURS, "of nobody"))
    measured = growth.measure_all(server, growth.Work(200_000, 20_000, 2), say_nothing, Link())

    text = report.document(results | {"growth": measured})

    assert "## A log of 0.2 MB that grows by 0.02 MB, 2 times, 0 ms round trip\n" in text
    assert f"\n| {growth.OURS} | 2 | " in text
    assert "of nobody" not in text
    assert 40_000 <= measured["taken"][growth.OURS]["wire"] < 120_000  # not all of it


def test_short_calls_beside_transfers_are_timed() -> None:
    beside, alone = concurrency.measure(concurrency.QUICK)

    assert beside.moved > 0
    assert alone.moved == 0
    assert 0 < beside.median <= beside.p99 <= beside.most
    assert concurrency.row("beside", beside).startswith(f"| beside | {len(beside.seconds)} |")


class MovesNothing(OpenSSH):
    name = "moves-nothing"

    def command(self, place: Place, job: Job, directory: Path) -> list[str]:  # noqa: ARG002 - it does nothing
        return ["true"]


class Complains(OpenSSH):
    name = "complains"

    def command(self, place: Place, job: Job, directory: Path) -> list[str]:  # noqa: ARG002 - it does nothing
        return ["sh", "-c", "echo no such luck >&2; exit 3"]


@pytest.mark.parametrize(
    "peer, words", [(MovesNothing(), "one is missing"), (Complains(), "3: no such luck")], ids=["silent", "loud"]
)
def test_a_client_that_fails_is_told_of_and_has_no_figures(
    peer: Peer, words: str, server: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, peer.name, peer)

    result = bench.measure(server, replace(CHEAP, clients=(peer.name, "openssh")), say_nothing)

    assert figures(result, peer.name, "get") is None
    assert figures(result, "openssh", "get") is not None
    assert words in report.table(result)


def test_clients_that_are_measured_once_are_named(server: Bench) -> None:
    result = bench.measure(server, replace(CHEAP, once=("openssh",)), say_nothing)

    assert "2 runs of each, in turn: median (least to most). Once: OpenSSH sftp." in report.table(result)


def test_a_wrong_byte_is_noticed(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.write_bytes(b"right")
    dest.write_bytes(b"wrong")

    assert bench.what_is_wrong(Job("get", ((str(source), str(dest)),))) == "dest is not what was sent"


# --- one process ---


BURN = """
import time
data = b"x" * 50_000_000
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
"""


def test_memory_and_processor_time_of_a_process_and_its_children_are_seen(tmp_path: Path) -> None:
    (tmp_path / "burn.py").write_text(BURN)
    command = ["/bin/sh", "-c", f"{sys.executable} burn.py; true"]

    taken = run(command, {}, tmp_path, 60)

    assert taken.failure is None
    assert taken.peak_bytes > 50_000_000
    assert 0.3 <= taken.cpu_seconds <= taken.seconds * 2


def test_a_client_that_does_not_end_is_ended(tmp_path: Path) -> None:
    assert run(["sleep", "60"], {"PATH": "/usr/bin:/bin"}, tmp_path, 0.2).failure == "more than 0.2 s"


# --- what is told ---


@pytest.fixture(scope="module")
def results(server: Bench) -> dict[str, Any]:
    """Give results in which every row has the numbers of a small run, and of one that took half as long again."""
    measured = bench.measure(server, replace(TINY, repeats=1), say_nothing)
    measured["samples"] += [sample | {"seconds": sample["seconds"] * 1.5} for sample in measured["samples"]]
    measured["row"]["repeats"] = 2
    whole = about(quick=True, directory=server.directory)
    for row in ROWS.values():
        kinds = dict(zip(("get", "put"), row.kinds * 2, strict=False))
        samples = [sample | {"kind": kinds[sample["kind"]]} for sample in measured["samples"]]
        link = {"round_trip": row.link.round_trip, "rate": row.link.rate}
        told = {"title": row.title, "kinds": row.kinds, "size": max(1, row.size), "files": row.files, "link": link}
        alone = None if row.link.is_direct else {"speed": 1e9, "round_trip": row.link.round_trip}
        whole["rows"][row.name] = measured | {
            "row": measured["row"] | told,
            "samples": samples,
            "proxy_alone": alone,
            "missing": {},
        }
    return whole


def test_the_report_tells_of_every_row_every_goal_and_every_client(results: dict[str, Any]) -> None:
    text = report.document(results)

    assert all(f"## {row.title[:1].upper()}{row.title[1:]}\n" in text for row in ROWS.values())
    assert all(peer.title in text for peer in PEERS.values())
    goals = text.partition("## Goals")[2].partition("\n## ")[0]
    assert goals.count("\n| ") == len(GOALS) + 2
    assert "3 x pysftp | not measured" in goals  # it took no part


def test_tables_have_as_many_cells_in_each_line_as_in_their_heading(results: dict[str, Any]) -> None:
    for paragraph in report.document(results).split("\n\n"):
        if paragraph.startswith("|"):
            assert len({line.count("|") for line in paragraph.splitlines()}) == 1


def test_what_is_written_can_be_drawn_again_and_the_plots_are_drawings(results: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "output"
    report.write(results, output)
    before = {file.name: file.read_bytes() for file in output.iterdir()}

    report.write(json.loads(before["results.json"]), output)

    assert {file.name: file.read_bytes() for file in output.iterdir()} == before
    plots = [name for name in before if name.endswith(".svg")]
    assert len(plots) == 4
    assert all(ElementTree.fromstring(before[name]).tag.endswith("svg") for name in plots)  # noqa: S314 - our own


def test_times_as_fast_is_told_without_the_empty_run_and_as_whole_processes() -> None:
    def sample(client: str, seconds: float, *, empty: bool) -> dict[str, Any]:
        taken = {"seconds": seconds, "cpu_seconds": 1.0, "peak_bytes": 1, "server_cpu_seconds": 0.0}
        return taken | {"client": client, "kind": "get", "empty": empty, "proxy_cpu_seconds": 0.0, "failure": None}

    samples = [sample("ours", 0.5, empty=True), sample("ours", 1.5, empty=False)]
    samples += [sample("openssh", 0.1, empty=True), sample("openssh", 4.6, empty=False)]

    verdict = times_as_fast("openssh", 4.0)({"samples": samples}, "get")

    assert verdict is not None
    assert verdict.ours == "4.50 x"
    assert verdict.other == "3.07 x as whole processes"
    assert verdict.reached is True


def test_a_way_through_socks_is_judged_beside_the_direct_one_and_told_beside_the_proxy_alone() -> None:
    def sample(client: str, seconds: float, *, empty: bool) -> dict[str, Any]:
        taken = {"seconds": seconds, "cpu_seconds": 1.0, "peak_bytes": 1, "server_cpu_seconds": 0.0}
        return taken | {"client": client, "kind": "get", "empty": empty, "proxy_cpu_seconds": 0.0, "failure": None}

    samples = [sample(client, 0.5, empty=True) for client in ("ours", "ours_socks")]
    samples += [sample("ours", 1.5, empty=False), sample("ours_socks", 2.5, empty=False)]
    result = {"row": {"size": 200 * MIB, "files": 1}, "samples": samples}

    told = [through_socks(1.25)(result | more, "get") for more in ({}, {"socks_alone": 100.0 * MIB})]

    assert [verdict and (verdict.ours, verdict.other, verdict.reached) for verdict in told] == [
        ("2.00 of the direct way", "", False),
        ("2.00 of the direct way", "1.00 of the proxy alone", False),
    ]


def command(*options: str) -> subprocess.CompletedProcess[str]:
    ours = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(ours, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.skipif(shutil.which("sftp") is None, reason="OpenSSH's client is not here")
def test_the_command_measures_what_it_is_asked_for(tmp_path: Path) -> None:
    output = tmp_path / "output"

    done = command("--rows", "loopback", "--clients", "openssh", "--quick", "--output", str(output))

    assert done.stderr == ""
    assert "OpenSSH sftp | get" in done.stdout
    assert "**A quick run" in (output / "results.md").read_text()


def test_the_command_names_the_rows_and_clients_that_there_are() -> None:
    assert "'nearby' is none of loopback, " in command("--rows", "nearby").stderr
