"""Running an opened image as a container, by the same runc that docker and IoT Edge's moby use.

What the deployment's createOptions say is carried out: binds, tmpfs, read-only root, capabilities, memory.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from images._image import Image

RUNTIME = "runc"
_WORKLOAD_SOCKET = "/var/run/iotedge/workload.sock"
_WORKLOAD_URI = "IOTEDGE_WORKLOADURI"
# What docker hides from containers, and what it lets them only read
_MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug"]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
_FROM_HOST = ("/etc/resolv.conf", "/etc/hosts")
# What docker gives where nothing is dropped
_CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)


@dataclass(frozen=True)
class Container:
    """What a container is made of.

    - `name`: for runc, unique on this machine.
    - `root`, `image`: the image's root file system and its configuration.
    - `host_config`: HostConfig of createOptions.
    - `binds`: the sources of the binds, by their place in the container. What is not here is not bound.
    - `network`: a network namespace's file; without it the container has the host's network.
    """

    name: str
    root: str
    image: dict[str, Any]
    host_config: dict[str, Any]
    binds: dict[str, str]
    network: str | None = None
    directory: str = ""

    @classmethod
    def of(cls, image: Image, name: str, host_config: dict[str, Any], **options: Any) -> Container:
        """Describe a container of an opened image."""
        return cls(name, str(image.root), image.config, host_config, **options)

    def command(self) -> Sequence[str]:
        """Write the description down; return the command that starts it."""
        file = Path(self.directory, "container.json")
        file.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return (sys.executable, "-m", "images.start_container", str(file))

    def specification(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """Return what runc is to do: see "config.md" of the OCI runtime specification."""
        variables = dict(variables)
        mounts = [*_SYSTEM_MOUNTS, *self._own_mounts()]
        workload = variables.get(_WORKLOAD_URI, "")
        if workload.startswith("unix://"):
            # As the edge agent does: the socket has one place in all modules.
            mounts.append(_bind(workload.removeprefix("unix://"), _WORKLOAD_SOCKET))
            variables[_WORKLOAD_URI] = f"unix://{_WORKLOAD_SOCKET}"
        environment = dict(item.partition("=")[::2] for item in self.image["Env"]) | variables
        return {
            "ociVersion": "1.0.2",
            "process": self._process(environment),
            "root": {"path": self.root, "readonly": self.host_config.get("ReadonlyRootfs", False)},
            "hostname": self.name[:64],
            "mounts": mounts,
            "linux": {
                "namespaces": self._namespaces(),
                "resources": {"memory": {"limit": self.host_config["Memory"]}} if "Memory" in self.host_config else {},
                "maskedPaths": _MASKED,
                "readonlyPaths": _READ_ONLY,
            },
        }

    def _process(self, environment: Mapping[str, str]) -> dict[str, Any]:
        user, _, group = self.image["User"].partition(":")
        dropped = self.host_config.get("CapDrop", [])
        kept = [] if "ALL" in dropped else [f"CAP_{name}" for name in _CAPABILITIES if name not in dropped]
        return {
            "terminal": False,
            "user": {"uid": int(user), "gid": int(group)},
            "args": [*(self.image.get("Entrypoint") or []), *(self.image.get("Cmd") or [])],
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": self.image["WorkingDir"],
            "capabilities": {"bounding": kept, "inheritable": kept},
            "noNewPrivileges": "no-new-privileges" in self.host_config.get("SecurityOpt", []),
        }

    def _own_mounts(self) -> list[dict[str, Any]]:
        tmpfs = [
            {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options.split(",")}
            for place, options in self.host_config.get("Tmpfs", {}).items()
        ]
        host = [_bind(path, path, "ro") for path in _FROM_HOST if os.path.exists(path)]
        return [*tmpfs, *host, *(_bind(source, place) for place, source in self.binds.items())]

    def _namespaces(self) -> list[dict[str, str]]:
        kinds = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
        return [*kinds, {"type": "network", "path": self.network}] if self.network else kinds


def _bind(source: str, place: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": "bind", "source": source, "options": ["rbind", *options]}


def _system(place: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": place, "type": kind, "source": kind, "options": ["nosuid", *options]}


_SYSTEM_MOUNTS = [
    _system("/proc", "proc", "noexec", "nodev"),
    _system("/dev", "tmpfs", "strictatime", "mode=755", "size=65536k"),
    _system("/dev/pts", "devpts", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
    _system("/dev/shm", "tmpfs", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108 - in the container
    _system("/dev/mqueue", "mqueue", "noexec", "nodev"),
]
