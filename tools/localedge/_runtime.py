"""Everything of one device on one machine: certificates, workload API, hub, service API, SFTP server, module."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from localedge._broker import PORT
from localedge._certificates import Certificates
from localedge._deployment import ModuleDeployment, read_deployment
from localedge._edge_api import EdgeApi
from localedge._errors import StartError
from localedge._hub import Hub
from localedge._identity import ModuleIdentity
from localedge._process import ModuleProcess
from localedge._service import ServiceApi
from localedge._sftp_server import SftpServer, write_samples
from localedge._twin import merge
from localedge._workload import API_VERSION, WorkloadApi

HUB_NAME = "localedge"
"""The name of the IoT hub; nobody ever connects to it."""


@dataclass(frozen=True)
class Settings:
    """What a runtime is started with; see `LocalEdge` for what each one means."""

    template: Path | None = None
    module: str = "sftp"
    device: str = "local-device"
    address: str = "127.0.0.1"
    service_port: int = 0
    directory: Path | None = None
    placeholders: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    desired: Mapping[str, Any] = field(default_factory=dict)
    sftp_server: bool = False
    command: Sequence[str] = (sys.executable, "-m", "iot.sftp.module")
    restart_policy: str | None = None
    echo: bool = False
    siblings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    routes: Sequence[str] = ()


class Runtime:
    """The parts of one device, started in the order in which they need each other. For one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cleanup = contextlib.AsyncExitStack()
        self.address = settings.address
        self.identity = ModuleIdentity(HUB_NAME, settings.device, settings.module)
        self.siblings = {name: ModuleIdentity(HUB_NAME, settings.device, name) for name in settings.siblings}
        self.sftp_server: SftpServer | None = None
        self.process: ModuleProcess | None = None
        self.sibling_processes: dict[str, ModuleProcess] = {}

    async def start(self) -> None:
        """Start everything but the module. `StartError` or `DeploymentError` says what is wrong."""
        async with contextlib.AsyncExitStack() as cleanup:
            self._make_directories(cleanup)
            self.certificates = Certificates(self.run_directory, sorted({"localhost", "127.0.0.1", self.address}))
            if self._settings.sftp_server:
                await self._start_sftp_server(cleanup)
            self.deployment = self._read_deployment()
            await self._start_workload_api(cleanup)
            await self._start_hub(cleanup)
            await self._start_service_api(cleanup)
            self._cleanup = cleanup.pop_all()

    async def stop(self) -> None:
        """Stop the modules and everything else, and remove the run directory."""
        for name in list(self.sibling_processes):
            await self.stop_sibling(name)
        await self.stop_module()
        await self._cleanup.aclose()

    async def add_sftp_server(self, name: str) -> SftpServer:
        """Run a further SFTP server, whose root is an empty folder; it stops with the rest."""
        root = self.sftp_root.with_name(f"sftp-{name}")
        root.mkdir(exist_ok=True)
        server = SftpServer(root, self.address)
        await server.start()
        self._cleanup.push_async_callback(server.stop)
        return server

    async def start_module(self) -> None:
        """Start the module's process, unless it runs."""
        if self.process is not None:
            return
        process = ModuleProcess(
            self._settings.command,
            {**os.environ, **self.module_environment},
            self.log_file,
            restart_policy=self._settings.restart_policy or self.deployment.restart_policy,
            echo=self._settings.echo,
        )
        try:
            await process.start()
        except OSError as error:
            raise StartError(f"The module cannot be started: {error}.") from error
        self.process = process

    async def start_sibling(self, name: str) -> None:
        """Start another module's process, unless it runs."""
        if name in self.sibling_processes:
            return
        environment = {**os.environ, **self._identity_environment(self.siblings[name])}
        command, echo = self._settings.siblings[name], self._settings.echo
        process = ModuleProcess(command, environment, self.sibling_log_file(name), echo=echo)
        await process.start()
        self.sibling_processes[name] = process

    async def stop_sibling(self, name: str, limit: float = 10) -> int | None:
        """Stop another module's process; return its exit status."""
        process = self.sibling_processes.pop(name, None)
        return None if process is None else await process.stop(limit)

    def sibling_log_file(self, name: str) -> Path:
        """Return where another module's output goes."""
        return self.log_file.with_name(f"{name}.log")

    async def stop_module(self, limit: float = 10) -> int | None:
        """Stop the module's process; return its exit status."""
        process, self.process = self.process, None
        return None if process is None else await process.stop(limit)

    async def listen(self) -> None:
        """Let the hub accept connections. `StartError` if its port is taken."""
        try:
            await self.hub.listen(self.address, self.certificates.server_context())
        except OSError as error:
            raise StartError(
                f"The edge hub cannot listen on {self.address}:{PORT}: {error.strerror}."
                " Another address of this machine, such as 127.0.0.2, has a port of its own."
            ) from error

    @property
    def module_environment(self) -> dict[str, str]:
        """The variables that the edge agent sets, those of the deployment, and the module's folders."""
        return {
            **self.deployment.environment,
            # Metrics off: here they were open to the network, and several runtimes cannot share one port
            "SFTP_METRICS_PORT": os.environ.get("SFTP_METRICS_PORT", "0"),
            "SFTP_LOCAL_ROOT": str(self.local_root),
            "SFTP_STATE_DIR": str(self.state_directory),
            **self._settings.environment,
            **self._identity_environment(self.identity),
        }

    def _identity_environment(self, identity: ModuleIdentity) -> dict[str, str]:
        """Return the variables that the edge agent sets for every module."""
        return {
            "IOTEDGE_IOTHUBHOSTNAME": identity.hub,
            "IOTEDGE_DEVICEID": identity.device,
            "IOTEDGE_MODULEID": identity.module,
            "IOTEDGE_GATEWAYHOSTNAME": self.address,
            "IOTEDGE_MODULEGENERATIONID": identity.generation_id,
            "IOTEDGE_WORKLOADURI": self._workload.uri,
            "IOTEDGE_APIVERSION": API_VERSION,
            "IOTEDGE_AUTHSCHEME": "sasToken",
        }

    def _make_directories(self, cleanup: contextlib.AsyncExitStack) -> None:
        # Always in the system's folder for temporary files: the path of a unix socket has 107 bytes at most.
        self.run_directory = Path(tempfile.mkdtemp(prefix="localedge-"))  # mode 0700
        cleanup.callback(shutil.rmtree, self.run_directory, ignore_errors=True)
        directory = (self._settings.directory or self.run_directory).absolute()
        self.local_root = directory / "local"
        self.state_directory = directory / "state"
        self.sftp_root = directory / "sftp"
        self.log_file = directory / "module.log"
        for folder in (self.local_root, self.state_directory):
            folder.mkdir(parents=True, exist_ok=True)

    async def _start_sftp_server(self, cleanup: contextlib.AsyncExitStack) -> None:
        self.sftp_root.mkdir(exist_ok=True)
        write_samples(self.sftp_root)
        self.sftp_server = SftpServer(self.sftp_root, self.address)
        await self.sftp_server.start()
        cleanup.push_async_callback(self.sftp_server.stop)

    def _read_deployment(self) -> ModuleDeployment:
        """Read the template, with the embedded SFTP server, if there is one, as the server to use."""
        deployment = ModuleDeployment({}, {}, "always")
        server = self.sftp_server
        section: dict[str, Any] = {}
        values = {**os.environ, **self._settings.placeholders}
        if server is not None:
            section = {"host": server.address, "port": server.port, "user": server.user, "password": server.password}
            values = {**{f"SFTP_{name.upper()}": str(value) for name, value in section.items()}, **values}
        if self._settings.template is not None:
            deployment = read_deployment(self._settings.template, self.identity.module, values)
        desired = merge(deployment.desired, {"sftp": section} if section else {})
        desired = merge(desired, dict(self._settings.desired))
        return replace(deployment, desired=desired)

    async def _start_workload_api(self, cleanup: contextlib.AsyncExitStack) -> None:
        modules = {self.identity.module: self.identity, **self.siblings}
        self._workload = WorkloadApi(self.run_directory / "workload.sock", self.certificates.authority, modules)
        await self._workload.start()
        cleanup.push_async_callback(self._workload.stop)

    async def _start_hub(self, cleanup: contextlib.AsyncExitStack) -> None:
        name = self.identity.module
        modules = {name: self.identity, **self.siblings}
        self.hub = Hub(modules, {name: self.deployment.desired}, (*self.deployment.routes, *self._settings.routes))
        await self.hub.start()
        cleanup.push_async_callback(self.hub.stop)
        await self.listen()
        self.edge_api = EdgeApi(self.hub, self.address)
        cleanup.push_async_callback(self.edge_api.stop)
        if self._settings.siblings:
            await self.edge_api.start(self.certificates.server_context())

    async def _start_service_api(self, cleanup: contextlib.AsyncExitStack) -> None:
        self.service = ServiceApi(self.hub, self.address, self._settings.service_port)
        cleanup.push_async_callback(self.service.stop)
        try:
            await self.service.start(self.certificates.server_context())
        except OSError as error:
            raise StartError(f"The service API cannot listen on {self.service.host_name}: {error.strerror}.") from error
