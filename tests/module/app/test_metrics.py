"""The metrics count what has happened, in a form that Azure's metrics collector accepts."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
from tests.clients import settings_of
from tests.module.app.conftest import Scrape, Scraped, device, scrape, scrape_until
from tests.module.conftest import section_of, wait_for_log
from tests.servers import Server, free_port

from iot.sftp.client import SFTPSession
from iot.sftp.module._app.metrics_server import CONNECTIONS
from iot.sftp.module._work.current_session import CurrentSession, Totals

PASSWORD = "Tr0ub4dor&3-nobody-may-read-this"
# A sample that Azure's metrics collector accepts: name, labels with values that are not empty, a finite number
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


# --- Values


def test_the_state_of_the_hub_and_of_the_session(scraped: Scraped) -> None:
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


def test_calls_are_counted_by_method_and_code_and_timed(scraped: Scraped) -> None:
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


def test_the_name_of_an_unknown_method_is_in_no_label(scraped: Scraped) -> None:
    before = scraped.scrape()
    for number in range(5):
        assert scraped.invoke(f"no_method_{number}")[0] == 404
    told = scraped.scrape()
    labels = {"method": "unknown", "code": "unknown_method"}
    assert told.value("sftp_calls_total", **labels) == before.value("sftp_calls_total", **labels) + 5
    assert "no_method" not in told.text


def test_files_and_bytes_are_counted_by_direction(scraped: Scraped, openssh_server: Server, tmp_path: Path) -> None:
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


def test_tasks_that_wait_for_a_server_with_their_age_and_the_reason(own_address: str) -> None:
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
                told.value("sftp_retries_total", kind="task") > 0
                and told.value("sftp_retries_total", kind="rule") > 0
                and told.value("sftp_rules", state="failing") == 1
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
        for private in (PASSWORD, "acme", "secret-folder", "127.0.0.1", str(nobody)):
            assert private not in told.text


def test_a_refused_host_key_is_counted_by_its_code(own_address: str, openssh_server: Server) -> None:
    port = free_port()
    section = section_of(openssh_server, hostKeys=["SHA256:" + "A" * 43])
    with device(own_address, {"sftp": section}, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        scrape_until(port, lambda told: told.value("sftp_connection_failures_total", code="host_key_mismatch") > 0)


def test_a_lost_hub_and_its_return(own_address: str) -> None:
    port = free_port()
    with device(own_address, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        wait_for_log(edge, "connected to the edge hub")  # before, it waits for its first hub, and counts nothing
        edge.stop_hub()
        scrape_until(port, lambda told: told.value("sftp_hub_connected") == 0)
        edge.start_hub()
        scrape_until(
            port,
            lambda told: told.value("sftp_hub_reconnects_total") >= 1 and told.value("sftp_hub_connected") == 1,
        )


def test_threads_are_counted_as_the_operating_system_does(scraped: Scraped) -> None:
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


def test_free_bytes_and_size_of_both_disks(scraped: Scraped) -> None:
    directories = {"data": scraped.edge.local_root, "state": scraped.edge.state_directory}
    told = disks_in(scrape_until(scraped.port, lambda told: disks_in(told).keys() == directories.keys()))
    for disk, (free, size) in told.items():
        system = os.statvfs(directories[disk])
        assert size == system.f_blocks * system.f_frsize
        assert abs(free - system.f_bavail * system.f_frsize) < size / 100  # others write there as well


def test_a_missing_directory_has_no_sample_until_it_is_back(own_address: str) -> None:
    port = free_port()
    with device(own_address, SFTP_METRICS_PORT=str(port)) as edge:
        edge.wait_until_connected()
        scrape_until(port, lambda told: disks_in(told).keys() == {"data", "state"})
        aside = edge.local_root.rename(edge.local_root.with_name("aside"))
        scrape_until(port, lambda told: disks_in(told).keys() == {"state"})
        aside.rename(edge.local_root)
        scrape_until(port, lambda told: disks_in(told).keys() == {"data", "state"})


def test_a_disk_that_hangs_delays_no_scrape_and_has_no_sample(own_address: str) -> None:
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
            assert time.monotonic() - started < 15
            assert "data" not in disks_in(told)
            assert told.value("sftp_hub_connected") == 1
            assert "NaN" not in told.text
            # One of them waits for the disk, however often somebody scrapes
            assert told.value("sftp_process_threads") <= before.value("sftp_process_threads") + FEW
        scrape_until(port, lambda told: disks_in(told).keys() == {"state"})
        dead.unlink()
        scrape_until(port, lambda told: disks_in(told).keys() == {"data", "state"})


def test_the_counts_of_a_replaced_session_are_kept(openssh_server: Server, tmp_path: Path) -> None:
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


# --- Form


def test_every_sample_names_the_device_the_module_and_the_process(own_address: str) -> None:
    instances = set()
    port = free_port()
    with device(own_address, SFTP_METRICS_PORT=str(port)) as edge:
        variables = edge.module_environment
        expected = {"edge_device": variables["IOTEDGE_DEVICEID"], "iothub": variables["IOTEDGE_IOTHUBHOSTNAME"]}
        expected["module_name"] = "sftp"
        for start in range(2):
            if start:
                assert edge.stop_module(limit=60) == 0
                edge.start_module()
            told = scrape_until(port, lambda told: told.value("sftp_hub_connected") == 1)
            samples = [sample for family in told.families.values() for sample in family.samples]
            assert all(sample.labels.items() >= expected.items() for sample in samples)
            instances |= {sample.labels["instance_number"] for sample in samples}
    assert len(instances) == 2


def test_azures_metrics_collector_accepts_every_sample(scraped: Scraped) -> None:
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


def test_names_and_units_follow_the_conventions_of_prometheus(scraped: Scraped) -> None:
    for name, family in scraped.scrape().families.items():
        assert name.startswith("sftp_")
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|kilobytes|mb|megabytes|percent)(_|$)", name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
