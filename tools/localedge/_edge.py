"""`LocalEdge`: the runtime for synchronous callers, with its event loop in a thread of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from localedge._errors import StartError
from localedge._hub import Message
from localedge._loop_thread import LoopThread
from localedge._methods import MethodResponse, encode_payload
from localedge._runtime import Runtime, Settings
from localedge._service import payload_of
from localedge._sftp_server import SftpServer
from localedge._twin import Document

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

_Answer = tuple[int, Any]


class LocalEdge:
    """An IoT Edge device on this machine, with one module as a process of its own.

    Use it in a `with` block. Every call may come from any thread and blocks; times are in seconds.

    - `template`: the deployment template; without it, the module has no environment and no desired properties.
    - `module`, `device`: their names.
    - `address`: a loopback address. Runtimes side by side need different ones, as the SDK fixes the port, 8883.
    - `service_port`: of the service API, 0 for a free one.
    - `directory`: where the module's files, its log and the SFTP server's files are kept; by default they are
      removed at the end.
    - `placeholders`: values for `${NAME}` in the template, before those of this process's environment.
    - `environment`: further variables for the module.
    - `desired`: a merge patch for the template's desired properties.
    - `sftp_server`: whether to run an SFTP server with sample files, and to point the desired section `sftp` to it.
    - `start_module`: whether to start the module at once, with `command`.
    - `restart_policy`: instead of the template's.
    - `siblings`: further modules by their names, with the command of each; `start_sibling` starts one. They have no
      folders of their own. Modules can call each other's methods where this process may listen on port 443.
    - `routes`: beside those of the template.
    - `echo`: whether the module's log goes to stderr, too.
    """

    def __init__(
        self,
        template: Path | None = None,
        *,
        module: str = "sftp",
        device: str = "local-device",
        address: str = "127.0.0.1",
        service_port: int = 0,
        directory: Path | None = None,
        placeholders: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        desired: Mapping[str, Any] | None = None,
        sftp_server: bool = False,
        start_module: bool = True,
        command: Sequence[str] = (sys.executable, "-m", "iot.sftp.module"),
        restart_policy: str | None = None,
        echo: bool = False,
        siblings: Mapping[str, Sequence[str]] | None = None,
        routes: Sequence[str] = (),
    ) -> None:
        self._settings = Settings(
            template=template,
            module=module,
            device=device,
            address=address,
            service_port=service_port,
            directory=directory,
            placeholders=placeholders or {},
            environment=environment or {},
            desired=desired or {},
            sftp_server=sftp_server,
            command=command,
            restart_policy=restart_policy,
            echo=echo,
            siblings=siblings or {},
            routes=routes,
        )
        self._start_module = start_module
        self._loop = LoopThread("localedge")
        self._runtime = Runtime(self._settings)

    def __enter__(self) -> Self:
        """Start everything. `StartError` or `DeploymentError` says what is wrong."""
        self._loop.start()
        try:
            self._loop.run(self._start())
        except BaseException:
            self._loop.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, the module first."""
        try:
            self._loop.run(self._runtime.stop())
        finally:
            self._loop.end()

    # The module's twin, methods and messages, as the service side sees them

    def invoke(
        self, module: str, method: str, payload: object = None, *, timeout: float = 30, connect_timeout: float = 0
    ) -> _Answer:
        """Call a direct method; return the module's status and payload.

        `HubError` if the hub answers instead of the module: 404 not connected, 413 too large, 504 no answer in time.
        """
        return self.submit(module, method, payload, timeout=timeout, connect_timeout=connect_timeout).result()

    def submit(
        self, module: str, method: str, payload: object = None, *, timeout: float = 30, connect_timeout: float = 0
    ) -> Future[_Answer]:
        """Call a direct method without waiting; the result of the future is that of `invoke`."""
        data = encode_payload(payload)
        return self._loop.submit(self._invoke(module, method, data, timeout, connect_timeout))

    def invoke_raw(self, module: str, method: str, payload: bytes, *, timeout: float = 30) -> MethodResponse:
        """Call a direct method with bytes that need not be JSON, which IoT Hub itself would refuse."""
        hub = self._runtime.hub
        return self._loop.run(hub.invoke(self._client_id(module), method, payload, timeout=timeout))

    def twin(self, module: str | None = None) -> Document:
        """Return the twin as the REST API shows it."""
        return self._loop.call(lambda: self._runtime.hub.twin(self._client_id(module)).for_service())

    @property
    def desired(self) -> Document:
        """The desired properties with `$version`."""
        return self._loop.call(lambda: self._runtime.hub.twin(self._client_id()).desired)

    @property
    def reported(self) -> Document:
        """The reported properties with `$version`."""
        return self._loop.call(lambda: self._runtime.hub.twin(self._client_id()).reported)

    def patch_desired(self, patch: Mapping[str, Any]) -> int:
        """Merge `patch` into the desired properties; return the new `$version`."""
        return self._change_desired(patch, replace=False)

    def replace_desired(self, document: Mapping[str, Any]) -> int:
        """Replace all desired properties; return the new `$version`."""
        return self._change_desired(document, replace=True)

    @property
    def messages(self) -> list[Message]:
        """The module's messages that have arrived in the cloud, the oldest first; the last 1,000 are kept."""
        return self._loop.call(lambda: list(self._runtime.hub.messages))

    def messages_of(self, output: str) -> list[Message]:
        """Return those of them that were sent to an output."""
        return [message for message in self.messages if message.output == output]

    def send_to_input(
        self, name: str, body: bytes, *, message_id: str | None = None, sender: str = "", **properties: str
    ) -> None:
        """Send a message to an input of the module, as another module would; it is kept until it is acknowledged."""
        identifier = {} if message_id is None else {"$.mid": message_id}
        hub = self._runtime.hub
        self._loop.call(lambda: hub.send_to_input(self._client_id(), name, body, {**identifier, **properties}, sender))

    @property
    def waiting_for_inputs(self) -> int:
        """How many messages for its inputs the module has not acknowledged."""
        return self._loop.call(lambda: self._runtime.hub.waiting_for_inputs(self._client_id()))

    # Waiting

    def wait_until_connected(self, timeout: float = 60) -> None:
        """Return when the module is connected and takes methods; `TimeoutError` with the end of its log if not.

        The hub knows this a moment before the module does, as the acknowledgement is still on its way: before a test
        disturbs a module that has just started, let it answer a call.
        """
        self.wait_for(lambda: self._runtime.hub.is_ready(self._client_id()), "the module is connected", timeout)

    def wait_until_disconnected(self, timeout: float = 60) -> None:
        """Return when the module is not connected."""
        hub = self._runtime.hub
        self.wait_for(lambda: not hub.is_connected(self._client_id()), "the module is disconnected", timeout)

    def wait_for_reported(self, condition: Callable[[Document], bool], timeout: float = 60) -> Document:
        """Return the reported properties once `condition` holds of them; one that misses a key does not hold."""
        twin = self._runtime.hub.twin(self._client_id())

        def holds() -> bool:
            try:
                return condition(twin.reported)
            except (KeyError, TypeError):
                return False

        self.wait_for(holds, "the reported properties are as expected", timeout)
        return self.reported

    def wait_for_message(self, condition: Callable[[Message], bool], timeout: float = 60) -> Message:
        """Return the first message of which `condition` holds, waiting for it if need be."""
        messages = self._runtime.hub.messages
        self.wait_for(lambda: any(map(condition, messages)), "such a message has come", timeout)
        return next(filter(condition, self.messages))

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float = 60) -> None:
        """Return when `condition` holds; `TimeoutError` if it never does.

        It is asked after each change in the hub, and now and then: it may be about files or processes.
        """
        if not self._loop.run(self._runtime.hub.changes.until(condition, timeout)):
            raise TimeoutError(
                f"Not within {timeout:g} s: {what}. The end of the module's log:\n{self.module_log[-2000:]}"
            )

    # Faults

    def disconnect_module(self) -> bool:
        """Cut the module's connection; return whether there was one."""
        return self._loop.run(self._runtime.hub.drop(self._client_id()))

    def stop_hub(self) -> None:
        """Take the edge hub away: connections are cut and refused until `start_hub`."""
        self._loop.run(self._runtime.hub.close())

    def start_hub(self) -> None:
        """Bring the edge hub back, with the sessions and twins that it had."""
        self._loop.run(self._runtime.listen())

    def cut_upstream(self) -> None:
        """Cut the edge hub off from the cloud: it takes messages, and stores them until `restore_upstream`."""
        self._loop.call(lambda: self._runtime.hub.set_upstream(connected=False))

    def restore_upstream(self) -> None:
        """Let the edge hub reach the cloud again: what it has stored arrives there."""
        self._loop.call(lambda: self._runtime.hub.set_upstream(connected=True))

    def refuse_tokens(self, *, refuse: bool = True) -> None:
        """Answer every connection attempt with "not authorised", or accept valid tokens again."""
        self._runtime.hub.refuses_tokens = refuse

    def add_sftp_server(self, name: str) -> SftpServer:
        """Run a further SFTP server, with an empty folder, and name it in the section `servers` of the twin."""
        server: SftpServer = self._loop.run(self._runtime.add_sftp_server(name))
        section = {"host": server.address, "port": server.port, "user": server.user, "password": server.password}
        self.patch_desired({"servers": {name: section}})
        return server

    def stop_sftp_server(self) -> None:
        """Take the SFTP server away: its connections are cut, and refused until `start_sftp_server`."""
        self._loop.run(self.sftp_server.stop())

    def start_sftp_server(self) -> None:
        """Bring the SFTP server back, on the same port and with the same host key."""
        self._loop.run(self.sftp_server.start())

    # The module's process

    def start_module(self) -> None:
        """Start the module's process, unless it runs."""
        self._loop.run(self._runtime.start_module())

    def stop_module(self, limit: float = 10) -> int | None:
        """End the module's process by SIGTERM, by SIGKILL after `limit`; return its exit status."""
        return self._loop.run(self._runtime.stop_module(limit))

    def kill_module(self) -> None:
        """Kill the module's process, as a crash would; the restart policy decides what follows."""
        process = self._runtime.process
        if process is not None:
            self._loop.call(process.kill)

    def start_sibling(self, name: str) -> None:
        """Start the process of another module, unless it runs."""
        self._loop.run(self._runtime.start_sibling(name))

    def stop_sibling(self, name: str, limit: float = 10) -> int | None:
        """End it by SIGTERM, by SIGKILL after `limit`; return its exit status."""
        return self._loop.run(self._runtime.stop_sibling(name, limit))

    def sibling_log(self, name: str) -> str:
        """Return what another module has written to stdout and stderr."""
        log_file = self._runtime.sibling_log_file(name)
        return log_file.read_text(errors="replace") if log_file.exists() else ""

    @property
    def has_edge_api(self) -> bool:
        """Whether modules can call each other's methods: this process may listen on port 443."""
        return self._runtime.edge_api.is_there

    @property
    def module_pid(self) -> int | None:
        """The id of the module's process, `None` while there is none."""
        process = self._runtime.process
        return None if process is None else process.pid

    @property
    def module_exit_statuses(self) -> list[int]:
        """How the current module's process ended, each time that it did; negative for a signal."""
        process = self._runtime.process
        return [] if process is None else list(process.exit_statuses)

    @property
    def module_log(self) -> str:
        """What the module's process has written to stdout and stderr."""
        log_file = self._runtime.log_file
        return log_file.read_text(errors="replace") if log_file.exists() else ""

    @property
    def module_environment(self) -> dict[str, str]:
        """The variables that the module is started with, beside those of this process."""
        return self._runtime.module_environment

    # Where things are

    @property
    def address(self) -> str:
        """Where the edge hub listens, on port 8883."""
        return self._runtime.address

    @property
    def connection_string(self) -> str:
        """The service side's connection string, for azure-iot-hub."""
        return self._runtime.service.connection_string

    @property
    def authority_file(self) -> Path:
        """The certificate that the hub's and the service API's certificates are signed with, as PEM."""
        return self._runtime.certificates.authority_file

    @property
    def device(self) -> str:
        """The device's id."""
        return self._runtime.identity.device

    @property
    def local_root(self) -> Path:
        """The module's SFTP_LOCAL_ROOT."""
        return self._runtime.local_root

    @property
    def state_directory(self) -> Path:
        """The module's SFTP_STATE_DIR."""
        return self._runtime.state_directory

    @property
    def log_file(self) -> Path:
        """Where the module's output goes."""
        return self._runtime.log_file

    @property
    def has_sftp_server(self) -> bool:
        """Whether this runtime has an SFTP server."""
        return self._runtime.sftp_server is not None

    @property
    def sftp_server(self) -> SftpServer:
        """The SFTP server of this runtime."""
        if self._runtime.sftp_server is None:
            raise StartError("This runtime was started without an SFTP server: pass sftp_server=True.")
        return self._runtime.sftp_server

    async def _start(self) -> None:
        await self._runtime.start()
        if self._start_module:
            try:
                await self._runtime.start_module()
            except BaseException:
                await self._runtime.stop()
                raise

    async def _invoke(self, module: str, method: str, data: bytes, timeout: float, connect_timeout: float) -> _Answer:
        client_id = self._client_id(module)
        response = await self._runtime.hub.invoke(
            client_id, method, data, timeout=timeout, connect_timeout=connect_timeout
        )
        return response.status, payload_of(response)

    def _change_desired(self, desired: Mapping[str, Any], *, replace: bool) -> int:
        request = {"properties": {"desired": dict(desired)}}
        hub = self._runtime.hub
        twin = self._loop.call(lambda: hub.change_twin(self._client_id(), request, replace=replace))
        return int(twin.desired["$version"])

    def _client_id(self, module: str | None = None) -> str:
        identity = self._runtime.identity
        return self._runtime.hub.client_id(identity.device, module or identity.module)
