"""The examples, run as a reader would, against many modules at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties
from tests.examples.conftest import NORTH, SOUTH

from localedge import LocalFleet

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(fleet: LocalFleet, example: str, *arguments: str, has_connection: bool = True) -> tuple[int, str]:
    environment = {**os.environ, "REQUESTS_CA_BUNDLE": str(fleet.authority_file)}
    if has_connection:
        environment["IOTHUB_CONNECTION_STRING"] = fleet.connection_string
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


def test_one_device_is_called_and_its_answer_shown(fleet: LocalFleet) -> None:
    assert run(fleet, "call_one_device.py", "north-0", "exists", '{"path": "hello.txt"}') == (0, "200 true\n")


def test_what_one_device_refuses_is_shown_and_no_success(fleet: LocalFleet) -> None:
    status, said = run(fleet, "call_one_device.py", "north-0", "delete_file", '{"path": "nothing-here.txt"}')
    assert status == 1
    assert said.startswith('404 {"result": false, "code": "not_found"')


def test_a_device_that_is_not_there_is_told_from_one_that_refuses(fleet: LocalFleet) -> None:
    status, said = run(fleet, "call_one_device.py", "west-0", "is_connected")
    assert (status, said.startswith("The hub did not reach west-0")) == (2, True)


def test_a_job_reaches_every_module_of_the_fleet_at_once(fleet: LocalFleet) -> None:
    payload = '{"source": "hello.txt", "dest": "in/"}'
    status, said = run(fleet, "call_fleet.py", "", "download_file", payload)

    assert (status, said.splitlines()[1:]) == (0, ["7 devices: 7 answered 200"]), said
    for device in (*NORTH, *SOUTH):
        file = fleet.local_root(device) / "in/hello.txt"
        assert file.read_bytes() == (fleet.sftp_root / "hello.txt").read_bytes()


def test_a_job_is_for_those_that_the_condition_finds_and_tells_who_refused(fleet: LocalFleet) -> None:
    (fleet.local_root("south-1") / "report.csv").write_text("only here\n")
    payload = '{"source": "report.csv", "dest": "reports/south.csv"}'
    status, said = run(fleet, "call_fleet.py", "tags.site = 'south'", "upload_file", payload)

    assert status == 1
    assert "3 devices: " in said
    assert "1 answered 200" in said
    assert sorted(re.findall(r"^  (\S+): 404 not_found", said, re.MULTILINE)) == ["south-0", "south-2"]
    assert (fleet.sftp_root / "reports/south.csv").read_text() == "only here\n"


def test_a_job_can_be_read_again_by_its_name(fleet: LocalFleet) -> None:
    _, said = run(fleet, "call_fleet.py", "tags.site = 'north'", "is_connected")
    name = said.split()[1]
    assert run(fleet, "call_fleet.py", "", "is_connected", "--job", name) == (0, said)


def test_the_public_keys_of_a_fleet_are_collected_with_one_query(
    fleet: LocalFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(fleet.authority_file))
    registry = IoTHubRegistryManager.from_connection_string(fleet.connection_string)
    for device in SOUTH:
        server = {"host": "127.0.0.1", "port": 1, "user": device, "privateKey": {"generate": "ed25519"}}
        patch = Twin(properties=TwinProperties(desired={"servers": {"erp": server}}))
        registry.update_module_twin(device, "sftp", patch, etag="*")
    condition = "tags.site = 'south'"

    def collect() -> tuple[int, str]:
        return run(fleet, "authorized_keys.py", condition, "--server", "erp", "--directory", str(tmp_path / "keys"))

    while collect()[0] != 0:  # until the last one has reported; the test has a time limit
        pass
    for device in SOUTH:
        (line,) = (tmp_path / "keys" / device).read_text().splitlines()
        assert re.fullmatch(rf"ssh-ed25519 \S+ {device}/sftp/erp", line)

    status, said = run(fleet, "call_fleet.py", condition, "rotate_key", '{"server": "erp"}')
    assert (status, said.splitlines()[1:]) == (0, ["3 devices: 3 answered 200"]), said
    while not all(len((tmp_path / "keys" / device).read_text().splitlines()) == 2 for device in SOUTH):
        collect()


def test_who_was_not_reached_is_called_again_and_nobody_else(fleet: LocalFleet) -> None:
    # The last test of the file: the device does not come back.
    fleet.stop_module("north-3")
    status, said = run(
        fleet, "call_fleet.py", "tags.site = 'north'", "exists", '{"path": "hello.txt"}', "--again", "1", "--pause", "0"
    )

    assert status == 1
    assert "4 devices: " in said
    assert "3 answered 200" in said
    assert "  north-3: not reached: " in said
    assert re.search(r"^job \S+, for those that were not reached\n1 devices: 1 not reached$", said, re.MULTILINE)


@pytest.mark.parametrize("example", ["call_one_device.py", "call_fleet.py"])
def test_an_example_says_how_it_is_used(fleet: LocalFleet, example: str) -> None:
    status, said = run(fleet, example, "--help", has_connection=False)
    assert (status, "export IOTHUB_CONNECTION_STRING" in said) == (0, True)
    status, said = run(fleet, example, "gateway-7", "is_connected", has_connection=False)
    assert (status, "set IOTHUB_CONNECTION_STRING" in said) == (2, True)
