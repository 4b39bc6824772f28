"""What Prometheus is told is what has happened, in a form that Azure's metrics collector takes, whatever scrapes it."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.clients import settings_of
from tests.module.conftest import section_of, wait_for_log
from tests.servers import Server, free_port

from iot.sftp.client import Cancelled, FolderProgress, NotFound, SFTPSession
from iot.sftp.module._app import metrics_server as server_module
from iot.sftp.module._app.metrics import serve
from iot.sftp.module._app.metrics_server import CONNECTIONS, MetricsServer
from iot.sftp.module._base.counters import Durations, LabelledCounter, TransferCounters
from iot.sftp.module._base.environment import METRICS_PORT, Environment
from iot.sftp.module._work.current_session import CurrentSession, Totals
from localedge import LocalEdge

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
ALERTS = (ROOT / "monitoring" / "alerts.yml").read_text()
DASHBOARD = (ROOT / "monitoring" / "grafana-dashboard.json").read_text()
IDENTITY = {"iothub", "edge_device", "module_name", "instance_number"}
PASSWORD = "Tr0ub4dor&3-nobody-may-read-this"
# A sample as Azure's metrics collector takes it: name, labels with values that are not empty, a finite number, no more
COLLECTED = re.compile(r'[a-zA-Z_:][\w:]*\{(?:\w+="[^"\\,=]+",?)+\} [\d.eE+-]+')
SIZE = 250_007
FEW = 4  # threads that come and go between two looks

# The module as it is, on a device whose file systems do not answer for a directory with a file `answers-not`
WITH_A_DEAD_DISK = """
import os, runpy, time
statvfs = os.statvfs
def waits_for_the_disk(path):
    while os.path.exists(f"{path}/answers-not"):
        time.sleep(0.05)
    return statvfs(path)
os.statvfs = waits_for_the_disk
runpy.run_module("iot.sftp.module", run_name="__main__")
"""


@dataclass
class Scrape:
    """What a module has told once."""

    text: str
    content_type: str

    @property
    def families(self) -> dict[str, Metric]:
        return {family.name: family for family in text_string_to_metric_families(self.text)}

    def value(self, name: str, **labels: str) -> float:
        """Return a sample's value; 0 if it is not there."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and sample.labels.items() >= labels.items()
        ]
        assert len(found) <= 1, found
        return found[0] if found else 0.0


def scrape(port: int) -> Scrape:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        response = connection.getresponse()
        assert response.status == 200
        return Scrape(response.read().decode(), response.headers["Content-Type"])


def scrape_until(port: int, condition: Callable[[Scrape], bool], seconds: float = 30) -> Scrape:
    end = time.monotonic() + seconds
    while True:
        with suppress(ConnectionError):  # the process is starting
            if condition(told := scrape(port)):
                return told
        assert time.monotonic() < end, "what is waited for is not told"
        time.sleep(0.1)


@dataclass
class Scraped:
    """A device whose module serves its metrics."""

    edge: LocalEdge
    port: int

    def invoke(self, method: str, payload: Any = None) -> tuple[int, Any]:
        return self.edge.invoke("sftp", method, payload)

    def scrape(self) -> Scrape:
        return scrape(self.port)


@contextmanager
def device(
    address: str,
    desired: Mapping[str, Any] | None = None,
    *,
    command: Sequence[str] = (sys.executable, "-m", "iot.sftp.module"),
    **environment: str,
) -> Iterator[LocalEdge]:
    with LocalEdge(
        address=address, desired=desired, environment=environment, command=command, restart_policy="never"
    ) as edge:
        yield edge
        assert edge.stop_module() == 0
        assert "Traceback" not in edge.module_log


@pytest.fixture(scope="module")
def scraped(shared_address: str, openssh_server: Server) -> Iterator[Scraped]:
    port = free_port()
    section = section_of(openssh_server)
    with device(shared_address, {"sftp": section}, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        yield Scraped(edge, port)


# --- what is told


def test_the_hub_and_the_session_are_told_as_they_are(scraped: Scraped) -> None:
    assert scraped.invoke("exists", {"path": "."}) == (200, True)
    told = scraped.scrape()
    assert told.value("sftp_hub_connected") == 1
    assert told.value("sftp_hub_reconnects_total") == 0
    states = {sample.labels["state"]: sample.value for sample in told.families["sftp_session_state"].samples}
    assert [state for state, value in states.items() if value] == ["connected"]
    reconnects = told.value("sftp_session_reconnects_total")
    assert scraped.invoke("disconnect") == (200, None)
    assert scraped.scrape().value("sftp_session_state", state="disconnected") == 1
    assert scraped.invoke("exists", {"path": "."}) == (200, True)
    assert scraped.scrape().value("sftp_session_reconnects_total") == reconnects + 1


def test_calls_are_counted_by_method_and_code_and_their_time_is_told(scraped: Scraped) -> None:
    before = scraped.scrape()
    scraped.invoke("exists", {"path": "."})
    scraped.invoke("delete_file", {"path": "nothing-of-this-name"})
    scraped.invoke("exists", {"paht": "."})
    told = scraped.scrape()
    for method, code in (("exists", "ok"), ("delete_file", "not_found"), ("exists", "invalid_request")):
        labels = {"method": method, "code": code}
        assert told.value("sftp_calls_total", **labels) == before.value("sftp_calls_total", **labels) + 1
    count, seconds = "sftp_call_duration_seconds_count", "sftp_call_duration_seconds_sum"
    assert told.value(count, method="exists") == before.value(count, method="exists") + 2
    assert before.value(seconds, method="exists") < told.value(seconds, method="exists") < 60
    assert 0 < told.value("sftp_call_duration_max_seconds", method="exists") < 60


def test_a_method_that_is_not_known_gives_its_name_to_no_label(scraped: Scraped) -> None:
    before = scraped.scrape()
    for number in range(5):
        assert scraped.invoke(f"no_method_{number}")[0] == 404
    told = scraped.scrape()
    labels = {"method": "unknown", "code": "unknown_method"}
    assert told.value("sftp_calls_total", **labels) == before.value("sftp_calls_total", **labels) + 5
    assert "no_method" not in told.text


def test_the_files_and_bytes_of_calls_and_tasks_are_counted_by_direction(
    scraped: Scraped, openssh_server: Server, tmp_path: Path
) -> None:
    folder = openssh_server.directory / tmp_path.name
    folder.mkdir()
    (scraped.edge.local_root / "up").mkdir()
    for name in ("a", "b"):
        (scraped.edge.local_root / "up" / name).write_bytes(bytes(SIZE))
    before = scraped.scrape()
    order = {"source": "up/a", "dest": f"{folder.name}/one"}
    assert scraped.invoke("upload_file", order) == (200, True)
    assert scraped.invoke("download_file", {"source": f"{folder.name}/one", "dest": "one"}) == (200, True)
    assert scraped.invoke("download_file", {"source": f"{folder.name}/none", "dest": "none"})[0] == 404
    assert scraped.invoke("upload_files", {"source": "up", "dest": f"{folder.name}/all"})[0] == 202
    assert scraped.invoke("upload_file", order | {"source": "up/none", "background": True})[0] == 202
    told = scrape_until(
        scraped.port,
        lambda told: all(
            told.value("sftp_tasks_ended_total", status=status) > before.value("sftp_tasks_ended_total", status=status)
            for status in ("Completed", "Failed")
        ),
    )

    def more(name: str, **labels: str) -> float:
        return told.value(name, **labels) - before.value(name, **labels)

    assert more("sftp_transferred_bytes_total", direction="upload") == 3 * SIZE
    assert more("sftp_transferred_bytes_total", direction="download") == SIZE
    assert more("sftp_transfers_total", direction="upload", outcome="completed") == 3
    assert more("sftp_transfers_total", direction="upload", outcome="failed") == 1
    assert more("sftp_transfers_total", direction="download", outcome="completed") == 1
    assert more("sftp_transfers_total", direction="download", outcome="failed") == 1
    assert more("sftp_calls_total", method="upload_files", code="accepted") == 1
    assert told.value("sftp_tasks", status="Running") == 0


def test_tasks_that_wait_for_a_server_are_told_with_their_age_and_so_is_the_reason(own_address: str) -> None:
    port, nobody = free_port(), free_port()
    section = {"host": "127.0.0.1", "port": nobody, "user": "u", "password": PASSWORD}
    rule = {"name": "sales-of-acme", "direction": "download", "source": "out", "dest": "in", "every": 3600}
    with device(own_address, {"sftp": section, "rules": [rule]}, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        order = {"source": "secret-folder/a", "dest": "b", "background": True}
        assert edge.invoke("sftp", "download_file", order)[0] == 202
        told = scrape_until(
            port,
            lambda told: (
                told.value("sftp_retries_total", kind="task") > 0 and told.value("sftp_retries_total", kind="rule") > 0
            ),
        )
        assert told.value("sftp_queue_length", queue="tasks") == 1
        assert 0 < told.value("sftp_queue_oldest_age_seconds", queue="tasks") < 60
        assert told.value("sftp_queue_length", queue="transfer_calls") == 0
        assert told.value("sftp_tasks", status="Running") == 1
        assert told.value("sftp_session_state", state="failed") == 1
        assert told.value("sftp_connection_failures_total", code="unreachable") > 0
        assert told.value("sftp_connection_failures_total", code="host_key_mismatch") == 0
        assert told.value("sftp_rule_runs_total", outcome="failed") > 0
        assert told.value("sftp_rules", state="failing") == 1
        for private in (PASSWORD, "acme", "secret-folder", "127.0.0.1", str(nobody)):
            assert private not in told.text


def test_a_host_key_that_is_refused_is_counted_as_that(own_address: str, openssh_server: Server) -> None:
    port = free_port()
    section = section_of(openssh_server, hostKeys=["SHA256:" + "A" * 43])
    with device(own_address, {"sftp": section}, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        scrape_until(port, lambda told: told.value("sftp_connection_failures_total", code="host_key_mismatch") > 0)


def test_a_hub_that_is_gone_is_told_while_it_is_and_so_is_its_return(own_address: str) -> None:
    port = free_port()
    with device(own_address, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        edge.stop_hub()
        scrape_until(port, lambda told: told.value("sftp_hub_connected") == 0)
        edge.start_hub()
        told = scrape_until(port, lambda told: told.value("sftp_hub_reconnects_total") >= 1)
        assert told.value("sftp_hub_connected") == 1


def test_threads_are_told_as_the_operating_system_counts_them(scraped: Scraped) -> None:
    process = psutil.Process(scraped.edge.module_pid)

    def told_as_counted(told: Scrape) -> bool:
        return abs(told.value("sftp_process_threads") - process.num_threads()) <= FEW

    before = scrape_until(scraped.port, told_as_counted)
    with ExitStack() as stack:  # each of these is served by a thread, as long as it is silent
        for _ in range(CONNECTIONS - 1):
            stack.enter_context(socket.create_connection(("127.0.0.1", scraped.port)))
        told = scrape_until(scraped.port, told_as_counted)
    assert told.value("sftp_process_threads") >= before.value("sftp_process_threads") + CONNECTIONS - 1 - FEW


def disks_in(told: Scrape) -> dict[str, tuple[float, float]]:
    """Return the free bytes and the size of each disk that is told of."""
    disks = {sample.labels["disk"] for sample in told.families["sftp_disk_free_bytes"].samples}
    assert disks == {sample.labels["disk"] for sample in told.families["sftp_disk_size_bytes"].samples}
    names = ("sftp_disk_free_bytes", "sftp_disk_size_bytes")
    return {disk: (told.value(names[0], disk=disk), told.value(names[1], disk=disk)) for disk in disks}


def test_disks_are_told_as_they_are(scraped: Scraped) -> None:
    directories = {"data": scraped.edge.local_root, "state": scraped.edge.state_directory}
    told = disks_in(scrape_until(scraped.port, lambda told: disks_in(told).keys() == directories.keys()))
    for disk, (free, size) in told.items():
        system = os.statvfs(directories[disk])
        assert size == system.f_blocks * system.f_frsize
        assert abs(free - system.f_bavail * system.f_frsize) < size / 100  # others write there as well


def test_a_directory_that_is_not_there_has_no_disk_until_it_is_back(own_address: str) -> None:
    port = free_port()
    with device(own_address, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        scrape_until(port, lambda told: disks_in(told).keys() == {"data", "state"})
        aside = edge.local_root.rename(edge.local_root.with_name("aside"))
        scrape_until(port, lambda told: disks_in(told).keys() == {"state"})
        aside.rename(edge.local_root)
        scrape_until(port, lambda told: disks_in(told).keys() == {"data", "state"})


def test_a_disk_that_does_not_answer_holds_no_scrape_up_and_has_no_value_until_it_does(own_address: str) -> None:
    port = free_port()
    command = (sys.executable, "-c", WITH_A_DEAD_DISK)
    with device(own_address, command=command, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        before = scrape_until(port, lambda told: disks_in(told).keys() == {"data", "state"})
        dead = edge.local_root / "answers-not"
        dead.touch()
        for _ in range(3 * FEW):
            started = time.monotonic()
            told = scrape(port)
            assert time.monotonic() - started < 4
            assert "data" not in disks_in(told)
            assert told.value("sftp_hub_connected") == 1
            assert "NaN" not in told.text
            # One of them waits for the disk, however often somebody scrapes
            assert told.value("sftp_process_threads") <= before.value("sftp_process_threads") + FEW
        scrape_until(port, lambda told: disks_in(told).keys() == {"state"})
        dead.unlink()
        scrape_until(port, lambda told: disks_in(told).keys() == {"data", "state"})


def test_what_a_session_has_done_still_counts_when_another_one_has_replaced_it(
    openssh_server: Server, tmp_path: Path
) -> None:
    local = tmp_path / "local"
    local.write_bytes(bytes(SIZE))
    sessions = CurrentSession(lambda _state: None)
    for number in range(1, 4):
        sessions.replace(SFTPSession(settings_of(openssh_server)))
        with sessions.use() as session:
            session.upload_file(str(local), f"{tmp_path.name}/remote")
            session.disconnect()
            session.exists(".")
            sessions.replace(None)  # while it is in use
            session.download_file(f"{tmp_path.name}/remote", str(local))
        assert sessions.totals() == Totals(reconnects=number, uploaded=number * SIZE, downloaded=number * SIZE)
    sessions.close()


# --- how it is told


def test_every_sample_says_whose_it_is_and_restarts_are_told_apart(own_address: str) -> None:
    instances = set()
    port = free_port()
    with device(own_address, SFTP_METRICS_PORT=str(port)) as edge:
        variables = edge.module_environment
        expected = {"edge_device": variables["IOTEDGE_DEVICEID"], "iothub": variables["IOTEDGE_IOTHUBHOSTNAME"]}
        expected["module_name"] = "sftp"
        for start in range(2):
            if start:
                assert edge.stop_module() == 0
                edge.start_module()
            told = scrape_until(port, lambda told: told.value("sftp_hub_connected") == 1)
            samples = [sample for family in told.families.values() for sample in family.samples]
            assert all(sample.labels.items() >= expected.items() for sample in samples)
            instances |= {sample.labels["instance_number"] for sample in samples}
    assert len(instances) == 2


def test_the_text_is_one_that_azures_metrics_collector_takes(scraped: Scraped) -> None:
    scraped.invoke("exists", {"path": "."})
    told = scraped.scrape()
    assert told.content_type == "text/plain; version=0.0.4; charset=utf-8"  # whatever else was asked for
    samples = [line for line in told.text.splitlines() if not line.startswith("#")]
    assert len(samples) > 50
    for line in samples:
        assert COLLECTED.fullmatch(line), line  # so there is no exemplar, and no value that is not finite
    assert "Inf" not in told.text
    assert "NaN" not in told.text
    assert "_bucket" not in told.text
    assert "_created" not in told.text


def test_names_and_units_are_those_of_prometheus(scraped: Scraped) -> None:
    for name, family in scraped.scrape().families.items():
        assert name.startswith("sftp_")
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|kilobytes|mb|megabytes|percent)(_|$)", name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")


# --- the documents


def test_every_metric_is_in_the_page_with_its_type_and_labels_and_no_other_is(scraped: Scraped) -> None:
    scraped.invoke("exists", {"path": "."})
    told = {}
    for family in scraped.scrape().families.values():
        name = family.name + ("_total" if family.type == "counter" else "")
        told[name] = (family.type, {label for sample in family.samples for label in sample.labels} - IDENTITY)
    rows = re.findall(r"^\| `(sftp_\w+)` \| (\w+) \| (.*?) \|", PAGE, re.MULTILINE)
    assert {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows} == told


@pytest.mark.parametrize("text", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_every_metric_that_an_alert_or_the_dashboard_names_is_in_the_page(text: str) -> None:
    known = set(re.findall(r"^\| `(sftp_\w+)` \|", PAGE, re.MULTILINE))
    known |= {f"{name}_{part}" for name in known for part in ("sum", "count")}
    named = set(re.findall(r"\bsftp_\w+", text))
    assert named
    assert named <= known


def test_every_label_that_an_alert_or_the_dashboard_selects_by_is_one_that_there_is(scraped: Scraped) -> None:
    scraped.invoke("exists", {"path": "."})
    samples = [sample for family in scraped.scrape().families.values() for sample in family.samples]
    labels = {(sample.name, label) for sample in samples for label in sample.labels}
    selections = re.findall(r"(sftp_\w+)\{(.*?)\}", ALERTS + json.dumps(json.loads(DASHBOARD), ensure_ascii=False))
    assert selections
    for name, selection in selections:
        for label in re.findall(r"(\w+) ?(?:=~|!=|=)", selection):
            assert (name, label) in labels, (name, label)


def test_an_alert_that_looks_at_what_grows_sees_also_what_came_before_the_first_look() -> None:
    """To `increase()` the first value that is scraped of a process is where it begins, whatever it is."""
    grows = re.findall(r"increase\((.*?)\[(\w+)\]\)", ALERTS)
    assert len(grows) == ALERTS.count("increase(sftp") >= 3
    for name, period in grows:
        assert f"or ({name} > 0 unless max_over_time({name}[1d] offset {period}))" in ALERTS


def test_every_alert_is_in_the_page_with_what_to_do() -> None:
    alerts = re.findall(r"^\s+- alert: (\w+)$", ALERTS, re.MULTILINE)
    assert len(alerts) >= 6
    assert re.findall(r"^\| `(Sftp\w+)` \| ", PAGE, re.MULTILINE) == alerts


def test_an_alert_names_the_runbook_that_the_page_leads_to() -> None:
    runbooks = re.findall(r"- alert: (\w+)$.*?^\s+runbook: docs/(\S+)$", ALERTS, re.MULTILINE | re.DOTALL)
    rows = dict(re.findall(r"^\| `(Sftp\w+)` \| (.*)$", PAGE, re.MULTILINE))
    assert [name for name, _ in runbooks] == list(rows)
    for name, runbook in runbooks:
        assert f"({runbook})" in rows[name]
    for alert in ALERTS.split("- alert: ")[1:]:
        assert {"expr", "for", "labels", "annotations", "severity", "summary", "description"} <= set(
            re.findall(r"(\w+):", alert)
        )


def test_every_metric_that_an_alert_names_is_one_that_the_page_has_azures_collector_take() -> None:
    (allowed,) = re.findall(r'"AllowedMetrics": \{ "value": "edge\* ([^"]*)" \}', PAGE)
    assert set(allowed.split()) == set(re.findall(r"\bsftp_\w+", ALERTS))


def test_both_disks_are_watched_and_each_leads_to_its_runbook() -> None:
    (expression,) = re.findall(r"SftpDiskNearlyFull\n\s+expr: (.*)", ALERTS)
    assert "disk=" not in expression  # so it is about both
    assert "{{ $labels.disk }}" in ALERTS
    (row,) = re.findall(r"^\| `SftpDiskNearlyFull` \| .*$", PAGE, re.MULTILINE)
    assert re.findall(r"`(\w+)`: \[[^]]*\]\(operate\.md#([\w-]+)\)", row) == [
        ("data", "a-disk-is-full"),
        ("state", "the-state-directory-is-full-read-only-or-lost"),
    ]


# --- the port


def test_zero_turns_the_metrics_off(own_address: str) -> None:
    with device(own_address, SFTP_METRICS_PORT="0") as edge:
        edge.wait_until_connected()
        assert "metrics" not in edge.module_log
        assert edge.invoke("sftp", "is_connected") == (200, False)


def test_a_port_that_is_taken_is_logged_and_the_module_does_its_work(own_address: str) -> None:
    with closing(socket.create_server(("", 0))) as other:
        port = other.getsockname()[1]
        with device(own_address, SFTP_METRICS_PORT=str(port)) as edge:
            edge.wait_until_connected()
            wait_for_log(edge, f"there are no metrics, as port {port} cannot be used: Address already in use")
            assert edge.invoke("sftp", "is_connected") == (200, False)


@pytest.mark.parametrize("text", ["", "9600", " 9600 "])
def test_the_port_is_9600_unless_another_one_is_set(
    text: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    variables = {"SFTP_METRICS_PORT": text, "SFTP_LOCAL_ROOT": str(tmp_path), "SFTP_STATE_DIR": str(tmp_path)}
    environment = Environment.read(variables)
    environment.warn(variables)
    assert environment.metrics_port == METRICS_PORT == 9600
    assert not caplog.records
    assert Environment.read({"SFTP_METRICS_PORT": "9700"}).metrics_port == 9700


@pytest.mark.parametrize("text", ["x", "-1", "65536", "9600.0", "٩٦٠٠", "9" * 5000])
def test_what_is_no_port_is_warned_of_and_counts_as_9600(
    text: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    variables = {"SFTP_METRICS_PORT": text, "SFTP_LOCAL_ROOT": str(tmp_path), "SFTP_STATE_DIR": str(tmp_path)}
    environment = Environment.read(variables)
    environment.warn(variables)
    assert environment.metrics_port == 9600
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "SFTP_METRICS_PORT" in caplog.text


# --- the server


@contextmanager
def running(text: Callable[[], bytes] = lambda: b"a 1\n", limit: float = 5.0) -> Iterator[int]:
    """Run the server on a free port of its own, which is given."""
    with MetricsServer(("127.0.0.1", 0), text, limit=limit) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def answering() -> int:
    """Count the threads that answer, or try to."""
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def asked(port: int, method: str = "GET", path: str = "/metrics") -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()


def test_only_the_metrics_are_there_and_only_to_be_read() -> None:
    with running() as port:
        assert asked(port) == (200, b"a 1\n")
        assert asked(port, path="/metrics?name=a") == (200, b"a 1\n")
        assert asked(port, "HEAD") == (200, b"")
        assert asked(port, path="/")[0] == 404
        assert asked(port, path="/../etc/passwd")[0] == 404
        assert asked(port, "POST")[0] == 501


def test_silent_and_slow_clients_keep_nobody_out_and_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ROOM_LIMIT", 10.0)  # this machine may be busy
    with running(limit=3.0) as port, ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3 * CONNECTIONS)]
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        slow.settimeout(0.2)
        assert asked(port) == (200, b"a 1\n")
        assert answering() <= CONNECTIONS + 1  # the one that has just answered may not have ended yet
        silent[-1].settimeout(20)
        end = time.monotonic() + 20
        while True:  # one byte after the other, without an end
            try:
                slow.sendall(b"G")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                assert time.monotonic() < end
            except OSError:
                break
        assert silent[-1].recv(1) == b""
        assert asked(port) == (200, b"a 1\n")


def test_a_client_that_reads_nothing_is_cut_too() -> None:
    with (
        running(lambda: b"x" * 50_000_000, limit=2.0) as port,
        closing(socket.create_connection(("127.0.0.1", port))) as client,
    ):
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        end = time.monotonic() + 20
        for is_answering in (True, False):
            while bool(answering()) is not is_answering:
                assert time.monotonic() < end
                time.sleep(0.05)


def test_a_defect_is_told_to_the_scraper_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> bytes:
        raise RuntimeError("what a defect says")

    with running(fails) as port:
        assert asked(port) == (500, b"a defect: see the log\n")
    assert "what a defect says" in caplog.text


def test_zero_serves_nothing() -> None:
    assert serve(0, None) is None  # type: ignore[arg-type] # nobody is asked


# --- the counts


def test_what_is_known_to_come_is_told_as_zero_before() -> None:
    tally = LabelledCounter(("a",), ("b",))
    tally.add("b")
    tally.add("c", "d", count=2)
    assert tally.counts() == {("a",): 0, ("b",): 1, ("c", "d"): 2}


def test_the_longest_duration_is_forgotten_after_two_windows_and_the_sum_is_not() -> None:
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


def test_a_transfer_that_raises_is_a_failure_unless_it_was_interrupted() -> None:
    moves = TransferCounters()

    def transfer(method: str, error: Exception, progress: FolderProgress | None = None) -> None:
        with moves.one(method) as move:
            if progress is not None:
                move.note(progress)
            raise error

    with pytest.raises(NotFound):
        transfer("upload_file", NotFound("x"))
    with pytest.raises(Cancelled):
        transfer("download_files", Cancelled("x"), FolderProgress(files=2, failed=1))
    counts = {labels: count for labels, count in moves.files.counts().items() if count}
    assert counts == {
        ("upload", "failed"): 1,
        ("download", "completed"): 2,
        ("download", "failed"): 1,
        ("download", "interrupted"): 1,
    }
