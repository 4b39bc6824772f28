"""Starts of our programs that do not import everything again: a process that has done so forks for each of them.

The module and `iot-sftp` take a second of a processor to import, and the tests start them some hundred times. What
comes out of a fork is a process like any other: a child of the test's process, with arguments, environment, working
directory and streams of its own, which may be waited for, killed and measured by coverage. It differs from one that
was executed in what `/proc` shows of its arguments and environment, and in that our modules are imported before it
changes any of their names: tests for which that matters use the fixture `real_starts`.

`subprocess` and `asyncio` start programs as ever: `installed` replaces one step below both.
"""

from __future__ import annotations

import ctypes
import gc
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROGRAMS = ("iot.sftp.module", "iot.sftp.command_line", "tests.victims")
ECHO_MODULE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "edge", "echo_module.py")
MAY_FORK = "# a fork may run this\n"  # the first line of a program in a test that sees no difference
IMPORTED = ("iot.sftp.module._module", "iot.sftp.command_line._main", "runpy", "coverage")
DECIDE_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ")  # variables that a running process does not look at
PR_SET_CHILD_SUBREAPER = 36
LONGEST = 1 << 20


# --- in the process of the tests -------------------------------------------------------------------------------------


class ForkServer:
    """The process that forks; it is started when it is needed first."""

    def __init__(self) -> None:
        self.enabled = True
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._decisive: dict[str, str] = {}

    def start(self, order: dict[str, Any], streams: tuple[int, int, int]) -> int:
        """Have a process forked that is a child of this one, and return its id."""
        with self._lock:
            channel = self._channel if self._process else self._begin()
            # Whoever loses its parent becomes a child of this process: that is how the forked one becomes one. It may
            # do so as soon as the order is sent; the child of another process cannot be waited for.
            _prctl(PR_SET_CHILD_SUBREAPER, 1)
            try:
                socket.send_fds(channel, [json.dumps(order).encode()], streams)
                return int(channel.recv(100))
            finally:
                _prctl(PR_SET_CHILD_SUBREAPER, 0)

    def takes(self, order: Mapping[str, Any]) -> bool:
        """Tell whether a fork starts just as an executed program would."""
        arguments = order["args"]
        if not self.enabled or arguments[:1] != [sys.executable]:
            return False
        match arguments[1:]:
            case ["-m", program, *_]:
                is_ours = program in PROGRAMS
            case ["-c", code, *_]:
                is_ours = 'runpy.run_module("iot.sftp.module"' in code or code.startswith(MAY_FORK)
            case _:
                is_ours = arguments[1:] == [ECHO_MODULE]
        return is_ours and decisive(order["env"]) == (self._decisive or decisive(os.environ))

    def end(self) -> None:
        """End the process; those that it has forked go on."""
        if self._process:
            self._channel.close()
            self._process.wait(20)

    def _begin(self) -> socket.socket:
        self._decisive = decisive(os.environ)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        return self._channel


def decisive(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that only the start of a process looks at."""
    return {name: value for name, value in environment.items() if name.startswith(DECIDE_AT_START)}


@contextmanager
def installed() -> Iterator[ForkServer]:
    """Have `subprocess` fork what it would execute, where there is no difference."""
    server = ForkServer()
    execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    parameters = inspect.signature(execute)

    def start(self: subprocess.Popen[Any], *arguments: Any) -> None:
        given = parameters.bind(self, *arguments).arguments
        plain = given["executable"] is None and given["preexec_fn"] is None and not given["shell"]
        plain = plain and not given["pass_fds"] and given["close_fds"] and not isinstance(given["args"], str | bytes)
        order = {
            "args": [os.fsdecode(argument) for argument in given["args"]] if plain else [],
            "env": dict(os.environ if given["env"] is None else given["env"]),
            "session": bool(given["start_new_session"]),
        }
        if not server.takes(order):
            execute(self, *arguments)
            return
        order["cwd"] = os.fspath(given["cwd"] or os.getcwd())
        pipes = [given[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        streams = tuple(own if pipe == -1 else pipe for own, pipe in enumerate((pipes[0], pipes[3], pipes[5])))
        self.pid = server.start(order, streams)  # type: ignore[arg-type] # there are three
        self._child_created = True  # type: ignore[attr-defined]
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    subprocess.Popen._execute_child = start  # type: ignore[attr-defined]
    try:
        yield server
    finally:
        subprocess.Popen._execute_child = execute  # type: ignore[attr-defined]
        server.end()


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


# --- in the process that forks ---------------------------------------------------------------------------------------


def serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for each order, and answer with the new process's id; return an order in the process that is to run it."""
    while True:
        message, streams, _, _ = socket.recv_fds(channel, LONGEST, 3)
        if not message:
            os._exit(0)
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            if child := os.fork():
                os.write(writer, str(child).encode())
                os._exit(0)
            return _begin(json.loads(message), streams)
        os.close(writer)
        os.waitpid(between, 0)
        channel.send(os.read(reader, 100))
        for descriptor in (reader, *streams):
            os.close(descriptor)


def _begin(order: dict[str, Any], streams: list[int]) -> dict[str, Any]:
    """Make this process look as if it had been executed."""
    for own, given in enumerate(streams):
        os.dup2(given, own)
    os.closerange(3, 1000)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["session"]:
        os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    tempfile.tempdir = None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = _stream(getattr(sys, name), mode)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    return order


def _stream(old: Any, mode: str) -> IO[str]:
    number = old.fileno()
    at_once = mode == "w" and (number == 2 or os.isatty(number))
    buffering = 1 if at_once else -1
    return open(number, mode, buffering=buffering, encoding=old.encoding, errors=old.errors, closefd=False)


def run(order: dict[str, Any]) -> None:
    """Run what was ordered, as the interpreter does."""
    import coverage  # noqa: PLC0415 - the tests' process has started it in its own way

    coverage.process_startup()
    _, how, *rest = order["args"]
    if how == ECHO_MODULE:
        sys.path.insert(0, os.path.dirname(how))
        sys.argv = [how]
        runpy.run_path(how, run_name="__main__")
        return
    program, *rest = rest
    sys.path.insert(0, order["cwd"] if how == "-m" else "")
    if how == "-m":
        sys.argv = [program, *rest]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    sys.argv = ["-c", *rest]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(program, "<string>", "exec"), main.__dict__)  # noqa: S102 - as with -c


def main() -> dict[str, Any]:
    """Import what our programs do, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests
    del sys.path[0]  # this file's folder
    for name in IMPORTED:
        __import__(name)
    assert threading.active_count() == 1, "a fork would lose threads"
    gc.collect()
    gc.freeze()
    return serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    run(main())
