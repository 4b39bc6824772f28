"""What all tests share: real servers, and clients of them."""

from __future__ import annotations

import dataclasses
import gc
import os
import secrets
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import settings as hypothesis_settings
from tests.clients import client_of
from tests.forkserver import ForkServer, installed
from tests.secret_search import Search
from tests.servers import Server, openssh, proftpd

from iot.sftp.client import IoTSFTPClient
from iot.sftp.client._ssh import known_keys, login_backoff

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Fewer examples than the 100 of hypothesis, and the same ones each time, so that a change is judged by itself:
# `make soak`, which runs nightly, takes a thousand others
hypothesis_settings.register_profile("ci", deadline=None, print_blob=True, max_examples=20, derandomize=True)
hypothesis_settings.register_profile("many", deadline=None, print_blob=True, max_examples=1000)
hypothesis_settings.load_profile("ci")


# Where files are in memory, and how much has to be free there: a journal waits for the disk at each change
IN_MEMORY = "/dev/shm"
ROOM = 4 * 1024**3


def pytest_configure() -> None:
    """Put temporary files and the garbage collector where they cost least."""
    # Some millions of objects are made and kept until the tests begin: to search them again and again took half of it
    gc.disable()
    _use_memory_for_temporary_files()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Have the garbage collector look at what the tests themselves make only."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _use_memory_for_temporary_files() -> None:
    """Do so where there is room for those of all workers."""
    if not os.path.isdir(IN_MEMORY) or os.statvfs(IN_MEMORY).f_flag & os.ST_NOEXEC:
        return
    if min(shutil.disk_usage(IN_MEMORY).free, psutil.virtual_memory().available) > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", IN_MEMORY)


# Folders whose tests start processes that are not what ships, or do so for another reason than to see its lines run.
# Counting lines there takes each process half a second, and finds none that the other tests do not.
UNMEASURED = frozenset(
    {"benchmarks", "edge", "examples", "faults", "fleet", "hostile", "images", "interop", "manifest"}
)


@pytest.hookimpl(optionalhook=True)  # it is xdist that asks
def pytest_xdist_auto_num_workers() -> int:
    """Run three workers for each processor: most of the time, a test waits for a server, a process or a clock."""
    return 3 * (os.cpu_count() or 1)


@pytest.fixture(scope="module", autouse=True)
def measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let coverage follow the processes that a test starts only where that adds something."""
    with pytest.MonkeyPatch.context() as patch:
        if UNMEASURED & set(request.path.relative_to(request.config.rootpath).parts):
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the processes of one worker away from the sockets that those of another one have in `/tmp`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", os.fspath(tmp_path_factory.mktemp("t")))
        yield


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[ForkServer | None]:
    """Start our programs by a fork, where that makes no difference."""
    if sys.platform != "linux":
        yield None
        return
    with installed() as server:
        yield server


@pytest.fixture(scope="module")
def real_starts(fork_server: ForkServer | None) -> Iterator[None]:
    """Execute our programs: for files whose tests see a difference."""
    with pytest.MonkeyPatch.context() as patch:
        if fork_server:
            patch.setattr(fork_server, "enabled", False)
        yield


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests away from the known hosts of whoever runs them, and from those of the test before."""
    known_keys.forget_all()  # a port is used again by another server
    login_backoff.LOGIN_BACKOFF.forget_all()
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", os.fspath(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return home


@pytest.fixture(scope="session")
def openssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give one OpenSSH server for all tests of a worker."""
    with openssh(tmp_path_factory.mktemp("openssh")) as server:
        yield server


@pytest.fixture(scope="session")
def proftpd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give one ProFTPD server for all tests of a worker."""
    with proftpd(tmp_path_factory.mktemp("proftpd")) as server:
        yield server


@pytest.fixture(params=["openssh_server", "proftpd_server"])
def server(request: pytest.FixtureRequest) -> Server:
    """Give each of the two real servers in turn."""
    running: Server = request.getfixturevalue(request.param)
    return running


@pytest.fixture
def folder(server: Server, tmp_path: Path) -> str:
    """Give the name of an empty folder of this test's own on the server; `server.directory / folder` is its place."""
    name = f"test-{tmp_path.parent.name}-{tmp_path.name}"
    (server.directory / name).mkdir()
    return name


@pytest.fixture
def client(server: Server) -> Iterator[IoTSFTPClient]:
    """Give a connected client of the server."""
    with client_of(server) as connected:
        assert connected.last_error is None
        yield connected


@pytest.fixture
def search() -> Search:
    """Give a search for secrets that knows none yet."""
    return Search()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with private keys: `plain`, `encrypted`, and the passphrase of the latter."""
    folder = tmp_path_factory.mktemp("keys")
    passphrase = "passphrase " + secrets.token_urlsafe(12)
    (folder / "passphrase").write_text(passphrase)
    for name, kind, text in (("plain", "ed25519", ""), ("encrypted", "ecdsa", passphrase), ("pem", "rsa", "")):
        form = ("-b", "2048", "-m", "PEM") if kind == "rsa" else ()
        command = ["ssh-keygen", "-q", "-t", kind, *form, "-N", text, "-C", "", "-f", folder / name]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def key_server(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """OpenSSH, for those keys."""
    public = keys / "authorized"
    public.write_text("".join((keys / f"{name}.pub").read_text() for name in ("plain", "encrypted", "pem")))
    with openssh(tmp_path_factory.mktemp("key-server"), f"AuthorizedKeysFile {public}") as server:
        yield dataclasses.replace(server, key_file=keys / "plain")
