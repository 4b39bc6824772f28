"""The faults, each a small function that breaks one thing for a while and repairs it at the end.

A fault is a generator: it breaks something, yields how long in seconds that lasts, and repairs it afterwards.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tests.faults.scene import Scene
from tests.faults.work import Work
from tests.faulty_servers import FAILURE, PASSWORD, FaultyServer, attrs, status

from iot.sftp.client._ssh.packets import Kind
from localedge._certificates import Certificates

YEAR = 365 * 86_400  # seconds
STOP_LIMIT = 8.0  # seconds from SIGTERM to the end, as the contract says
FULL = 100_000  # bytes that a file may have when the disk is full


@dataclass
class Stage:
    """What a fault has to do with."""

    scene: Scene
    work: Work
    chance: random.Random
    wrong: list[str]
    """Where a fault says what it found itself."""

    def some(self, shortest: float, longest: float) -> float:
        """Return a time between two."""
        return self.chance.uniform(shortest, longest)


Course = Callable[[Stage], Iterator[float]]


@dataclass(frozen=True)
class Fault:
    """A thing that goes wrong.

    Attributes:
        part: what it strikes.
        name: what happens, in words.
        course: what is done.
        cuts_off: whether calls may go unanswered while it lasts, since their way or the module itself is gone.
        endings: the exit statuses that the module may end with because of it.
        alone: whether nothing may be under way when it strikes: it would reach another server.
    """

    part: str
    name: str
    course: Course
    cuts_off: bool = False
    endings: frozenset[int] = frozenset()
    alone: bool = False

    @contextmanager
    def strike(self, stage: Stage) -> Iterator[float]:
        """Break it, give how long this lasts, and repair it at the end."""
        course = self.course(stage)
        yield next(course)
        for _ in course:
            raise AssertionError("a fault yields once")


FAULTS: list[Fault] = []


def fault(
    part: str, *, cuts_off: bool = False, endings: tuple[int, ...] = (), alone: bool = False
) -> Callable[[Course], Course]:
    """Put a fault into the table, under its function's name."""

    def enter(course: Course) -> Course:
        name = course.__name__.replace("_", " ")
        FAULTS.append(Fault(part, name, course, cuts_off, frozenset(endings), alone))
        return course

    return enter


# --- the hub ---------------------------------------------------------------------------------------------------------


@fault("hub", cuts_off=True)
def hub_drops_the_connection(stage: Stage) -> Iterator[float]:
    stage.scene.edge.disconnect_module()
    yield stage.some(0, 1)


@fault("hub", cuts_off=True)
def hub_connection_is_cut_at_any_byte(stage: Stage) -> Iterator[float]:
    stage.scene.hub.cut_after(stage.chance.randrange(4_000))
    yield stage.some(0.2, 1.5)
    stage.scene.hub.repair()


@fault("hub", cuts_off=True)
def hub_refuses_connections(stage: Stage) -> Iterator[float]:
    stage.scene.hub.refuse()
    yield stage.some(0.5, 4)
    stage.scene.hub.repair()


@fault("hub", cuts_off=True)
def hub_accepts_and_says_nothing(stage: Stage) -> Iterator[float]:
    stage.scene.hub.stall()
    stage.scene.hub.cut()
    yield stage.some(0.5, 4)
    stage.scene.hub.repair()


@fault("hub", cuts_off=True)
def hub_is_frozen(stage: Stage) -> Iterator[float]:
    stage.scene.hub.hold()
    yield stage.some(0.5, 6)
    stage.scene.hub.repair()


@fault("hub", cuts_off=True)
def hub_refuses_the_token(stage: Stage) -> Iterator[float]:
    edge = stage.scene.edge
    edge.refuse_tokens()
    edge.disconnect_module()
    yield stage.some(0.5, 3)
    edge.refuse_tokens(refuse=False)


@fault("hub", cuts_off=True)
def a_stranger_is_in_the_place_of_the_hub(stage: Stage) -> Iterator[float]:
    runtime: Any = stage.scene.edge._runtime
    known = runtime.certificates
    change_certificate(stage.scene, strangers_certificates(stage.scene))
    yield stage.some(0.5, 3)
    change_certificate(stage.scene, known)


@fault("hub", cuts_off=True)
def certificate_authority_is_changed(stage: Stage) -> Iterator[float]:
    runtime: Any = stage.scene.edge._runtime
    change_certificate(stage.scene, strangers_certificates(stage.scene))
    runtime._workload._authority = runtime.certificates.authority
    yield 1.0  # it lasts: the module has to ask the workload API for the authority of now


@fault("hub", cuts_off=True)
def answers_about_the_twin_are_lost(stage: Stage) -> Iterator[float]:
    scene = stage.scene
    scene.tap.loses_twin_answers = True
    scene.edge.patch_desired({"transfers": {"concurrency": stage.chance.randint(2, 6)}})
    if stage.chance.random() < 0.5:
        scene.edge.disconnect_module()
    yield stage.some(1, 3)
    scene.tap.loses_twin_answers = False


@fault("hub", cuts_off=True)
def messages_are_acknowledged_late(stage: Stage) -> Iterator[float]:
    stage.scene.hub.hold(up=False)
    yield stage.some(0.5, 4)
    stage.scene.hub.repair()


@fault("hub", cuts_off=True)
def methods_are_delivered_twice(stage: Stage) -> Iterator[float]:
    stage.scene.tap.twice = True
    yield stage.some(1, 2)
    stage.scene.tap.twice = False


# --- the SFTP server -------------------------------------------------------------------------------------------------


@fault("server")
def server_is_restarted(stage: Stage) -> Iterator[float]:
    stage.scene.restart_server(stage.some(0, 2))
    yield 0.5


@fault("server")
def server_is_frozen(stage: Stage) -> Iterator[float]:
    processes = stage.scene.server_processes()
    signal_all(processes, signal.SIGSTOP)
    try:
        yield stage.some(0.5, 6)
    finally:
        signal_all(processes, signal.SIGCONT)


@fault("server")
def session_of_the_server_is_killed(stage: Stage) -> Iterator[float]:
    *sessions, _ = stage.scene.server_processes()
    if sessions:
        signal_all([stage.chance.choice(sessions)], signal.SIGKILL)
    yield 0.5


@fault("server")
def server_connection_is_cut_at_any_byte(stage: Stage) -> Iterator[float]:
    for _ in range(stage.chance.randint(1, 4)):
        stage.scene.sftp.cut_after(int(10 ** stage.some(0, 6.7)))
        time.sleep(stage.some(0, 0.5))
    yield stage.some(0.2, 1)
    stage.scene.sftp.repair()


@fault("server")
def server_is_slow(stage: Stage) -> Iterator[float]:
    stage.scene.sftp.rate = 10 ** stage.some(4.5, 6)
    yield stage.some(2, 5)
    stage.scene.sftp.repair()


@fault("server")
def link_to_the_server_is_frozen(stage: Stage) -> Iterator[float]:
    down = stage.chance.choice([True, False])
    stage.scene.sftp.hold(down=down, up=not down or stage.chance.random() < 0.5)
    yield stage.some(0.5, 6)
    stage.scene.sftp.repair()


@fault("server")
def server_refuses_connections(stage: Stage) -> Iterator[float]:
    stage.scene.sftp.refuse()
    yield stage.some(0.5, 4)
    stage.scene.sftp.repair()


@fault("server")
def server_accepts_and_says_nothing(stage: Stage) -> Iterator[float]:
    stage.scene.sftp.stall()
    stage.scene.sftp.cut()
    yield stage.some(1, 5)
    stage.scene.sftp.repair()


@fault("server", alone=True)
def server_lies(stage: Stage) -> Iterator[float]:
    scene = stage.scene
    liar: FaultyServer
    lies: list[dict[int | str, Any]] = [
        {Kind.FSTAT: attrs(3_000), Kind.STAT: attrs(3_000)},  # that of no file
        {Kind.READ: lambda fields: failing_after_a_while(liar, fields)},
        {Kind.READ: lambda _: status(1)},  # the end, at once
    ]
    liar = FaultyServer(stage.chance.choice(lies))
    liar.files.update({name: bytearray(content) for name, content in scene.sources.items()})
    with liar.running() as port:
        section = {"host": "127.0.0.1", "port": port, "user": "device", "password": PASSWORD}
        configure(scene, scene.desired | {"sftp": section | {"stallTimeout": 3, "connectTimeout": 4}})
        stage.work.only = "download"
        yield 1.0
        stage.work.only = None
        configure(scene, scene.desired)


# --- the device ------------------------------------------------------------------------------------------------------


@fault("device")
def name_of_the_server_is_not_known(stage: Stage) -> Iterator[float]:
    stage.scene.name_is_known(known=False)
    stage.scene.sftp.cut()
    yield stage.some(0.5, 3)
    stage.scene.name_is_known(known=True)


@fault("device")
def clock_steps_by_a_year(stage: Stage) -> Iterator[float]:
    stage.scene.step_clock(stage.chance.choice([-YEAR, YEAR]))
    yield stage.some(1, 2)
    stage.scene.step_clock(0)


@fault("device")
def local_disk_is_full(stage: Stage) -> Iterator[float]:
    module = psutil.Process(stage.scene.edge.module_pid)
    limit_files([module], FULL)
    yield stage.some(1, 2)
    limit_files([module], psutil.RLIM_INFINITY)


@fault("device")
def disk_of_the_server_is_full(stage: Stage) -> Iterator[float]:
    limit_files(stage.scene.server_processes(), FULL)
    yield stage.some(1, 2)
    limit_files(stage.scene.server_processes(), psutil.RLIM_INFINITY)


# --- the module ------------------------------------------------------------------------------------------------------


@fault("module", cuts_off=True, endings=(0,))
def module_is_told_to_end(stage: Stage) -> Iterator[float]:
    started = time.monotonic()
    stage.scene.signal_module(signal.SIGTERM)
    if not stage.scene.wait_for_end(STOP_LIMIT + 1):
        stage.wrong.append(f"the module runs {time.monotonic() - started:.1f} s after SIGTERM")
        stage.scene.edge.kill_module()
    yield 0


@fault("module", cuts_off=True, endings=(-9,))
def module_is_killed(stage: Stage) -> Iterator[float]:
    stage.scene.edge.kill_module()
    stage.scene.wait_for_end(5)
    yield 0


@fault("module", cuts_off=True)
def module_is_frozen(stage: Stage) -> Iterator[float]:
    stage.scene.signal_module(signal.SIGSTOP)
    try:
        yield stage.some(0.5, 4)
    finally:
        stage.scene.signal_module(signal.SIGCONT)


def strangers_certificates(scene: Scene) -> Certificates:
    """Return certificates for the hub's name that nobody on the device has heard of."""
    directory = tempfile.mkdtemp(prefix="strangers-", dir=scene.directory)
    return Certificates(Path(directory), ["localhost", scene.edge.address])


def change_certificate(scene: Scene, certificates: Any) -> None:
    """Have the hub show another certificate from now on, on new connections."""
    runtime: Any = scene.edge._runtime
    scene.edge._loop.run(runtime.hub.close())
    runtime.certificates = certificates
    scene.listen()


def configure(scene: Scene, desired: dict[str, Any]) -> None:
    """Replace the desired properties, and wait until the module has answered them."""
    version = scene.edge.replace_desired(desired)
    scene.edge.wait_for_reported(lambda reported: bool(reported["sftp"]["av"] >= version), 30)


def failing_after_a_while(server: FaultyServer, fields: Any) -> bytes:
    """Answer a READ, but those of later parts of a file with a failure."""
    if fields.at_end():
        return status(FAILURE)
    handle = fields.string()
    offset, length = fields.uint64(), fields.uint32()
    content = bytes(server.files[server._open[handle]][offset : offset + length])
    if offset > 1_000 or not content:
        return status(FAILURE)
    return bytes([Kind.DATA]) + len(content).to_bytes(4, "big") + content


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Send processes a signal; those that have ended do not mind."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def limit_files(processes: list[psutil.Process], size: int) -> None:
    """Have writes beyond this size of a file fail, as on a full disk: setrlimit(2), RLIMIT_FSIZE, EFBIG."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))
