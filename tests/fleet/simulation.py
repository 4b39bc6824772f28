"""Thousands of devices without processes: twins, queries and jobs are real, and so is what a device does with a key.

A simulated device reads the layered deployment with the module's own code, makes its key, reports it, and answers
methods. What is not here: the transport to the hub, and SFTP; a login is a look at the installed keys.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fleet.devices import LAYERED
from tests.fleet.figures import Figures
from tests.fleet.logins import fingerprint_of
from tests.fleet.programs import run_example

from iot.sftp.module._documents.requests import expanded
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._documents.twin import read_desired
from iot.sftp.module._methods.parsing import parse_call
from iot.sftp.module._work.device_key import DeviceKey
from localedge._certificates import Certificates
from localedge._deployment import read_deployment
from localedge._errors import HubError
from localedge._hub import Hub
from localedge._identity import ModuleIdentity
from localedge._methods import MethodResponse
from localedge._service import ServiceApi
from localedge._twin import Document, Twin, merge

NAME = "localedge"
AWAY = 100  # each of so many devices is away at its first call
PAGE = 100


class SimulatedDevice:
    """A device as its twin and its callers see it."""

    def __init__(self, twin: Twin, name: str, directory: Path, installed: Path) -> None:
        """Take the desired properties, and report what the module would."""
        self._twin = twin
        self._installed = installed
        desired = read_desired(twin.desired, Placeholders(name, "sftp", NAME))
        assert not desired.refused, desired
        section = desired.sftp.value
        assert section is not None
        self._placeholders = desired.placeholders
        self._shown = section.as_properties()
        self.key = DeviceKey(directory / name, f"{name}/sftp/sftp", on_change=self._report)
        self.key.make()
        self.settings = section.as_settings(directory / "known_hosts", directory, key=self.key)
        self.is_away = False
        self.fetched: list[str] = []
        self.refused = 0  # logins
        self._report()

    def call(self, name: str, payload: bytes) -> tuple[int, Any]:
        """Answer a direct method."""
        call = parse_call(name, json.loads(payload))
        if name == "rotate_key":
            return 200, {"publicKey": self.key.rotate()}
        if name == "download_file":
            request: Any = call.request
            self.fetched.append(expanded(request, self._placeholders, 0.0).dest)
        return 200, self._log_in()

    def _log_in(self) -> bool:
        lines = (self._installed / self.settings.user).read_text().split()
        own = self.key.as_properties()
        keys = [own[name].split()[1] for name in ("nextPublicKey", "publicKey") if name in own]
        accepted = [fingerprint_of(key) for key in keys if key in lines]
        self.refused += not accepted
        self.key.note_accepted(accepted[:1])
        return bool(accepted)

    def _report(self) -> None:
        value = {**self._shown, **self.key.as_properties(), "nextPublicKey": None}
        value.update(self.key.as_properties())
        self._twin.patch_reported({"sftp": {"ac": 200, "av": 1, "ad": "applied", "value": value}})


class SimulatedHub(Hub):
    """A hub whose modules are simulated: no broker is started."""

    devices: dict[str, SimulatedDevice]

    async def invoke(
        self, client_id: str, name: str, payload: bytes, *, timeout: float = 30, connect_timeout: float = 0
    ) -> MethodResponse:
        """Call a direct method of a simulated device."""
        del timeout, connect_timeout
        device = self.devices[client_id]
        if device.is_away:
            device.is_away = False
            raise HubError.not_online()
        status, answer = device.call(name, payload)
        return MethodResponse(status, json.dumps(answer).encode())


class Simulation:
    """The steps of the run."""

    def __init__(self, hub: SimulatedHub, service: ServiceApi, certificates: Certificates, directory: Path) -> None:
        """Take what runs."""
        self._hub = hub
        self._service = service
        self._authority = certificates.authority_file
        self._directory = directory
        self._count = len(hub.devices)

    def run(self, figures: Figures) -> None:
        """Take all steps."""
        devices = self._hub.devices.values()
        roots = {device.settings.root for device in devices}
        figures.check("simulated: folders, each of one device", found=len(roots), expected=self._count)
        with figures.step(f"simulated: keys collected, {math.ceil(self._count / PAGE)} pages of one query"):
            figures.check("simulated: keys of a device", found=self._collect(), expected={1})
        payload = '{"source": "settings.json", "dest": "settings/{deviceId}.json", "expand": true}'
        with figures.step("simulated: a job with `expand`"):
            self._job(figures, "download_file", payload)
        fetched = {path for device in devices for path in device.fetched}
        expected = {f"settings/{client_id.partition('/')[0]}.json" for client_id in self._hub.devices}
        figures.check("simulated: paths filled in", found=len(fetched & expected), expected=self._count)
        for number, device in enumerate(devices):
            device.is_away = number % AWAY == 0
        with figures.step("simulated: a job that rotates all keys, and one more for those that were away"):
            self._job(figures, "rotate_key", "{}", "--again", "1", "--pause", "0")
        with figures.step("simulated: current and next keys collected"):
            figures.check("simulated: keys of a device in a rotation", found=self._collect(), expected={2})
        with figures.step("simulated: a job in which all log in"):
            self._job(figures, "exists", '{"path": "."}')
        with figures.step("simulated: keys collected after the rotation"):
            figures.check("simulated: keys of a device after it", found=self._collect(), expected={1})
        self._job(figures, "exists", '{"path": "."}')
        figures.check("simulated: refused logins", found=sum(device.refused for device in devices), expected=0)

    def _run(self, example: str, *arguments: str) -> tuple[int, str]:
        return run_example(
            example, *arguments, connection_string=self._service.connection_string, authority=self._authority
        )

    def _collect(self) -> set[int]:
        """Collect and install the keys; return how many each device has."""
        status, said = self._run("authorized_keys.py", "--directory", str(self._directory / "installed"))
        assert status == 0, said
        files = list((self._directory / "installed").iterdir())
        assert len(files) == self._count
        found = set()
        for file in files:
            lines = file.read_text().splitlines()
            assert all(re.fullmatch(rf"ssh-ed25519 \S+ {file.name}/sftp/sftp", line) for line in lines), lines
            found.add(len(lines))
        return found

    def _job(self, figures: Figures, method: str, payload: str, *options: str) -> None:
        status, said = self._run("call_fleet.py", "", method, payload, *options)
        figures.check(f"simulated: exit status of the job {method}", found=status, expected=0)
        assert f"{self._count} devices: " in said, said


@contextmanager
def simulated(directory: Path, count: int, address: str, figures: Figures) -> Iterator[Simulation]:
    """Make a hub with simulated devices, and its service API."""
    directory.mkdir(parents=True)
    layer = {
        "sftp": {
            "host": "sftp.example.com",
            "port": 22,
            "user": "{deviceId}",
            "password": None,
            "privateKey": {"generate": "ed25519"},
        }
    }
    values = {"SFTP_HOST": "sftp.example.com", "SFTP_USER": "device"}
    desired = merge(read_deployment(LAYERED, "sftp", values).desired, layer)
    certificates = Certificates(directory, [address])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulation", daemon=True)
    thread.start()
    try:
        with figures.step(f"simulated: {count:,} devices, their documents read and their keys made"):
            hub = _hub(directory, count, desired)
        service = ServiceApi(hub, address)
        asyncio.run_coroutine_threadsafe(service.start(certificates.server_context()), loop).result()
        try:
            yield Simulation(hub, service, certificates, directory)
        finally:
            asyncio.run_coroutine_threadsafe(service.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _hub(directory: Path, count: int, desired: Document) -> SimulatedHub:
    identities = [ModuleIdentity(NAME, f"gateway-{number:05}", "sftp") for number in range(count)]
    modules = {identity.client_id: identity for identity in identities}

    async def make() -> SimulatedHub:  # the hub wants a loop when it is made
        return SimulatedHub(modules, dict.fromkeys(modules, desired))

    hub = asyncio.run(make())
    hub.devices = {
        client_id: SimulatedDevice(hub.twin(client_id), identity.device, directory / "keys", directory / "installed")
        for client_id, identity in modules.items()
    }
    return hub
