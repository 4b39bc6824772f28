"""The module as it is, with shorter pauses, and with a resolver and a clock that a test can turn.

Names that end in `.test` (RFC 6761) are looked up in the file `hosts` of the directory SFTP_TEST_CONTROLS, and the
clock is off by the seconds in the file `clock`. libfaketime was tried for the clock: with it `time.sleep` raises.
"""

from __future__ import annotations

import os
import runpy
import socket
import time
from pathlib import Path
from typing import Any

CONTROLS = Path(os.environ["SFTP_TEST_CONTROLS"])
PAUSES = {"PAUSE_FIRST": 0.05, "PAUSE_LONGEST": 0.5}
# A TLS handshake takes up to 60 s to fail: a module without any hub is given longer than that
LIMITS = {"headstart": 0.1, "pulse": 6.0, "subscribe": 8.0, "twin": 5.0, "give_up": 30.0, "away": 90.0}

_clock, _clock_ns, _look_up = time.time, time.time_ns, socket.getaddrinfo


def _offset() -> int:
    return int((CONTROLS / "clock").read_text())


def _resolve(host: Any, *arguments: Any, **options: Any) -> Any:
    if not str(host).endswith(".test"):
        return _look_up(host, *arguments, **options)
    known = dict(line.split() for line in (CONTROLS / "hosts").read_text().splitlines())
    if host not in known:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return _look_up(known[host], *arguments, **options)


def _default(function: Any, **values: Any) -> None:
    function.__kwdefaults__.update(values)


def main() -> None:
    """Turn what is to be turned, and run the module."""
    time.time = lambda: _clock() + _offset()
    time.time_ns = lambda: _clock_ns() + _offset() * 1_000_000_000
    socket.getaddrinfo = _resolve
    from iot.sftp.client._base.backoff import Backoff  # noqa: PLC0415
    from iot.sftp.module._base import timeouts  # noqa: PLC0415 - after the clock was replaced
    from iot.sftp.module._hub.hub import HubLimits  # noqa: PLC0415
    from iot.sftp.module._hub.reported import Reporter  # noqa: PLC0415
    from iot.sftp.module._rules.limits import RuleLimits  # noqa: PLC0415
    from iot.sftp.module._rules.runner import Rules  # noqa: PLC0415
    from iot.sftp.module._work.task_limits import TaskLimits  # noqa: PLC0415
    from iot.sftp.module._work.tasks import Tasks  # noqa: PLC0415

    for name, seconds in PAUSES.items():
        setattr(timeouts, name, seconds)
    pause = PAUSES["PAUSE_LONGEST"]
    _default(Rules.__init__, limits=RuleLimits(first_pause=pause, longest_pause=pause))
    _default(HubLimits.__init__, **LIMITS)
    _default(Reporter.__init__, interval=0.2, gathering=0.05)
    _default(Tasks.__init__, limits=TaskLimits(backoff=Backoff(0.05, 0.5)))
    runpy.run_module("iot.sftp.module", run_name="__main__")


if __name__ == "__main__":
    main()
