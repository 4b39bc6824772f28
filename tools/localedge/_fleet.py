"""Many devices of one IoT hub on this machine, each with the module as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from localedge._certificates import Certificates
from localedge._deployment import ModuleDeployment, read_deployment
from localedge._hub import Hub
from localedge._identity import ModuleIdentity
from localedge._loop_thread import LoopThread
from localedge._process import ModuleProcess
from localedge._service import ServiceApi
from localedge._sftp_server import SftpServer, write_samples
from localedge._twin import merge
from localedge._workload import API_VERSION, WorkloadApi

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

_HUB_NAME = "localedge"
_START_LIMIT = 120.0


@dataclass(frozen=True)
class _Device:
    identity: ModuleIdentity
    workload: WorkloadApi
    directory: Path


class LocalFleet:
    """One IoT hub with several devices, and one SFTP server that all use; use it in a `with` block.

    - `devices`: their names, each with the tags of its module's twin.
    - `template`: the deployment that all of them have.
    - `address`: a loopback address, as in `LocalEdge`.
    - `module`, `command`: as in `LocalEdge`.
    - `layer`: desired properties of a further layer, merged into those of the template.
    - `at_once`: how many modules start at the same time; all of them by default.
    - `hub`: the class of the hub, for who wants to listen in it.
    """

    def __init__(
        self,
        devices: Mapping[str, Mapping[str, Any]],
        template: Path,
        *,
        address: str = "127.0.0.1",
        module: str = "sftp",
        command: Sequence[str] = (sys.executable, "-m", "iot.sftp.module"),
        layer: Mapping[str, Any] | None = None,
        at_once: int | None = None,
        hub: type[Hub] = Hub,
    ) -> None:
        self._tags = devices
        self._template = template
        self._address = address
        self._module = module
        self._command = command
        self._layer = dict(layer or {})
        self._at_once = at_once or len(devices)
        self._hub_class = hub
        self._loop = LoopThread("localfleet")
        self._cleanup = contextlib.AsyncExitStack()
        self._devices: dict[str, _Device] = {}
        self._processes: dict[str, ModuleProcess] = {}

    def __enter__(self) -> Self:
        """Start everything, and return when all modules take methods."""
        self._loop.start()
        try:
            self._loop.run(self._start())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, the modules first."""
        try:
            self._loop.run(self._cleanup.aclose())
        finally:
            self._loop.end()

    @property
    def connection_string(self) -> str:
        """What a caller of the service API needs."""
        return self._service.connection_string

    @property
    def authority_file(self) -> Path:
        """The certificate to trust, as a PEM file."""
        return self._certificates.authority_file

    @property
    def devices(self) -> list[str]:
        """The names of the devices."""
        return list(self._tags)

    @property
    def sftp_root(self) -> Path:
        """The root of the SFTP server."""
        return self._directory / "sftp"

    def local_root(self, device: str) -> Path:
        """Return a device's SFTP_LOCAL_ROOT."""
        return self._devices[device].directory / "local"

    def process_id(self, device: str) -> int | None:
        """Return the id of a device's module process, `None` while it does not run."""
        return self._processes[device].pid

    def exit_statuses(self, device: str) -> list[int]:
        """Return how a device's module has ended, each time that it did."""
        return list(self._processes[device].exit_statuses)

    def stop_module(self, device: str) -> None:
        """Take a device away; it does not come back."""
        self._loop.run(self._processes[device].stop())

    async def _start(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="localfleet-"))
        self._cleanup.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self._certificates = Certificates(self._directory, sorted({"localhost", "127.0.0.1", self._address}))
        self.sftp_root.mkdir()
        write_samples(self.sftp_root)
        server = SftpServer(self.sftp_root, self._address)
        await server.start()
        self._cleanup.push_async_callback(server.stop)
        values = {"host": server.address, "port": server.port, "user": server.user, "password": server.password}
        placeholders = {f"SFTP_{name.upper()}": str(value) for name, value in values.items()}
        deployment = read_deployment(self._template, self._module, {**os.environ, **placeholders})
        deployment.desired["sftp"].update(values)
        deployment = replace(deployment, desired=merge(deployment.desired, self._layer))
        for number, name in enumerate(self._tags):
            await self._add_device(name, self._directory / str(number))
        await self._start_hub(deployment)
        await self._start_modules(deployment)

    async def _add_device(self, name: str, directory: Path) -> None:
        identity = ModuleIdentity(_HUB_NAME, name, self._module)
        for folder in ("local", "state"):
            (directory / folder).mkdir(parents=True)
        workload = WorkloadApi(directory / "workload.sock", self._certificates.authority, {self._module: identity})
        await workload.start()
        self._cleanup.push_async_callback(workload.stop)
        self._devices[name] = _Device(identity, workload, directory)

    async def _start_hub(self, deployment: ModuleDeployment) -> None:
        identities = {device.identity.client_id: device.identity for device in self._devices.values()}
        self._hub = self._hub_class(identities, dict.fromkeys(identities, deployment.desired))
        for name, tags in self._tags.items():
            self._hub.change_twin(self._hub.client_id(name, self._module), {"tags": dict(tags)})
        await self._hub.start()
        self._cleanup.push_async_callback(self._hub.stop)
        await self._hub.listen(self._address, self._certificates.server_context())
        self._service = ServiceApi(self._hub, self._address)
        self._cleanup.push_async_callback(self._service.stop)
        await self._service.start(self._certificates.server_context())

    async def _start_modules(self, deployment: ModuleDeployment) -> None:
        self._cleanup.push_async_callback(self._stop_modules)
        names = list(self._devices)
        for begin in range(0, len(names), self._at_once):
            await self._start_some(names[begin : begin + self._at_once], deployment)

    async def _start_some(self, names: Sequence[str], deployment: ModuleDeployment) -> None:
        """Start modules, and return when they take methods."""
        for name in names:
            device = self._devices[name]
            environment = {**os.environ, **deployment.environment, **self._environment(device)}
            process = ModuleProcess(self._command, environment, device.directory / "module.log")
            await process.start()
            self._processes[name] = process
        ready = [self._hub.client_id(name, self._module) for name in names]
        if not await self._hub.changes.until(lambda: all(map(self._hub.is_ready, ready)), _START_LIMIT):
            log = self._devices[names[0]].directory / "module.log"
            raise TimeoutError(f"Not all modules are connected within {_START_LIMIT:g} s:\n{log.read_text()[-2000:]}")

    async def _stop_modules(self) -> None:
        await asyncio.gather(*(process.stop() for process in self._processes.values()))

    def _environment(self, device: _Device) -> dict[str, str]:
        return {
            "SFTP_METRICS_PORT": "0",
            "SFTP_LOCAL_ROOT": str(device.directory / "local"),
            "SFTP_STATE_DIR": str(device.directory / "state"),
            "IOTEDGE_IOTHUBHOSTNAME": device.identity.hub,
            "IOTEDGE_DEVICEID": device.identity.device,
            "IOTEDGE_MODULEID": device.identity.module,
            "IOTEDGE_GATEWAYHOSTNAME": self._address,
            "IOTEDGE_MODULEGENERATIONID": device.identity.generation_id,
            "IOTEDGE_WORKLOADURI": device.workload.uri,
            "IOTEDGE_APIVERSION": API_VERSION,
            "IOTEDGE_AUTHSCHEME": "sasToken",
        }
