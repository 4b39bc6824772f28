"""docker or buildah, whichever is there: what this package asks of either."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from images._command import run, succeeds
from images._errors import ImagesError
from images._platforms import Platform

BUILD_LIMIT = 3600.0
"""Seconds; what has no wheel for an architecture is compiled, maybe under emulation."""
_PULL_LIMIT = 300.0
_IMPORT_LIMIT = 300.0

# What this host needs to reach its package index is lent to the build, and is no part of the image.
_LENT = {"pip.conf": "/etc/pip.conf", "authorities": "/etc/ssl/certs/ca-certificates.crt"}


@dataclass(frozen=True)
class Build:
    """What an image is built from."""

    root: Path
    dockerfile: Path
    platform: Platform
    tag: str
    arguments: Mapping[str, str]


class Engine(Protocol):
    """What builds images, keeps them, and hands out what is in them."""

    name: str

    def has(self, tag: str) -> bool:
        """Say whether there is such an image here."""

    def pull(self, tag: str, platform: Platform) -> bool:
        """Fetch an image from its registry; return whether that worked."""

    def add_base(self, tag: str, root: Path, platform: Platform) -> None:
        """Make an image of a root file system."""

    def build(self, build: Build, log: Path) -> None:
        """Build an image; what the tool says goes to `log`."""

    def config(self, tag: str) -> dict[str, Any]:
        """Return the image's configuration: User, Env, Entrypoint, Labels and so on."""

    def root(self, tag: str, platform: Platform) -> contextlib.AbstractContextManager[Path]:
        """Lay an image's root file system out in a directory of its own, for as long as it is needed."""


class Docker:
    """The docker command line, with a daemon that answers."""

    name = "docker"

    def has(self, tag: str) -> bool:
        """See `Engine`."""
        return succeeds("docker", "image", "inspect", tag)

    def pull(self, tag: str, platform: Platform) -> bool:
        """See `Engine`."""
        return succeeds("docker", "pull", "--quiet", "--platform", platform.oci, tag, limit=_PULL_LIMIT)

    def add_base(self, tag: str, root: Path, platform: Platform) -> None:
        """See `Engine`."""
        with _archive(root) as archive:
            run("docker", "import", "--platform", platform.oci, str(archive), tag, limit=_IMPORT_LIMIT)

    def build(self, build: Build, log: Path) -> None:
        """See `Engine`."""
        run("docker", "build", "--progress=plain", *_build_options(build), limit=BUILD_LIMIT, log=log, cwd=build.root)

    def config(self, tag: str) -> dict[str, Any]:
        """See `Engine`."""
        config: dict[str, Any] = json.loads(run("docker", "image", "inspect", "--format", "{{json .Config}}", tag))
        return config

    @contextlib.contextmanager
    def root(self, tag: str, platform: Platform) -> Iterator[Path]:
        """See `Engine`."""
        # An image without a command, such as a base, needs one to become a container; it is never run.
        container = run("docker", "create", "--platform", platform.oci, tag, "true").strip()
        try:
            with tempfile.TemporaryDirectory(prefix="iot-sftp-image-", dir="/var/tmp") as directory:
                root, archive = Path(directory, "root"), Path(directory, "root.tar")
                root.mkdir()
                run("docker", "export", "--output", str(archive), container, limit=_IMPORT_LIMIT)
                run("tar", "-C", str(root), "-xpf", str(archive), limit=_IMPORT_LIMIT)
                yield root
        finally:
            succeeds("docker", "rm", "--force", container)


class Buildah:
    """buildah as root, without any daemon; it builds in a chroot, so that it works inside containers and CI, too."""

    name = "buildah"

    def has(self, tag: str) -> bool:
        """See `Engine`."""
        return succeeds("buildah", "inspect", "--type", "image", tag)

    def pull(self, tag: str, platform: Platform) -> bool:
        """See `Engine`."""
        return succeeds("buildah", "pull", "--quiet", "--platform", platform.oci, tag, limit=_PULL_LIMIT)

    def add_base(self, tag: str, root: Path, platform: Platform) -> None:
        """See `Engine`."""
        _, architecture, *variant = platform.oci.split("/")
        container = run("buildah", "from", "scratch").strip()
        try:
            with _archive(root) as archive:
                run("buildah", "add", "--quiet", container, str(archive), "/", limit=_IMPORT_LIMIT)
            options = ["--arch", architecture, *(["--variant", variant[0]] if variant else [])]
            run("buildah", "config", *options, container)
            run("buildah", "commit", "--quiet", container, tag, limit=_IMPORT_LIMIT)
        finally:
            succeeds("buildah", "rm", container)

    def build(self, build: Build, log: Path) -> None:
        """See `Engine`."""
        options = ("--isolation", "chroot", "--layers", *_build_options(build))
        run("buildah", "build", *options, limit=BUILD_LIMIT, log=log, cwd=build.root)

    def config(self, tag: str) -> dict[str, Any]:
        """See `Engine`."""
        config: dict[str, Any] = json.loads(run("buildah", "inspect", "--type", "image", tag))["OCIv1"]["config"]
        return config

    @contextlib.contextmanager
    def root(self, tag: str, platform: Platform) -> Iterator[Path]:
        """See `Engine`."""
        container = run("buildah", "from", "--pull-never", "--platform", platform.oci, tag).strip()
        try:
            yield Path(run("buildah", "mount", container).strip())
        finally:
            succeeds("buildah", "rm", container)


def find_engine() -> Engine:
    """Return docker if its daemon answers, else buildah.

    Raises:
        ImagesError: there is neither.
    """
    if os.geteuid() != 0:
        raise ImagesError("Images are unpacked and run as an edge device does it, by root: sudo make images")
    if succeeds("docker", "info"):
        return Docker()
    if succeeds("buildah", "--version"):
        return Buildah()
    raise ImagesError("No docker daemon answers, and there is no buildah; tools/install-image-tools installs it.")


def _build_options(build: Build) -> list[str]:
    arguments = [option for name, value in build.arguments.items() for option in ("--build-arg", f"{name}={value}")]
    lent = [option for name, path in _LENT.items() if os.path.exists(path) for option in _secret(name, path)]
    named = ["--platform", build.platform.oci, "--file", str(build.dockerfile), "--tag", build.tag]
    return [*named, *arguments, *lent, "."]


def _secret(name: str, path: str) -> tuple[str, str]:
    return "--secret", f"id={name},src={path}"


@contextlib.contextmanager
def _archive(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        archive = Path(directory, "root.tar")
        run("tar", "-C", str(root), "--numeric-owner", "-cf", str(archive), ".", limit=_IMPORT_LIMIT)
        yield archive
