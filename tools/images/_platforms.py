"""The platforms that there are images for, under the names that the Azure tools use."""

from __future__ import annotations

import os
import platform as this_machine
from dataclasses import dataclass
from pathlib import Path

from images._command import run, succeeds
from images._errors import ImagesError

_BINFMT = Path("/proc/sys/fs/binfmt_misc")


@dataclass(frozen=True)
class Platform:
    """One platform, and what the tools around images call it."""

    name: str
    oci: str
    """Operating system, architecture and variant, as OCI images name them."""
    debian: str
    emulator: str
    """qemu's user emulation, as it is registered in binfmt_misc."""
    machines: tuple[str, ...]
    """What a machine that needs no emulation calls itself."""

    @property
    def tag(self) -> str:
        """The name of the image that is built here."""
        return f"localhost/iot-sftp-client:{self.name}"

    @property
    def is_native(self) -> bool:
        """Say whether this machine runs it without emulation."""
        return this_machine.machine() in self.machines

    def make_runnable(self) -> None:
        """Make sure that programs of this platform run here, inside a container as well.

        Raises:
            ImagesError: they do not, and what to install.
        """
        if self.is_native:
            return
        entry = _BINFMT / self.emulator
        if not entry.exists() and os.geteuid() == 0:
            if not (_BINFMT / "register").exists():
                run("mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT))
            succeeds("update-binfmts", "--enable", self.emulator)
        # F: the emulator was opened when it was registered, and is there in every root file system.
        flags = [line for line in entry.read_text().splitlines() if line.startswith("flags:")] if entry.exists() else []
        if not any("F" in line for line in flags):
            raise ImagesError(
                f"Programs for {self.name} do not run here: {self.emulator} is not registered in binfmt_misc. Run as"
                " root: apt-get install qemu-user-static binfmt-support"
            )


PLATFORMS = {
    platform.name: platform
    for platform in (
        Platform("amd64", "linux/amd64", "amd64", "qemu-x86_64", ("x86_64",)),
        Platform("arm32v7", "linux/arm/v7", "armhf", "qemu-arm", ("armv7l", "armv8l")),
        Platform("arm64v8", "linux/arm64/v8", "arm64", "qemu-aarch64", ("aarch64",)),
    )
}
