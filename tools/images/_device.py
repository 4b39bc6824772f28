"""A local edge runtime whose module is a container of an image, with the createOptions of the project's deployment."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from images._command import run, succeeds
from images._container import RUNTIME, Container
from images._image import Image
from localedge import LocalEdge

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

TEMPLATE = Path(__file__).parents[2] / "deployment.template.json"


class Device:
    """An edge device that runs an image; use it in a `with` block.

    - `address`: the hub's and the SFTP server's, as in `LocalEdge`.
    - `binds`: by their places in the container, instead of fresh folders that belong to the image's user;
      `None` as a source leaves that bind away.
    - `network`: a network namespace's file.
    - `host_config`: changes of HostConfig.
    - `start_module`: whether to start the module at once.
    """

    def __init__(
        self,
        image: Image,
        address: str,
        *,
        binds: Mapping[str, Path | None] | None = None,
        network: Path | None = None,
        host_config: Mapping[str, Any] | None = None,
        start_module: bool = True,
        echo: bool = False,
    ) -> None:
        self._image = image
        self._address = address
        self._binds = binds or {}
        self._network = network
        self._host_config = {**_deployed_host_config(), **(host_config or {})}
        self._start_module = start_module
        self._echo = echo
        self._cleanup = contextlib.ExitStack()
        self.name = f"iot-sftp-{secrets.token_hex(4)}"
        self.folders: dict[str, Path] = {}
        """The host's side of the binds, by their places in the container."""

    def __enter__(self) -> Self:
        """Start the runtime, and the module unless that was not wanted."""
        with contextlib.ExitStack() as cleanup:
            directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="images-", dir="/var/tmp")))
            directory.chmod(0o711)
            self.folders = dict(self._bound_folders(directory))
            container = Container.of(
                self._image,
                self.name,
                self._host_config,
                binds={place: str(source) for place, source in self.folders.items()},
                network=None if self._network is None else str(self._network),
                directory=str(directory),
            )
            cleanup.callback(succeeds, RUNTIME, "delete", "--force", self.name)
            self.edge = cleanup.enter_context(self._runtime(container))
            # The edge agent's socket is for all modules, whatever their users.
            socket = Path(self.edge.module_environment["IOTEDGE_WORKLOADURI"].removeprefix("unix://"))
            socket.chmod(0o666)
            if self._start_module:
                self.edge.start_module()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, and remove what was made."""
        self._cleanup.close()

    @property
    def process(self) -> Path:
        """The folder in /proc of the module's process, which is the container's first."""
        return Path("/proc", str(json.loads(run(RUNTIME, "state", self.name))["pid"]))

    def run_inside(self, *command: str) -> str:
        """Run a command in the container, as root; return what it writes."""
        return run(RUNTIME, "exec", "--user", "0:0", self.name, *command)

    def run_as_the_module(self, *command: str) -> str:
        """Run a command in the container, as its user, as `docker exec` does; return what it writes."""
        return run(RUNTIME, "exec", self.name, *command)

    def _bound_folders(self, directory: Path) -> Iterator[tuple[str, Path]]:
        for bind in self._host_config["Binds"]:
            place = bind.split(":")[1]
            source = self._binds.get(place, directory / place.strip("/"))
            if source is None:
                continue
            if place not in self._binds:
                source.mkdir(mode=0o750)
                os.chown(source, *self._image.user)
            yield place, source

    def _runtime(self, container: Container) -> LocalEdge:
        return LocalEdge(
            TEMPLATE,
            address=self._address,
            command=container.command(),
            # The runtime would name folders of the host.
            environment={"SFTP_LOCAL_ROOT": "/data", "SFTP_STATE_DIR": "/state"},
            sftp_server=True,
            start_module=False,
            echo=self._echo,
        )


def _deployed_host_config() -> dict[str, Any]:
    agent = json.loads(TEMPLATE.read_text(encoding="utf-8"))["modulesContent"]["$edgeAgent"]["properties.desired"]
    host_config: dict[str, Any] = agent["modules"]["sftp"]["settings"]["createOptions"]["HostConfig"]
    return host_config
