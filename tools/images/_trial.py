"""Starting an image as it is deployed, and calling each of the library's methods through the hub: what was answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from images._device import Device
from images._errors import ImagesError
from images._image import Image

_START_LIMIT = 180.0  # seconds; under emulation all is slow
_TIMEOUT = 100

# Each with what has to be answered; `local` is in /data, the rest on the server with its sample files
_CALLS: tuple[tuple[str, Any, Any], ...] = (
    ("exists", {"path": "hello.txt"}, True),
    ("is_connected", None, True),
    (
        "list_files",
        {"path": "measurements"},
        ["measurements/2026-01-01.csv", "measurements/2026-01-02.csv"],
    ),
    ("download_file", {"source": "hello.txt", "dest": "in/"}, True),
    ("upload_file", {"source": "in/hello.txt", "dest": "out/hello.txt"}, True),
    ("move_file", {"source": "out/hello.txt", "dest": "out/moved.txt"}, True),
    ("delete_file", {"path": "out/moved.txt"}, True),
    ("write_file", {"path": "out/written.txt", "content": "written"}, True),
    ("delete_directory", {"path": "out", "recursive": True}, True),
    ("disconnect", None, None),
)


@dataclass(frozen=True)
class Trial:
    """What a start of the image has shown."""

    answers: int
    started: float
    """Seconds from the start of the container until the module took direct methods."""
    stopped: float
    """Seconds from SIGTERM until the container had ended."""
    memory: int
    """Bytes that its process had resident at most."""


def tried(image: Image, address: str, say: Callable[[str], None]) -> Trial:
    """Start the image, call every method, stop it.

    Raises:
        ImagesError: something was answered otherwise, or the container is not confined as the deployment asks.
    """
    with Device(image, address, start_module=False) as device:
        begin = time.monotonic()
        device.edge.start_module()
        device.edge.wait_until_connected(_START_LIMIT)
        started = time.monotonic() - begin
        for method, payload, expected in _CALLS:
            _call(device, method, payload, expected, say)
        _check_files(device, image)
        _check_confinement(device, image)
        memory = _peak_memory(device)
        begin = time.monotonic()
        status = device.edge.stop_module()
        stopped = time.monotonic() - begin
        if status != 0:
            raise ImagesError(
                f"The container ended with status {status} after SIGTERM, not 0:\n{device.edge.module_log}"
            )
        return Trial(len(_CALLS), started, stopped, memory)


def _call(device: Device, method: str, payload: Any, expected: Any, say: Callable[[str], None]) -> None:
    sent = {**(payload or {}), "timeout": _TIMEOUT - 10}
    status, answer = device.edge.invoke("sftp", method, sent, timeout=_TIMEOUT)
    say(f"  {method:14}{status} {answer!r}")
    if (status, answer) != (200, expected):
        raise ImagesError(f"{method} should answer 200 {expected!r}. The module's log:\n{device.edge.module_log}")


def _check_files(device: Device, image: Image) -> None:
    file = device.folders["/data"] / "in/hello.txt"
    original = device.edge.sftp_server.root / "hello.txt"
    if file.read_bytes() != original.read_bytes() or (file.stat().st_uid, file.stat().st_gid) != image.user:
        raise ImagesError(f"{file} is not the file that was downloaded, or does not belong to {image.user}.")


def _check_confinement(device: Device, image: Image) -> None:
    """Compare what the kernel says of the process with what the deployment asks for."""
    status = dict(
        line.split(":\t", 1) for line in (device.process / "status").read_text().splitlines() if ":\t" in line
    )
    user, group = image.user
    expected = {"Uid": "\t".join([str(user)] * 4), "Gid": "\t".join([str(group)] * 4), "NoNewPrivs": "1"}
    expected |= dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)
    wrong = {name: status[name] for name, value in expected.items() if status[name] != value}
    mounts = [line.split() for line in (device.process / "mountinfo").read_text().splitlines()]
    options = {mount[4]: mount[5].split(",") for mount in mounts}
    writable = {
        place for place, words in options.items() if "ro" not in words and not place.startswith(("/proc", "/dev"))
    }
    unexpected = writable - {"/data", "/state", "/tmp", "/run/iotedge/workload.sock"}  # noqa: S108 - in the container
    if wrong or unexpected or "ro" not in options["/"]:
        raise ImagesError(
            f"The container is not confined: {wrong}, writable {sorted(unexpected)}, / is {options['/']}."
        )


def _peak_memory(device: Device) -> int:
    lines = (device.process / "status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kilobytes) * 1024
