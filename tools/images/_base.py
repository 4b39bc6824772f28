"""The image that ours is built on: one's choice, that of the Dockerfile, or one made of Debian's packages."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from images._command import run
from images._engine import Engine
from images._errors import ImagesError
from images._platforms import Platform

SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
_LIMIT = 1800.0  # seconds; under emulation all configuring takes its time


def base_image(engine: Engine, dockerfile: Path, platform: Platform, say: Callable[[str], None]) -> str:
    """Return the name of the base to build on, made if need be.

    The variable PYTHON_IMAGE names one's choice. A base that was made here before is used again.

    Raises:
        ImagesError: no registry can be reached, and none can be made either.
    """
    chosen = os.environ.get("PYTHON_IMAGE")
    if chosen:
        return chosen
    made = f"localhost/iot-sftp-client-base:{SUITE}-{platform.name}"
    if engine.has(made):
        return made
    default = default_base(dockerfile)
    if engine.pull(default, platform):
        return default
    say(f"{default} cannot be fetched: a base is made of the packages of Debian {SUITE}, once")
    _make(engine, made, platform)
    return made


def default_base(dockerfile: Path) -> str:
    """Return the base that a Dockerfile names in its first line."""
    first = dockerfile.read_text(encoding="utf-8").partition("\n")[0]
    match = re.fullmatch(r"ARG PYTHON_IMAGE=(\S+)", first)
    if match is None:
        raise ImagesError(f"{dockerfile}: the first line must be 'ARG PYTHON_IMAGE=…', and is {first!r}.")
    return match.group(1)


def _make(engine: Engine, tag: str, platform: Platform) -> None:
    with tempfile.TemporaryDirectory(prefix="iot-sftp-base-", dir="/var/tmp") as directory:
        root, log = Path(directory, "root"), Path(directory, "log")
        options = (f"--arch={platform.debian}", "--variant=minbase", f"--include={_PACKAGES}")
        run("debootstrap", *options, SUITE, str(root), *_mirror(), limit=_LIMIT, log=log)
        for leavings in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / leavings)
        (root / "var/log").mkdir()
        (root / "etc/hosts").touch()  # as in every image: where a container's own is mounted
        engine.add_base(tag, root, platform)


def _mirror() -> list[str]:
    """Return the mirror that this machine's apt takes the suite from, if it does: it is known to be reachable."""
    if shutil.which("apt-get") is None:
        return []
    lines = run("apt-get", "indextargets", "--format", "$(CODENAME) $(SITE)").splitlines()
    return [site for codename, _, site in (line.partition(" ") for line in lines) if codename == SUITE and site][:1]
