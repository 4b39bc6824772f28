"""The key pair that a device makes itself: made once, rotated without a moment in which no key works."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from iot.sftp.client import NotConfigured, PermissionDenied
from iot.sftp.module._work.device_key import CURRENT, NEXT, DeviceKey

# Runs one step of a rotation in a child that is killed before its N-th operation on a file; tells whether it was
MORTAL = """
import os, signal, sys
from pathlib import Path
from iot.sftp.module._work.device_key import DeviceKey

directory, moment, step, *fingerprints = sys.argv[1:]
child = os.fork()
if child == 0:
    left = [int(moment)]
    def hook(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and directory in str(arguments):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    key = DeviceKey(Path(directory), "")
    key.make()
    if step == "rotate":
        key.rotate()
    elif step == "accept":
        key.note_accepted(fingerprints)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def killed_at(directory: Path, moment: int, step: str, *fingerprints: str) -> bool:
    """Run a step until its N-th operation on a file; return whether it was killed, and had not ended before."""
    command = [sys.executable, "-c", MORTAL, str(directory), str(moment), step, *fingerprints]
    ended = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert ended in {"0", str(-signal.SIGKILL)}
    return ended != "0"


def restarted(directory: Path) -> DeviceKey:
    """Return the key as a process has it that has just begun."""
    key = DeviceKey(directory, "")
    key.make()
    return key


def fingerprint(line: str) -> str:
    shown = subprocess.run(["ssh-keygen", "-l", "-f", "-"], input=line, capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


def key_in(directory: Path) -> DeviceKey:
    key = DeviceKey(directory / "state", "device-42/sftp/mes")
    key.make()
    return key


def test_a_key_pair_is_made_once_and_stays_over_a_restart(tmp_path: Path) -> None:
    line = key_in(tmp_path).as_properties()["publicKey"]

    assert key_in(tmp_path).as_properties() == {"publicKey": line}
    assert line.startswith("ssh-ed25519 AAAA")
    assert line.endswith(" device-42/sftp/mes")
    file = tmp_path / "state" / CURRENT
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    shown = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True, check=True).stdout
    assert shown.split()[:2] == line.split()[:2]


def test_the_next_key_is_the_same_until_it_was_accepted(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    current = key.as_properties()["publicKey"]
    following = key.rotate()

    assert following != current
    assert key.rotate() == key_in(tmp_path).rotate() == following
    assert key.as_properties() == {"publicKey": current, "nextPublicKey": following}


def test_the_next_key_takes_the_place_of_the_old_one_once_it_was_accepted(tmp_path: Path) -> None:
    changes: list[None] = []
    key = DeviceKey(tmp_path / "state", "device-42", on_change=lambda: changes.append(None))
    key.make()
    key.make()
    assert len(changes) == 1
    changes.clear()
    current = key.as_properties()["publicKey"]
    key.note_accepted([fingerprint(current)])
    assert changes == []

    following = key.rotate()
    key.note_accepted([fingerprint(current)])  # the server does not know the next one yet
    assert key.as_properties() == {"publicKey": current, "nextPublicKey": following}
    key.note_accepted([fingerprint(following)])

    assert key.as_properties() == {"publicKey": following}
    assert [path.name for path in (tmp_path / "state").iterdir()] == [CURRENT]
    assert len(changes) == 2
    key.note_accepted([fingerprint(following)])
    assert len(changes) == 2


def test_an_accepted_key_that_could_not_be_put_in_place_is_still_offered(tmp_path: Path) -> None:
    refuse = [False]

    def guard() -> None:
        if refuse[0]:
            message = "in use by another module"
            raise PermissionDenied(message)

    key = DeviceKey(tmp_path, "", guard=guard)
    key.make()
    following = key.rotate()
    refuse[0] = True
    key.note_accepted([fingerprint(following)])
    assert key.as_properties()["nextPublicKey"] == following

    refuse[0] = False
    key.note_accepted([fingerprint(following)])
    assert key.as_properties() == {"publicKey": following}


def test_a_half_written_key_of_a_power_cut_is_made_anew(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    (tmp_path / "state" / f".iot-sftp-{NEXT}").write_bytes(b"-----BEGIN")

    assert key.rotate() == key.as_properties()["nextPublicKey"]


def test_a_damaged_key_is_never_overwritten_and_can_be_rotated(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    (tmp_path / "state" / CURRENT).write_text("no key")
    key = key_in(tmp_path)
    assert key.as_properties() == {}
    assert (tmp_path / "state" / CURRENT).read_text() == "no key"

    following = key.rotate()
    key.note_accepted([fingerprint(following)])

    assert key.as_properties() == {"publicKey": following}


def test_a_key_that_is_gone_is_made_anew_and_told(tmp_path: Path) -> None:
    changes: list[None] = []
    key = DeviceKey(tmp_path, "device-42", on_change=lambda: changes.append(None))
    key.make()
    lost = key.as_properties()["publicKey"]
    changes.clear()
    (tmp_path / CURRENT).unlink()

    key.make()

    assert key.as_properties()["publicKey"] != lost
    assert changes == [None]


def test_a_next_key_that_is_gone_is_not_returned_once_more(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    lost = key.rotate()
    (tmp_path / "state" / NEXT).unlink()

    following = key.rotate()

    assert following != lost
    assert key.as_properties()["nextPublicKey"] == following


def test_without_a_writable_directory_the_reason_is_told(tmp_path: Path) -> None:
    os.symlink("/proc/nothing", tmp_path / "state")
    with pytest.raises(NotConfigured, match="no key to log in with: the module's state directory"):
        key_in(tmp_path)


def test_killed_at_any_moment_of_a_rotation_there_is_a_key_that_the_server_knows(tmp_path: Path) -> None:
    directory, moment, steps = tmp_path / "state", 0, {"make": 0, "rotate": 0, "accept": 0}
    while killed_at(directory, moment, "make"):
        moment += 1
    steps["make"] = moment
    known = restarted(directory).as_properties()["publicKey"]

    moment = 0
    while killed_at(directory, moment, "rotate"):
        assert restarted(directory).as_properties()["publicKey"] == known
        with suppress(FileNotFoundError):
            (directory / NEXT).unlink()  # so that each moment is one of a first attempt
        moment += 1
    steps["rotate"] = moment

    following = restarted(directory).rotate()
    moment = 0
    while killed_at(directory, moment, "accept", fingerprint(following)):
        offered = restarted(directory).as_properties()
        assert offered in ({"publicKey": known, "nextPublicKey": following}, {"publicKey": following})
        moment += 1
    steps["accept"] = moment
    assert restarted(directory).as_properties() == {"publicKey": following}
    assert all(count > 1 for count in steps.values()), steps  # it was killed at all
