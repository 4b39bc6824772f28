"""What a client is made of: arguments, secrets, what is shown, what is exported, and the example of its first users."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.clients import client_of, settings_of
from tests.servers import Server, free_port

import iot.sftp.client as library
from iot.sftp.client import (
    VERSION,
    AuthenticationFailed,
    IoTSFTPClient,
    Secret,
    ServerSettings,
    SFTPSession,
    TimeLimits,
    __version__,
)

GOOD: dict[str, Any] = {"sftp_host": "127.0.0.1", "sftp_port": 22, "sftp_user": "device", "sftp_pass": "secret"}

EXAMPLE = """
import tempfile

from iot.sftp.client import IoTSFTPClient

# instantiate client
sftp_client = IoTSFTPClient(
    sftp_host="{host}",
    sftp_port={port},
    sftp_user="{user}",
    sftp_pass="{password}",
)

# print info w/ repr
print(f"{{sftp_client.__repr__()}}")

# download blob to tempfile
temp_file = tempfile.NamedTemporaryFile()
download_result = sftp_client.download_file(
    source="path/to/blob.txt",
    dest=temp_file.name,
)
if not download_result:
    print("unable to download file")
    temp_file.close()
    raise

# upload tempfile to blob
upload_result = sftp_client.upload_file(
    source=temp_file.name,
    dest="path/to/new/blob.txt",
)
if not upload_result:
    print("unable to upload file")
    temp_file.close()
    raise

# clean-up local memory
temp_file.close()
"""


@pytest.mark.parametrize(
    "argument, value",
    [
        ("sftp_host", ""), ("sftp_host", " "), ("sftp_host", None), ("sftp_host", "a\0b"), ("sftp_host", 5),
        ("sftp_port", 0), ("sftp_port", 65536), ("sftp_port", -1), ("sftp_port", "22"), ("sftp_port", True),
        ("sftp_port", 22.0), ("sftp_user", ""), ("sftp_user", None), ("sftp_pass", ""), ("sftp_pass", None),
        ("sftp_pass", 1234), ("passphrase", 5), ("host_keys", ["MD5:00"]), ("host_keys", "nonsense"), ("root", ""),
        ("root", "a\0b"),
        ("root", "\ud800"),
        ("sftp_host", "a b"),
        ("sftp_host", "a\nb"),
        ("sftp_host", "sftp://device:secret@host"), ("sftp_host", "device@host"), ("sftp_host", "host:22"),
        ("sftp_host", "sftp://device:a secret@host"), ("sftp_host", "sftp://device:secret@host\n"),
        ("sftp_host", "sftp://device:secret\0@host"), ("sftp_host", b"sftp://device:secret@host"),
        ("sftp_host", "device:secret:22"), ("sftp_host", "secret\0"), ("sftp_host", "fe80::1\t"),
        ("sftp_user", "\ud800"),
        ("host_keys", [5]),
        ("host_keys", 5),
        ("private_key", 5),
        ("known_hosts", 5), ("connect_timeout", 0), ("connect_timeout", "5"), ("stall_timeout", float("nan")),
        ("stall_timeout", 1e9), ("keep_alive", -1), ("keep_alive", True),
    ],
)  # fmt: skip
def test_an_argument_that_can_never_work_is_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=argument) as failure:
        IoTSFTPClient(**(GOOD | {argument: value}))
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    "host", ["::1", "[::1]", "fe80::1%eth0", "::ffff:192.0.2.1", "2001:DB8::", "m\u00fcller.example"]
)
def test_a_host_may_be_an_address_of_any_kind(host: str) -> None:
    assert ServerSettings(host, 22, "device", Secret("secret")).host == host


def test_the_four_arguments_may_be_given_by_place_and_are_readable(server: Server) -> None:
    client = IoTSFTPClient("127.0.0.1", free_port(), "device", "secret")
    assert (client.sftp_host, client.sftp_user, client.sftp_pass) == ("127.0.0.1", "device", "secret")
    assert isinstance(client.sftp_port, int)
    assert "secret" not in repr(client)
    assert "127.0.0.1" in repr(client)
    assert "disconnected" in repr(client)
    with client_of(server) as connected:
        assert " connected" in repr(connected)


def test_a_session_in_a_with_block_is_disconnected_at_its_end(server: Server) -> None:
    with SFTPSession(settings_of(server)) as session:
        session.connect()
        assert session.is_open
    assert not session.is_open


def test_a_secret_is_shown_by_nothing() -> None:
    secret = Secret("hunter2")
    settings = ServerSettings("host", 22, "user", secret, Secret("hunter2"), Secret("hunter2"))
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", repr(settings), str(vars(settings))]
    assert "hunter2" not in "".join(shown)
    assert secret.read() == "hunter2"
    assert secret == Secret("hunter2")
    assert hash(secret) == hash(Secret("hunter2"))
    assert secret != Secret("other")
    assert secret != "hunter2"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_a_secret_from_elsewhere_is_read_at_each_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    secret = Secret.from_file(file)
    with pytest.raises(AuthenticationFailed, match=re.escape(str(file))):
        secret.read()
    for text in ("one\n", "two\r\n", "three"):
        file.write_text(text, newline="")
        assert secret.read() == text.rstrip()
    file.write_bytes(b"\xff")
    with pytest.raises(AuthenticationFailed, match="UTF-8"):
        secret.read()
    variable = Secret.from_environment("SFTP_TEST_SECRET")
    with pytest.raises(AuthenticationFailed, match="SFTP_TEST_SECRET"):
        variable.read()
    monkeypatch.setenv("SFTP_TEST_SECRET", "four")
    assert variable.read() == "four"
    assert "four" not in repr(variable)


@given(st.floats() | st.integers() | st.booleans() | st.text())
def test_a_time_limit_is_a_number_of_seconds_or_refused(value: Any) -> None:
    try:
        limits = TimeLimits(connect=value)
    except ValueError as error:
        assert "connect" in str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert 0 < limits.connect <= 86400


def test_exactly_the_promised_names_are_exported() -> None:
    public = {
        name for name, value in vars(library).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert set(library.__all__) == public | {"__version__"}


def test_the_version_is_a_semantic_one() -> None:
    assert __version__ == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)


def test_the_example_of_the_first_users_runs_unchanged(proftpd_server: Server, tmp_path: Path) -> None:
    server = proftpd_server
    (server.directory / "path/to").mkdir(parents=True, exist_ok=True)
    (server.directory / "path/to/blob.txt").write_text("blob")
    code = EXAMPLE.format(host=server.host, port=server.port, user=server.user, password=server.password)
    run = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "connected" in run.stdout
    assert str(server.password) not in run.stdout
    assert (server.directory / "path/to/new/blob.txt").read_text() == "blob"


def test_a_user_without_a_home_is_served_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", classmethod(lambda _: (_ for _ in ()).throw(RuntimeError("no home"))))
    with client_of(server) as client:
        assert client.is_connected()


def test_a_path_may_be_any_path_object_and_nothing_else(server: Server, tmp_path: Path) -> None:
    with client_of(server) as client:
        (tmp_path / "x").write_text("x")
        assert client.upload_file(tmp_path / "x", Path("paths/x"))  # type: ignore[arg-type] # more than is promised
        with pytest.raises(TypeError):
            client.exists(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            client.exists(b"x")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            client.list_files(".", 5)  # type: ignore[arg-type]


def test_the_state_directory_of_the_user_is_used(
    openssh_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with client_of(openssh_server) as client:
        assert client.is_connected()
    assert "ssh-ed25519" in (tmp_path / "state/iot-sftp-client/known_hosts").read_text()
    assert "known_hosts" in os.listdir(tmp_path / "state/iot-sftp-client")
