"""The image on devices where something is missing: one clear line in the log, and no restart once it is put right."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.images.conftest import START_LIMIT

from images import Device, Image
from localedge.testing import worker_address

DOWNLOAD = {"source": "hello.txt", "dest": "in/hello.txt"}


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that belongs to root, which a container can be given."""
    folder = tmp_path_factory.mktemp("bound")
    folder.chmod(0o755)
    return folder


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB; everybody may write in it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def ready(device: Device) -> Device:
    """Return the device once its module takes methods."""
    device.edge.wait_until_connected(START_LIMIT)
    return device


def call(device: Device, method: str, payload: dict[str, Any] | None = None) -> tuple[int, Any]:
    sent = {**(payload or {}), "timeout": 100}
    status, answer = device.edge.invoke("sftp", method, sent, timeout=110)
    return status, answer["code"] if isinstance(answer, dict) and "code" in answer else answer


def warnings(device: Device) -> list[str]:
    return [line.split("] ", 1)[1] for line in device.edge.module_log.splitlines() if line.startswith("<4>")]


def warning_of(device: Device, variable: str) -> str:
    """Return the one warning about a folder."""
    (line,) = (line for line in warnings(device) if line.startswith(variable))
    return line


def never_restarted(device: Device) -> bool:
    return device.edge.module_exit_statuses == []


def test_a_device_that_is_ready_gives_no_reason_to_warn(image: Image) -> None:
    with Device(image, worker_address()) as device:
        assert call(ready(device), "download_file", DOWNLOAD) == (200, True)
        assert warnings(device) == []
        assert (device.folders["/state"] / "known_hosts").exists()


def test_a_bind_that_is_missing_is_named_with_what_to_mount(image: Image) -> None:
    # The root file system is read-only, as in the deployment: /data of the image cannot be written.
    with Device(image, worker_address(), binds={"/data": None}) as device:
        assert call(ready(device), "list_files", {"path": "measurements"})[0] == 200
        line = warning_of(device, "SFTP_LOCAL_ROOT")
        assert line.startswith("SFTP_LOCAL_ROOT: /data is read-only")
        assert 'HostConfig.Binds: "DIRECTORY:/data"' in line
        assert "sudo install -d -o 10001 -g 10001 DIRECTORY" in line
        status, code = call(device, "download_file", DOWNLOAD)
        assert (status, code) == (403, "permission_denied")
        assert never_restarted(device)


def test_a_state_folder_that_is_missing_is_named_and_all_methods_work(image: Image) -> None:
    with Device(image, worker_address(), binds={"/state": None}) as device:
        assert call(ready(device), "download_file", DOWNLOAD) == (200, True)
        assert warning_of(device, "SFTP_STATE_DIR").startswith("SFTP_STATE_DIR: /state is read-only")
        assert never_restarted(device)


def test_a_bind_that_belongs_to_root_works_after_the_command_that_the_log_names(image: Image, folder: Path) -> None:
    # So it is when the container engine makes a folder that was not there.
    with Device(image, worker_address(), binds={"/data": folder}) as device:
        assert call(ready(device), "download_file", DOWNLOAD) == (403, "permission_denied")
        line = warning_of(device, "SFTP_LOCAL_ROOT")
        assert "(uid:gid 10001:10001) may not write in /data" in line
        command = line.rsplit("run: ", 1)[1]
        assert command == "sudo chown -R 10001:10001 DIRECTORY"
        subprocess.run([*command.split()[1:-1], folder], check=True)
        assert call(device, "download_file", DOWNLOAD) == (200, True)
        assert never_restarted(device)


@pytest.mark.parametrize("place, variable", [("/data", "SFTP_LOCAL_ROOT"), ("/state", "SFTP_STATE_DIR")])
def test_a_full_disk_is_told_of_and_used_again_once_there_is_space(
    image: Image, folder: Path, place: str, variable: str
) -> None:
    with small_disk(folder) as disk, Device(image, worker_address(), binds={place: disk}, start_module=False) as device:
        (disk / "ballast").write_bytes(bytes(1024 * 1024))
        device.edge.start_module()
        answer = call(ready(device), "download_file", DOWNLOAD)
        assert answer == ((507, "no_space") if place == "/data" else (200, True))
        line = warning_of(device, variable)
        assert line.startswith(f"{variable}: there is no space left in {place}")
        assert line.endswith("df -h DIRECTORY; df -i DIRECTORY")
        (disk / "ballast").unlink()
        assert call(device, "download_file", DOWNLOAD) == (200, True)
        assert never_restarted(device)


class Network:
    """A network of a container's own, with one link to this machine."""

    HOST, CONTAINER = "203.0.113.1", "203.0.113.2"  # TEST-NET-3, RFC 5737: nobody else has them

    def __init__(self) -> None:
        self.name = f"sftp-{secrets.token_hex(3)}"
        self.file = Path("/run/netns", self.name)
        ip("netns", "add", self.name)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("address", "add", f"{self.HOST}/30", "dev", self.name)
        ip("link", "set", self.name, "up")
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", self.name, "address", "add", f"{self.CONTAINER}/30", "dev", "eth0")

    def connect(self) -> None:
        ip("-n", self.name, "link", "set", "eth0", "up")

    def disconnect(self) -> None:
        ip("-n", self.name, "link", "set", "eth0", "down")

    def remove(self) -> None:
        ip("link", "delete", self.name)
        ip("netns", "delete", self.name)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    try:
        yield network
    finally:
        network.remove()


def wait_for_warning(device: Device, text: str) -> None:
    end = time.monotonic() + START_LIMIT
    while not [line for line in warnings(device) if text in line]:
        assert time.monotonic() < end, device.edge.module_log
        time.sleep(0.1)


def test_a_device_without_a_network_says_so_and_is_there_when_the_network_is(image: Image, network: Network) -> None:
    with Device(image, Network.HOST, network=network.file) as device:
        wait_for_warning(device, "no connection to the edge hub yet, next attempt in")
        assert "unreachable" in "".join(warnings(device))
        assert device.edge.module_pid is not None
        network.connect()
        assert call(ready(device), "download_file", DOWNLOAD) == (200, True)
        assert never_restarted(device)


def test_a_module_that_is_told_to_stop_while_there_is_no_network_ends_in_time(image: Image, network: Network) -> None:
    with Device(image, Network.HOST, network=network.file) as device:
        wait_for_warning(device, "no connection to the edge hub yet")
        begin = time.monotonic()
        assert device.edge.stop_module(limit=60) == 0
        assert time.monotonic() - begin < 8


def test_nothing_can_be_written_beside_the_two_folders_and_tmp(image: Image) -> None:
    with Device(image, worker_address()) as device:
        assert call(ready(device), "is_connected")[0] == 200
        root = Path(device.process, "root")
        for place in ("", "opt/module", "etc", "var/tmp"):
            with pytest.raises(OSError, match="Read-only file system"):
                os.open(root / place, os.O_WRONLY | os.O_TMPFILE)
        for place in ("data", "state", "tmp"):
            os.close(os.open(root / place, os.O_WRONLY | os.O_TMPFILE))
