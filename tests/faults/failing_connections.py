"""Connections that fail in every way, again and again, and what the client's process uses meanwhile.

`python -m tests.faults.failing_connections COUNT TARGET…` is that process: it connects to each target in turn.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from tests.faults.link import Link
from tests.faulty_servers import PASSWORD, DropsInTheLogin, HangsUpInTheKeyExchange
from tests.servers import (
    closes_at_once,
    free_port,
    listening,
    openssh,
    resets_at_once,
    speaks_http,
)

from iot.sftp.client import Secret, ServerSettings, SFTPError, SFTPSession, TimeLimits
from iot.sftp.client._ssh import login_backoff

ROOT = Path(__file__).parents[2]
FIRST_LOOK = 0.5  # of all cycles: what is used then is compared with what is used in the end
GROWTH_MAXIMUM = 20.0  # MiB; the first few hundred take 15, and no more comes after them
LIMIT_A_CYCLE = 2.0  # seconds


def run_cycles(directory: Path, count: int) -> dict[str, Any]:
    """Let a client fail so many times; return what it used and, under `wrong`, what should not have happened."""
    with ExitStack() as stack:
        server = stack.enter_context(openssh(directory))
        assert server.key_file is not None
        cut = stack.enter_context(Link((server.host, server.port)).running())
        strange = [stack.enter_context(listening(answer)) for answer in (closes_at_once, resets_at_once, speaks_http)]
        faulty = [stack.enter_context(one.running()) for one in (HangsUpInTheKeyExchange(), DropsInTheLogin())]
        targets = {
            "nobody listens": [free_port(), "password", "none"],
            "closes at once": [strange[0], "password", "none"],
            "resets at once": [strange[1], "password", "none"],
            "speaks HTTP": [strange[2], "password", "none"],
            "hangs up in the key exchange": [faulty[0], "password", "none"],
            "hangs up in the login": [faulty[1], "password", "none"],
            "refuses the credential": [server.port, "password", "none"],
            "has another key": [server.port, "key", "other"],
            "is cut at any byte": [cut.address[1], "key", "none"],
        }
        values = json.dumps({"targets": targets, "key": str(server.key_file), "user": server.user})
        command = [sys.executable, "-m", "tests.faults.failing_connections", str(count), values]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            position = 0
            for line in process.stdout:
                if line.startswith("{"):
                    return dict(json.loads(line))
                position = (position * 31 + 7) % 9_000  # another byte each time
                cut.cut_after(position)
    return {"cycles": 0, "wrong": ["the process of the failing connections ended without a word"]}


def main() -> None:
    """Be the client."""
    count, values = int(sys.argv[1]), json.loads(sys.argv[2])
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    first: dict[str, float] = {}
    targets = list(values["targets"].values())
    for number in range(count):
        port, credential, key = targets[number % len(targets)]
        if port == targets[-1][0]:
            print("cut", flush=True)  # noqa: T201 - tells the link's owner that the next one is due
        started = time.monotonic()
        outcomes[_fail(port, credential, key, values)] += 1
        slowest = max(slowest, time.monotonic() - started)
        if number == int(count * FIRST_LOOK):
            first = _used()
    last = _used()
    wrong = [f"{outcomes['internal']} failures without a reason"] if outcomes["internal"] else []
    limits = {"MiB": GROWTH_MAXIMUM, "threads": 0, "descriptors": 0}
    for name, maximum in limits.items():
        if last[name] - first[name] > maximum:
            wrong.append(f"after {count} failing connections {name} {last[name]}, after the first ones {first[name]}")
    used = {f"{name} first and last": [first[name], last[name]] for name in limits}
    found = {"cycles": count, "outcomes": dict(outcomes), "slowest seconds": round(slowest, 2), **used, "wrong": wrong}
    print(json.dumps(found), flush=True)  # noqa: T201


def _fail(port: int, credential: str, key: str, values: dict[str, Any]) -> str:
    """Connect and ask something; return the code of the reason why that failed."""
    login_backoff.LOGIN_BACKOFF.forget_all()
    settings = ServerSettings(
        "127.0.0.1",
        port,
        values["user"],
        Secret(PASSWORD) if credential == "password" else None,
        Secret.from_file(values["key"]) if credential == "key" else None,
        host_keys=("SHA256:" + "A" * 43,) if key == "other" else (),
        time_limits=TimeLimits(connect=LIMIT_A_CYCLE, stall=LIMIT_A_CYCLE),
    )
    session = SFTPSession(settings)
    try:
        session.connect(timeout=LIMIT_A_CYCLE)
        session.exists(".", timeout=LIMIT_A_CYCLE)
    except SFTPError as error:
        return error.code
    finally:
        session.disconnect()
    return "none"


def _used() -> dict[str, float]:
    """Return what this process uses, once the threads that are ending have ended."""
    process = psutil.Process()
    best: dict[str, float] = {}
    trim = getattr(
        ctypes.CDLL(None), "malloc_trim", lambda _: None
    )  # malloc_trim(3): the C library keeps what was freed
    for _ in range(20):
        gc.collect()
        trim(0)
        found = {
            "MiB": round(process.memory_info().rss / 2**20, 1),
            "threads": process.num_threads(),
            "descriptors": process.num_fds(),
        }
        best = {name: min(best.get(name, value), value) for name, value in found.items()}
        time.sleep(0.1)
    return best


if __name__ == "__main__":
    main()
