"""Many module processes behind one hub, with one OpenSSH server: from the first start to a rotation of all keys."""

from __future__ import annotations

import getpass
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from tests.fleet.figures import Figures
from tests.fleet.logins import accepted_keys, failed_logins, fingerprint_of
from tests.fleet.metering import Meter, MeteredHub
from tests.fleet.programs import run_example, until
from tests.servers import Server, openssh

from localedge import LocalFleet
from localedge._service_client import ServiceClient

LAYERED = Path(__file__).parents[2] / "deployments/layered.template.json"
BURST = 20  # files of a device at once
UNIT = 4096  # bytes of a message that IoT Hub counts as one
MIB = 1024 * 1024


class Devices:
    """A running fleet, and the steps of the run."""

    def __init__(self, fleet: LocalFleet, server: Server, directory: Path, figures: Figures) -> None:
        """Take what runs."""
        self._fleet = fleet
        self._server = server
        self._directory = directory
        self._figures = figures
        self._service = {
            device: ServiceClient(fleet.connection_string, fleet.authority_file.read_text(), device)
            for device in fleet.devices
        }
        self._names: dict[str, str] = {}  # devices by the fingerprints of their keys
        self._count = len(fleet.devices)
        self._files = 0  # that each device has had told

    def run(self) -> None:
        """Take all steps."""
        step = self._figures.step
        with step("public keys collected and installed"):
            self._figures.check("keys of a device", found=set(self._collect().values()), expected={1})
        self._check_start()
        with step("a job that writes a file, whose first login it is"):
            self._write_orders()
        with step("a job with `expand`, and a rule that sends what it has fetched"):
            self._expand()
        self._send_files()
        self._rotate()
        self._check_end()

    # --- the steps

    def _check_start(self) -> None:
        counts = [self._meter(device).counts for device in self._fleet.devices]
        # docs/deploy.md: two for the start, and six for a server that refuses the login, as the key is not installed
        updates = max(one["twin updates"] for one in counts)
        # A machine that takes its time sees more refused logins
        minutes = int(sum(self._figures.seconds.values()) / 60)
        self._figures.check_at_most("twin updates of a device until its key was collected", updates, 8 + 2 * minutes)
        self._figures.check_at_most("twin reads of a start", max(one["twin reads"] for one in counts), 2)
        self._figures.check("messages of a start", found=sum(one["messages"] for one in counts), expected=0)

    def _collect(self) -> Counter[str]:
        """Collect the keys by the example and install them; return how many each device has."""
        directory, user = self._directory / "collected", getpass.getuser()
        status, said = 1, ""
        while status:  # until the last one has reported its own
            status, said = run_example(
                "authorized_keys.py",
                *("--options", "restrict", "--directory", str(directory)),
                connection_string=self._fleet.connection_string,
                authority=self._fleet.authority_file,
            )
            assert not said or "no public key is reported" in said, said
        installed = self._directory / "installed" / user
        installed.parent.mkdir(exist_ok=True)
        (directory / user).replace(installed)
        keys: Counter[str] = Counter()
        for line in installed.read_text().splitlines():
            key = re.fullmatch(r"restrict ssh-ed25519 (\S+) (\S+)/sftp/sftp", line)
            assert key is not None, line
            self._names[fingerprint_of(key[1])] = key[2]
            keys[key[2]] += 1
        assert len(keys) == self._count, keys
        return keys

    def _write_orders(self) -> None:
        def all_have_written() -> bool:
            # Who was refused before its key was installed has a pause until the next login
            wrong = self._job("write_file", {"path": "order.json", "content": "{}"})
            assert set(wrong.values()) <= {"authentication_failed"}, wrong
            return not wrong

        until(all_have_written, "each device has logged in and written a file")
        expected = {f"{self._folder(device)}/order.json" for device in self._fleet.devices}
        self._figures.check(
            "devices with files in their own folder", found=len(self._arrived() & expected), expected=self._count
        )
        self._figures.check("files anywhere else", found=len(self._arrived() - expected), expected=0)

    def _expand(self) -> None:
        wrong = self._job("download_file", {"source": "order.json", "dest": "outbox/{deviceId}.json", "expand": True})
        self._figures.check("devices that refused the job with `expand`", found=len(wrong), expected=0)
        expected = {
            f"{self._folder(device)}/{name}"
            for device in self._fleet.devices
            for name in ("order.json", f"received/DAY/{device}.json")
        }
        until(lambda: self._arrived() >= expected, "each device's file is in its own folder")
        self._figures.check("files anywhere else, after it", found=len(self._arrived() - expected), expected=0)

    def _send_files(self) -> None:
        for service in self._service.values():
            service.patch_desired("sftp", {"events": {"files": True}})
        until(lambda: all(map(self._tells_files, self._fleet.devices)), "all devices tell of files")
        for files, name in ((1, "a file"), (BURST, f"{BURST} files at once")):
            before = {device: Counter(self._meter(device).counts) for device in self._fleet.devices}
            bytes_before = sum(self._meter(device).bytes_told for device in self._fleet.devices)
            with self._figures.step(f"{name} on each device, told by messages"):
                self._put(files)
                until(self._all_told, "each file is told by a message")
            spent = {device: self._meter(device).counts - before[device] for device in self._fleet.devices}
            messages = [one["messages"] for one in spent.values()]
            # One for a file; of more files no more than one each, and less where they are gathered
            self._figures.check_at_most(f"messages of a device for {name}", max(messages), files)
            updates = sum(one["twin updates"] for one in spent.values()) / self._count
            told = sum(self._meter(device).bytes_told for device in self._fleet.devices) - bytes_before
            self._figures.figures[f"messages of all devices for {name}"] = (
                f"{sum(messages):,}, of {told / sum(messages):,.0f} bytes"
            )
            self._figures.figures[f"twin updates of a device for {name}"] = f"{updates:.1f}"

    def _rotate(self) -> None:
        before = self._public_keys()
        with self._figures.step("all keys rotated: next ones made by a job, installed, used, old ones removed"):
            self._figures.check("devices that refused `rotate_key`", found=len(self._job("rotate_key", {})), expected=0)
            refused = self._log_in()  # the next key is not installed yet
            until(lambda: all(map(self._has_next_key, before)), "next keys are reported")
            self._figures.check("keys of a device in a rotation", found=set(self._collect().values()), expected={2})
            refused += self._log_in()
            until(lambda: all(self._rotated(device, before[device]) for device in before), "next keys are current")
            self._figures.check("keys of a device after it", found=set(self._collect().values()), expected={1})
            refused += self._log_in()
        self._figures.check("calls refused in a rotation", found=len(refused), expected=0)
        known = {name for key, name in self._names.items() if key in accepted_keys(self._server.log)}
        self._figures.check("devices whose logins were seen", found=len(known), expected=self._count)
        self._figures.check(
            "logins refused once a device's key was installed",
            found=failed_logins(list(self._server.log), self._names).total(),
            expected=0,
        )

    def _check_end(self) -> None:
        processes = [psutil.Process(self._fleet.process_id(device)) for device in self._fleet.devices]
        memory = [process.memory_full_info() for process in processes]
        resident = [one.rss / MIB for one in memory]
        seconds = statistics.median(process.cpu_times().user + process.cpu_times().system for process in processes)
        self._figures.figures |= {
            "memory of a module, resident": f"{statistics.median(resident):.0f} MiB, at most {max(resident):.0f} MiB",
            "memory of all, what they share counted once": f"{sum(one.pss for one in memory) / MIB:,.0f} MiB",
            "processor time of a module, with its start": f"{seconds:.1f} s",
        }
        restarts = sum(len(self._fleet.exit_statuses(device)) for device in self._fleet.devices)
        self._figures.check("modules that ended", found=restarts, expected=0)
        logs = [(self._fleet.local_root(device).parent / "module.log").read_text() for device in self._fleet.devices]
        self._figures.check("logs with a traceback", found=sum("Traceback" in log for log in logs), expected=0)
        counts = [self._meter(device).counts for device in self._fleet.devices]
        minutes = math.ceil(sum(self._figures.seconds.values()) / 60)
        updates = [one["twin updates"] for one in counts]
        self._figures.check_at_most("twin updates of a device, all in all", max(updates), 100 + minutes)

    # --- what they share

    def _meter(self, device: str) -> Meter:
        hub: Any = self._fleet._hub
        meter: Meter = hub.meters[f"{device}/sftp"]
        return meter

    def _reported(self, device: str) -> dict[str, Any]:
        reported: dict[str, Any] = self._fleet._hub.twin(f"{device}/sftp").reported
        return reported

    def _public_keys(self) -> dict[str, str]:
        return {device: self._reported(device)["sftp"]["value"]["publicKey"] for device in self._fleet.devices}

    def _has_next_key(self, device: str) -> bool:
        return "nextPublicKey" in self._reported(device)["sftp"]["value"]

    def _rotated(self, device: str, before: str) -> bool:
        value = self._reported(device)["sftp"]["value"]
        return not self._has_next_key(device) and bool(value["publicKey"] != before)

    def _tells_files(self, device: str) -> bool:
        return bool(self._reported(device).get("events", {}).get("value") == {"tasks": True, "files": True})

    def _job(self, method: str, payload: dict[str, Any]) -> dict[str, str]:
        """Call a method of all devices by one job; return what went wrong, by the device."""
        service = next(iter(self._service.values()))
        outcomes = service.run_job("", "sftp", method, payload, timeout=120)
        assert len(outcomes) == self._count, outcomes
        wrong = {}
        for outcome in outcomes:
            response = (outcome.get("outcome") or {}).get("deviceMethodResponse")
            if response is None:
                wrong[outcome["deviceId"]] = "not reached"
            elif response["status"] != 200:
                wrong[outcome["deviceId"]] = response["payload"]["code"]
        return wrong

    def _log_in(self) -> list[str]:
        """End all sessions, and have each device log in again; return who could not."""
        assert self._server.process is not None
        for child in psutil.Process(self._server.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        return list(self._job("exists", {"path": "order.json"}))

    def _put(self, files: int) -> None:
        """Put files into the outbox of each device, each at once with its whole content."""
        for device in self._fleet.devices:
            root = self._fleet.local_root(device)
            for number in range(self._files, self._files + files):
                (root / "new").write_text(f"{device} {number}\n")
                (root / "new").replace(root / "outbox" / f"{number}.csv")
        self._files += files

    def _all_told(self) -> bool:
        expected = sorted(f"outbox/{number}.csv" for number in range(self._files))
        return all(sorted(self._meter(device).files()) == expected for device in self._fleet.devices)

    def _folder(self, device: str) -> str:
        return f"fleet/unassigned/{device}"

    def _arrived(self) -> set[str]:
        return {
            re.sub(r"\d{4}/\d\d/\d\d", "DAY", str(path.relative_to(self._server.directory)))
            for path in self._server.directory.rglob("*")
            if path.is_file() and not path.name.startswith(".iot-sftp-")
        }


@contextmanager
def running(directory: Path, count: int, at_once: int, address: str, figures: Figures) -> Iterator[Devices]:
    """Start a server, and a fleet that has no key on it yet."""
    directory.mkdir(parents=True, exist_ok=True)
    tags = {f"device-{number}": {"site": ("north", "south")[number % 2]} for number in range(1, count + 1)}
    with openssh(directory / "server", f"AuthorizedKeysFile {directory}/installed/%u") as server:
        layer = {
            "sftp": {
                "host": server.host,
                "port": server.port,
                "user": server.user,
                "password": None,
                "privateKey": {"generate": "ed25519"},
                "hostKeys": [server.host_key],
                "root": f"{server.directory}/fleet/{{site}}/{{deviceId}}",
            }
        }
        fleet = LocalFleet(tags, LAYERED, address=address, layer=layer, at_once=at_once, hub=MeteredHub)
        with figures.step(f"{count} modules started, {at_once} at a time"):
            fleet.__enter__()
        try:
            yield Devices(fleet, server, directory, figures)
        finally:
            fleet.__exit__(None, None, None)
