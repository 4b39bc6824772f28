"""The environment variables that the module reads, and the checks before anything starts."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iot.sftp.module._base.logging import LEVELS
from iot.sftp.module._base.state_directory import try_to_write

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

# What the edge agent sets, and what the SDK takes instead of it on a developer's machine
EDGE_VARIABLES = (
    "IOTEDGE_IOTHUBHOSTNAME",
    "IOTEDGE_DEVICEID",
    "IOTEDGE_MODULEID",
    "IOTEDGE_GATEWAYHOSTNAME",
    "IOTEDGE_MODULEGENERATIONID",
    "IOTEDGE_WORKLOADURI",
    "IOTEDGE_APIVERSION",
)
DEVELOPMENT_VARIABLES = ("EdgeHubConnectionString", "EdgeModuleCACertificateFile")

METRICS_PORT, PORT_MAXIMUM = 9600, 65535


@dataclass(frozen=True)
class Environment:
    """The settings from environment variables.

    Attributes:
        local_root: `SFTP_LOCAL_ROOT`, the only local directory tree that methods access.
        state_dir: `SFTP_STATE_DIR`, for the module's own files; methods cannot access it.
        log_level: `LOG_LEVEL`, until the twin sets another one.
        metrics_port: `SFTP_METRICS_PORT`; 0 turns the metrics off.
        hub: `IOTEDGE_IOTHUBHOSTNAME`, empty if it is not set, as the next two.
        device: `IOTEDGE_DEVICEID`.
        module: `IOTEDGE_MODULEID`.
    """

    local_root: Path
    state_dir: Path
    log_level: str
    metrics_port: int = METRICS_PORT
    hub: str = ""
    device: str = ""
    module: str = ""

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """Return the settings; an unknown level becomes `info`, an invalid port 9600."""
        level = variables.get("LOG_LEVEL", "").strip().lower()
        port = _port(variables)
        return cls(
            local_root=Path(variables.get("SFTP_LOCAL_ROOT") or "/data"),
            state_dir=Path(variables.get("SFTP_STATE_DIR") or "/state"),
            log_level=level if level in LEVELS else "info",
            metrics_port=METRICS_PORT if port is None else port,
            hub=variables.get("IOTEDGE_IOTHUBHOSTNAME", ""),
            device=variables.get("IOTEDGE_DEVICEID", ""),
            module=variables.get("IOTEDGE_MODULEID", ""),
        )

    @property
    def unfinished_transfers(self) -> Path:
        """The directory where the client records unfinished transfers, to resume them."""
        return self.state_dir / "transfers"

    def directory_of(self, server: str | None) -> Path:
        """Return the directory for what is known of one server: its remembered host keys, in `known_hosts`.

        Parameters:
            server: its name; `None` for the default one, which was the only one up to version 0.1.0.
        """
        return self.state_dir if server is None else self.state_dir / "servers" / server

    def warn(self, variables: Mapping[str, str]) -> None:
        """Log a warning for each setting that will not work, with the command that fixes it."""
        level = variables.get("LOG_LEVEL", "").strip()
        if level and level.lower() not in LEVELS:
            _log.warning("LOG_LEVEL is %r, not one of %s: info is used", level[:40], ", ".join(LEVELS))
        if _port(variables) is None:
            text = variables["SFTP_METRICS_PORT"][:40]
            _log.warning("SFTP_METRICS_PORT is %r, not a valid port: %d is used; 0 turns it off", text, METRICS_PORT)
        _warn_of_directory("SFTP_LOCAL_ROOT", self.local_root, "no file can be downloaded")
        consequence = "no tasks are accepted, and the keys of servers are forgotten at every restart"
        _warn_of_directory("SFTP_STATE_DIR", self.state_dir, consequence)
        if _is_same_directory(self.local_root, self.state_dir):
            _log.warning(
                "SFTP_LOCAL_ROOT and SFTP_STATE_DIR are the same directory, %s: so local files are out of reach, as "
                "the module's own are. Mount a second one",
                self.state_dir,
            )


def missing_variables(variables: Mapping[str, str]) -> list[str]:
    """Return the names of the missing variables that the connection to the edge hub needs."""
    if all(variables.get(name) for name in DEVELOPMENT_VARIABLES):
        return []
    return [name for name in EDGE_VARIABLES if not variables.get(name)]


def _port(variables: Mapping[str, str]) -> int | None:
    """Return the port for the metrics, or `None` if the variable holds no valid port."""
    text = variables.get("SFTP_METRICS_PORT", "").strip() or str(METRICS_PORT)
    is_port = text.isascii() and text.isdecimal() and len(text) <= len(str(PORT_MAXIMUM)) and int(text) <= PORT_MAXIMUM
    return int(text) if is_port else None


def _is_same_directory(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False  # one of them is not there


def _warn_of_directory(variable: str, directory: Path, consequence: str) -> None:
    """Log a warning if a directory cannot be written; the module starts all the same, and each call retries."""
    try:
        try_to_write(directory)
    except OSError as error:
        owner, group = os.geteuid(), os.getegid()
        made = f"made on the host with: sudo install -d -o {owner} -g {group} DIRECTORY"
        host_side = f"On the host's directory that is mounted at {directory} run"
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            fault = f"there is no directory {directory}"
            remedy = f"Mount one (createOptions, HostConfig.Binds), {made}"
        elif error.errno == errno.EROFS:
            fault = f"{directory} is read-only"
            remedy = f'Mount a directory (createOptions, HostConfig.Binds: "DIRECTORY:{directory}"), {made}'
        elif error.errno in {errno.EACCES, errno.EPERM}:
            fault = f"the module (uid:gid {owner}:{group}) may not write in {directory}"
            remedy = f"{host_side}: sudo chown -R {owner}:{group} DIRECTORY"
        elif error.errno in {errno.ENOSPC, errno.EDQUOT}:
            fault = f"there is no space left in {directory}"
            remedy = f"{host_side}, and free what it shows: df -h DIRECTORY; df -i DIRECTORY"
        else:
            fault = f"nothing can be written in {directory} ({error.strerror})"
            remedy = f"{host_side}: ls -ld DIRECTORY; df -h DIRECTORY"
        _log.warning("%s: %s, so %s. %s", variable, fault, consequence, remedy)
