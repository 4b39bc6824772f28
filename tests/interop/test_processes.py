"""What the matrix starts ends with it, however it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from tests.interop import processes
from tests.interop.__main__ import ROOT

ORPHAN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
print(os.getpid(), flush=True)
time.sleep(600)
"""


def left(place: Path) -> list[str]:
    return [" ".join(process.cmdline()) for process in processes._of(place) if processes._lives(process)]


def test_an_orphan_of_its_own_session_that_ignores_sigterm_is_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.wait(10)
        assert orphan.is_running()
        processes.end_all_of(tmp_path)
    assert left(tmp_path) == []
    assert not processes._lives(orphan)


def test_what_has_nothing_to_do_with_a_directory_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", f"{tmp_path}-other"], stdin=subprocess.PIPE) as other:
        processes.end_all_of(tmp_path / "place")
        assert other.poll() is None


def test_what_is_mounted_in_a_directory_is_unmounted(tmp_path: Path) -> None:
    place = tmp_path / "a folder" / "small"
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "iot-sftp-interop", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    assert processes.mounted_below(tmp_path) == [str(place)]
    processes.end_all_of(tmp_path)
    assert processes.mounted_below(tmp_path) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_a_run_that_is_ended_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    command = [sys.executable, "-m", "tests.interop", "--server", "openssh"]
    env = os.environ | {"TMPDIR": str(place)}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        for line in run.stdout:
            if line.startswith("passed"):
                break
        assert any("sshd" in command for command in left(place))
        run.send_signal(how)
        run.stdout.read()  # until all who have it have ended
    wait = threading.Event().wait
    assert any(left(place) == [] or wait(0.1) for _ in range(200)), left(place)
    assert processes.mounted_below(place) == []
    if how is not signal.SIGKILL:
        assert list(place.iterdir()) == []
