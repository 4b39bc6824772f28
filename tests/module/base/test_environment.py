"""The environment: read with defaults, and one clear warning for each thing that will not work."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from iot.sftp.module._base.environment import (
    DEVELOPMENT_VARIABLES,
    EDGE_VARIABLES,
    METRICS_PORT,
    Environment,
    missing_variables,
)

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="mounts a file system: needs root"
)


@contextlib.contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    """Mount a file system of its own at a directory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def two_directories(base: Path) -> dict[str, str]:
    """Make a local root and a state directory."""
    variables = {"SFTP_LOCAL_ROOT": str(base / "data"), "SFTP_STATE_DIR": str(base / "state")}
    for directory in variables.values():
        Path(directory).mkdir()
    return variables


def test_what_is_not_set_has_a_default() -> None:
    assert Environment.read({}) == Environment(Path("/data"), Path("/state"), "info")
    assert Environment.read({"SFTP_LOCAL_ROOT": "", "SFTP_STATE_DIR": "", "LOG_LEVEL": ""}) == Environment.read({})


def test_what_is_set_is_taken() -> None:
    environment = Environment.read({"SFTP_LOCAL_ROOT": "/a", "SFTP_STATE_DIR": "/b", "LOG_LEVEL": " Debug "})
    assert environment == Environment(Path("/a"), Path("/b"), "debug")
    assert environment.directory_of(None) == Path("/b")


def test_a_level_that_is_none_is_warned_of_and_counts_as_info(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    variables = {**two_directories(tmp_path), "LOG_LEVEL": "loud"}
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


def test_one_directory_for_both_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    variables = {"SFTP_LOCAL_ROOT": str(tmp_path / "link"), "SFTP_STATE_DIR": str(tmp_path)}
    Environment.read(variables).warn(variables)
    (record,) = caplog.records
    assert record.getMessage().startswith("SFTP_LOCAL_ROOT and SFTP_STATE_DIR are the same directory")


def warnings_of(directory: Path, user: int = os.geteuid()) -> list[str]:
    """Return what a process of `user` logs that starts with this local root."""
    code = (
        "import os; from iot.sftp.module._base.environment import Environment;"
        "from iot.sftp.module._base.logging import configure_logging; configure_logging('info');"
        f"os.setuid({user}); Environment.read(os.environ).warn(os.environ)"
    )
    variables = {"PYTHONPATH": os.pathsep.join(sys.path), "SFTP_STATE_DIR": "/dev/shm"}
    variables["SFTP_LOCAL_ROOT"] = str(directory)
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that every user can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = Path(directory)
        path.chmod(0o777)
        yield path


def test_a_directory_that_can_be_written_is_worth_no_line_and_keeps_nothing(open_folder: Path) -> None:
    assert warnings_of(open_folder) == []
    assert list(open_folder.iterdir()) == []


def test_a_directory_that_may_not_be_written_is_warned_of_with_the_command_that_mends_it(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    # Root may write everywhere; anybody else is refused as they are.
    user = os.geteuid() or 65534
    (line,) = warnings_of(open_folder, user)
    owner = f"{user}:{os.getegid()}"
    assert f"SFTP_LOCAL_ROOT: the module (uid:gid {owner}) may not write in {open_folder}" in line
    assert f"run: sudo chown -R {owner} DIRECTORY" in line


@needs_mount
def test_a_read_only_directory_is_warned_of_with_what_to_mount(open_folder: Path) -> None:
    with mounted(open_folder, "ro"):
        (line,) = warnings_of(open_folder)
    assert f"SFTP_LOCAL_ROOT: {open_folder} is read-only" in line
    assert f'HostConfig.Binds: "DIRECTORY:{open_folder}"' in line


@needs_mount
def test_a_full_disk_is_warned_of_with_the_command_that_shows_it(open_folder: Path) -> None:
    with mounted(open_folder, "size=64k"):
        (open_folder / "ballast").write_bytes(bytes(64 * 1024))
        (line,) = warnings_of(open_folder)
    assert f"SFTP_LOCAL_ROOT: there is no space left in {open_folder}" in line
    assert "df -h DIRECTORY" in line


def test_the_edge_agents_variables_are_needed_or_those_of_a_developers_machine() -> None:
    edge = dict.fromkeys(EDGE_VARIABLES, "x")
    assert missing_variables(edge) == []
    assert missing_variables(dict.fromkeys(DEVELOPMENT_VARIABLES, "x")) == []
    assert missing_variables({**edge, "IOTEDGE_DEVICEID": ""}) == ["IOTEDGE_DEVICEID"]
    assert missing_variables({}) == list(EDGE_VARIABLES)


@pytest.mark.parametrize("text", ["", "9600", " 9600 "])
def test_the_metrics_port_is_9600_unless_another_one_is_set(
    text: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    variables = {"SFTP_METRICS_PORT": text, **two_directories(tmp_path)}
    environment = Environment.read(variables)
    environment.warn(variables)
    assert environment.metrics_port == METRICS_PORT == 9600
    assert not caplog.records
    assert Environment.read({"SFTP_METRICS_PORT": "9700"}).metrics_port == 9700


@pytest.mark.parametrize("text", ["x", "-1", "65536", "9600.0", "٩٦٠٠", "9" * 5000])
def test_an_invalid_metrics_port_is_one_warning_and_counts_as_9600(
    text: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    variables = {"SFTP_METRICS_PORT": text, **two_directories(tmp_path)}
    environment = Environment.read(variables)
    environment.warn(variables)
    assert environment.metrics_port == 9600
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "SFTP_METRICS_PORT" in caplog.text
