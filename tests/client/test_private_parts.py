"""The private parts of libraries that we use: these tests fail when they move, before a user finds out."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import requires, version

import paramiko
from packaging.requirements import Requirement

from iot.sftp.client._pysftp import DSAKeysAreGone, pysftp


def test_pysftp_still_needs_the_name_that_we_supply() -> None:
    """When this fails: delete `_pysftp.py`, import pysftp where it is used, and delete this test."""
    run = subprocess.run([sys.executable, "-c", "import pysftp"], capture_output=True, text=True, check=False)
    assert run.returncode != 0, "pysftp imports by itself: the workaround in _pysftp.py can go"
    assert "DSSKey" in run.stderr


def test_the_supplied_name_is_taken_away_again() -> None:
    assert not hasattr(paramiko, "DSSKey")
    assert pysftp.DSSKey is DSAKeysAreGone


def test_the_supported_versions_are_bounded_and_installed() -> None:
    needed = {r.name: r for r in map(Requirement, requires("iot-sftp-client") or []) if r.marker is None}
    for name in ("paramiko", "pysftp"):
        assert needed[name].specifier.contains(version(name))
        assert any(clause.operator in {"==", "<"} for clause in needed[name].specifier)


def test_the_parts_of_pysftp_are_where_we_override_them() -> None:
    assert list(inspect.signature(pysftp.Connection._start_transport).parameters) == ["self", "host", "port"]
    assert len(inspect.signature(pysftp.Connection._set_authentication).parameters) == 4
    source = inspect.getsource(pysftp.Connection.__init__)
    steps = ["_set_username", "_set_logging", "_start_transport", "use_compression", "_set_authentication", "connect("]
    assert [source.find(step) for step in steps] == sorted(source.find(step) for step in steps)
    assert -1 not in [source.find(step) for step in steps]


def test_the_parts_of_paramiko_are_where_we_override_them() -> None:
    transport = paramiko.Transport
    assert list(inspect.signature(transport._verify_key).parameters) == ["self", "host_key", "sig"]  # type: ignore[attr-defined]
    assert list(inspect.signature(transport._parse_disconnect).parameters) == ["self", "m"]  # type: ignore[attr-defined]
    assert "self.saved_exception" in inspect.getsource(transport)
    assert "self._verify_key" not in inspect.getsource(transport), "who calls it now?"


def test_every_key_exchange_of_paramiko_verifies_the_key() -> None:
    for kex in set(paramiko.Transport._kex_info.values()):  # type: ignore[attr-defined]
        source = "".join(inspect.getsource(cls) for cls in kex.__mro__ if cls is not object)
        assert "transport._verify_key(" in source, f"{kex.__name__} does not verify the host key where we do"
