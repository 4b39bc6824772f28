"""The environment: read with defaults, and one clear warning for each thing that will not work."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from iot.sftp.module._environment import DEVELOPMENT_VARIABLES, EDGE_VARIABLES, Environment, missing_variables


def test_what_is_not_set_has_a_default() -> None:
    assert Environment.read({}) == Environment(Path("/data"), Path("/state"), "info")
    assert Environment.read({"SFTP_LOCAL_ROOT": "", "SFTP_STATE_DIR": "", "LOG_LEVEL": ""}) == Environment.read({})


def test_what_is_set_is_taken() -> None:
    environment = Environment.read({"SFTP_LOCAL_ROOT": "/a", "SFTP_STATE_DIR": "/b", "LOG_LEVEL": " Debug "})
    assert environment == Environment(Path("/a"), Path("/b"), "debug")
    assert environment.known_hosts == Path("/b/known_hosts")


def test_a_level_that_is_none_is_warned_of_and_counts_as_info(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    variables = {"SFTP_LOCAL_ROOT": str(tmp_path), "SFTP_STATE_DIR": str(tmp_path), "LOG_LEVEL": "loud"}
    environment = Environment.read(variables)
    environment.warn(variables)
    assert environment.log_level == "info"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "LOG_LEVEL is 'loud'" in caplog.text


def test_a_directory_that_is_missing_is_warned_of_with_the_command_that_mends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    variables = {"SFTP_LOCAL_ROOT": str(tmp_path / "none"), "SFTP_STATE_DIR": str(tmp_path)}
    Environment.read(variables).warn(variables)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"SFTP_LOCAL_ROOT: there is no directory {tmp_path}/none")
    assert f"sudo install -d -o {os.geteuid()} -g {os.getegid()}" in record.getMessage()


def test_a_directory_that_may_not_be_written_is_warned_of_with_the_command_that_mends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_args: object, **_options: object) -> bool:
        return False  # the tests may run as root, who may write everywhere

    monkeypatch.setattr(os, "access", refuses)
    variables = {"SFTP_LOCAL_ROOT": str(tmp_path), "SFTP_STATE_DIR": str(tmp_path)}
    Environment.read(variables).warn(variables)
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(":")[0] for message in messages] == ["SFTP_LOCAL_ROOT", "SFTP_STATE_DIR"]
    assert all(f"sudo chown -R {os.geteuid()}:{os.getegid()}" in message for message in messages)


def test_the_edge_agents_variables_are_needed_or_those_of_a_developers_machine() -> None:
    edge = dict.fromkeys(EDGE_VARIABLES, "x")
    assert missing_variables(edge) == []
    assert missing_variables(dict.fromkeys(DEVELOPMENT_VARIABLES, "x")) == []
    assert missing_variables({**edge, "IOTEDGE_DEVICEID": ""}) == ["IOTEDGE_DEVICEID"]
    assert missing_variables({}) == list(EDGE_VARIABLES)
