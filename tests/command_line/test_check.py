"""`check` names the step at which a connection fails, and what to do; on servers with exactly that fault."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.command_line.conftest import Terminal, terminal_of
from tests.servers import closes_at_once, free_port, listening, never_answers, openssh, speaks_http

STEPS = ["dns", "tcp", "ssh_version", "algorithms", "host_key", "authentication", "extensions", "speed"]


def failed_at(terminal: Terminal, *arguments: str, **variables: str) -> tuple[str, str]:
    """Run a check that fails; return its last step and the code, after looking at what all have in common."""
    ended = terminal.run("check", "--json", *arguments, **variables)
    told = ended.document
    last = told["steps"][-1]

    assert (ended.status, told["ok"], told["code"]) == (1, False, last["code"])
    assert [step["name"] for step in told["steps"]] == STEPS[: len(told["steps"])]
    assert [step["passed"] for step in told["steps"]] == [True] * (len(told["steps"]) - 1) + [False]
    assert last["found"]
    assert last["advice"]
    return last["name"], last["code"]


def test_a_connection_that_works_passes_every_step(terminal: Terminal) -> None:
    told = terminal.run("check", "--json").document

    assert told["ok"]
    assert [step["name"] for step in told["steps"]] == STEPS
    assert terminal.server.host_key in told["steps"][4]["found"]


def test_the_steps_are_shown_with_ticks_to_people(terminal: Terminal) -> None:
    ended = terminal.run("check", PYTHONIOENCODING="utf-8")

    assert ended.status == 0
    assert len([line for line in ended.out.splitlines() if line.startswith("✓ ")]) == len(STEPS)
    assert "ok DNS" in terminal.run("check", PYTHONIOENCODING="ascii").out


def test_a_first_host_key_is_reported_once(terminal: Terminal) -> None:
    first = terminal.run("check", "--json").document["steps"][4]
    second = terminal.run("check", "--json").document["steps"][4]

    assert "for the first time" in first["found"]
    assert "administrator" in first["advice"]
    assert second["found"].endswith("which is known")


def test_the_speed_is_measured_with_a_file_that_is_gone_afterwards(terminal: Terminal, folder: str) -> None:
    told = terminal.run("check", "--json", "--write", folder).document

    assert "upload" in told["steps"][-1]["found"]
    assert list((terminal.server.directory / folder).iterdir()) == []


@pytest.mark.parametrize(
    "blocks, measured",
    [
        (1100, "with 0.5 MB"),  # room for the second of the four files that are tried
        (100, None),  # for none
    ],
)
def test_the_speed_is_measured_with_as_much_as_there_is_room_for_here(
    terminal: Terminal, folder: str, blocks: int, measured: str | None
) -> None:
    terminal.blocks = blocks
    ended = terminal.run("check", "--json", "--write", folder)

    speed = ended.document["steps"][-1]
    assert speed["name"] == "speed"
    if measured is None:
        assert (ended.status, speed["code"]) == (1, "no_space")
        assert "TMPDIR" in speed["found"]
    else:
        assert ended.status == 0
        assert speed["found"].endswith(measured)
    assert "Traceback" not in ended.err
    assert list((terminal.server.directory / folder).iterdir()) == []


def test_a_server_without_room_for_the_file_fails_at_the_speed(tmp_path: Path) -> None:
    with openssh(tmp_path / "server") as server:
        assert server.process is not None
        psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_FSIZE, (8192, psutil.RLIM_INFINITY))

        assert failed_at(terminal_of(server, tmp_path / "here"), "--write", ".") == ("speed", "permission_denied")
        assert list(server.directory.iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made_to_measure_the_speed(terminal: Terminal, folder: str) -> None:
    assert failed_at(terminal, "--write", f"{folder}/mistyped") == ("speed", "not_found")
    assert list((terminal.server.directory / folder).iterdir()) == []


def test_the_algorithms_are_reported_by_their_names(terminal: Terminal) -> None:
    exchange, key, cipher = terminal.run("check", "--json").document["steps"][3]["found"].split(", ")

    assert exchange.partition("-")[0] in {"curve25519", "mlkem768x25519", "ecdh", "diffie"}
    assert key in {"ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"}
    assert cipher.startswith("aes")


def test_without_being_asked_nothing_is_written(terminal: Terminal, folder: str) -> None:
    place = terminal.server.directory / folder
    before = os.stat(place).st_mtime_ns

    assert terminal.run("check", IOT_SFTP_ROOT=str(place)).status == 0
    assert os.stat(place).st_mtime_ns == before


def test_a_name_that_is_not_known_fails_at_dns(terminal: Terminal) -> None:
    assert failed_at(terminal, "--host", "no-such-host.invalid") == ("dns", "unreachable")


def test_a_port_that_is_closed_fails_at_tcp(terminal: Terminal) -> None:
    assert failed_at(terminal, "--port", str(free_port())) == ("tcp", "unreachable")


@pytest.mark.parametrize(
    "answer, code",
    [(speaks_http, "unsupported"), (closes_at_once, "connection_lost"), (never_answers, "unreachable")],
)
def test_what_is_no_ssh_server_fails_at_the_version(
    openssh_terminal: Terminal, answer: Callable[..., None], code: str
) -> None:
    with listening(answer) as port:
        assert failed_at(openssh_terminal, "--timeout", "3", "--port", str(port)) == ("ssh_version", code)


def test_a_server_with_old_algorithms_only_fails_there(tmp_path: Path) -> None:
    with openssh(tmp_path / "old", "Ciphers aes128-cbc") as server:
        assert failed_at(terminal_of(server, tmp_path / "here")) == ("algorithms", "unsupported")


def test_a_key_that_is_not_the_pinned_one_fails_at_the_host_key(terminal: Terminal) -> None:
    assert failed_at(terminal, "--host-key", "SHA256:" + "A" * 43) == ("host_key", "host_key_mismatch")


def test_a_wrong_password_fails_at_the_authentication_and_is_not_shown(terminal: Terminal) -> None:
    wrong = {"IOT_SFTP_PASSWORD": "hunter2", "IOT_SFTP_KEY_FILE": ""}

    assert failed_at(terminal, **wrong) == ("authentication", "authentication_failed")
    ended = terminal.run("check", **wrong)
    assert "hunter2" not in ended.out + ended.err


def test_a_key_file_that_is_not_there_fails_at_the_authentication(terminal: Terminal) -> None:
    where = failed_at(terminal, "--key-file", "/no/such/key", IOT_SFTP_PASSWORD="")

    assert where == ("authentication", "authentication_failed")


def test_a_server_without_sftp_fails_at_the_extensions(tmp_path: Path) -> None:
    with openssh(tmp_path / "server", subsystem="/bin/false") as server:
        assert failed_at(terminal_of(server, tmp_path / "here"))[0] == "extensions"


def test_a_root_that_is_not_there_fails_at_the_extensions(terminal: Terminal) -> None:
    assert failed_at(terminal, "--root", "/no/such/root") == ("extensions", "not_found")
    assert "'/no/such/root'" in terminal.run("check", "--root", "/no/such/root").out


def test_a_folder_that_cannot_be_written_fails_at_the_speed(openssh_terminal: Terminal) -> None:
    assert failed_at(openssh_terminal, "--write", "/proc")[0] == "speed"
