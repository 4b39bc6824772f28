"""How the program finds the server, and that no secret is ever an argument, an output or a message."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.command_line.conftest import PROGRAM, Terminal, terminal_of
from tests.servers import PASSWORD, Server


@pytest.mark.parametrize(
    "arguments", [["--pass=hunter2"], ["--pass", "hunter2"], ["x", "hunter2"], ["-phunter2"], ["-hhunter2"]]
)
def test_what_is_not_known_is_not_repeated_with_its_value(openssh_terminal: Terminal, arguments: list[str]) -> None:
    ended = openssh_terminal.run("ls", *arguments)

    assert (ended.status, ended.out) == (2, "")
    assert "hunter2" not in ended.err
    assert any(words in ended.err for words in ("--pass", "-p", "1 too many", "takes no value"))


def test_a_misspelt_option_is_named_with_what_may_have_been_meant(openssh_terminal: Terminal) -> None:
    ended = openssh_terminal.run("ls", "--hots", "sftp.example.com")

    assert ended.err == (
        "iot-sftp ls: unrecognized arguments: --hots (did you mean --host?). For help: iot-sftp ls --help\n"
    )


@pytest.mark.parametrize("argument", ["--password=hunter2", "--passphrase=hunter2", "--pass=hunter2"])
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(openssh_terminal: Terminal, argument: str) -> None:
    ended = openssh_terminal.run("ls", argument)

    assert (ended.status, ended.out) == (2, "")
    if argument != "--pass=hunter2":
        assert "hunter2" not in ended.err
        assert "IOT_SFTP_PASSWORD" in ended.err


def test_a_password_may_be_in_a_file(proftpd_server: Server, tmp_path: Path) -> None:
    terminal = terminal_of(proftpd_server, tmp_path / "here")
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")

    assert terminal.run("ls", "--password-file", str(tmp_path / "secret"), IOT_SFTP_PASSWORD="").status == 0


def test_without_a_terminal_no_password_is_asked_for(proftpd_server: Server, tmp_path: Path) -> None:
    ended = terminal_of(proftpd_server, tmp_path / "here").run("ls", IOT_SFTP_PASSWORD="")

    assert ended.status == 2
    assert "IOT_SFTP_PASSWORD" in ended.err


def test_on_a_terminal_the_password_is_asked_for_and_not_shown(proftpd_server: Server, tmp_path: Path) -> None:
    terminal = terminal_of(proftpd_server, tmp_path / "here")
    process, main = pty.fork()
    if process == 0:
        os.execve(PROGRAM[0], [*PROGRAM, "ls"], os.environ | terminal.variables | {"IOT_SFTP_PASSWORD": ""})  # noqa: S606 - the terminal is what is tested
    said = b""
    while b"Password of device" not in said:
        said += os.read(main, 1000)
    os.write(main, PASSWORD.encode() + b"\n")
    try:
        while part := os.read(main, 1000):
            said += part
    except OSError:
        pass  # so a terminal ends whose program has ended
    os.close(main)

    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert PASSWORD.encode() not in said


@pytest.mark.parametrize("arguments", [["ls"], ["get", "x"], ["put", "x"]])
def test_who_is_asked_for_the_password_may_end_it_all(
    proftpd_server: Server, tmp_path: Path, arguments: list[str]
) -> None:
    terminal = terminal_of(proftpd_server, tmp_path / "here")
    process, main = pty.fork()
    if process == 0:
        os.execve(PROGRAM[0], [*PROGRAM, *arguments], os.environ | terminal.variables | {"IOT_SFTP_PASSWORD": ""})  # noqa: S606 - the terminal is what is tested
    said = b""
    while b"Password of device" not in said:
        said += os.read(main, 1000)
    _await_reading(process)
    os.write(main, b"\x03")
    ended = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.close(main)

    assert ended == 128 + signal.SIGINT


def _await_reading(process: int) -> None:
    """Wait until a process with one thread sleeps in a system call.

    Python only notes a signal that arrives between its last check and the call that blocks, and reads on: a person
    presses the keys again.
    """
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.001)


@pytest.mark.parametrize("output, status", [("> /dev/full", 1), (">&-", 0)])
def test_an_output_that_cannot_be_written_is_one_line(openssh_terminal: Terminal, output: str, status: int) -> None:
    terminal = openssh_terminal

    ended = subprocess.run(
        ["sh", "-c", f'"$@" {output}', "sh", *PROGRAM, "ls", "--json"],
        cwd=terminal.directory,
        env=os.environ | terminal.variables,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert ended.returncode == status
    assert "Traceback" not in ended.stderr
    assert status == 0 or "cannot be written: No space left on device" in ended.stderr


@pytest.mark.parametrize("name", ["HOST", "USER"])
def test_a_missing_setting_is_named_with_its_option_and_variable(openssh_terminal: Terminal, name: str) -> None:
    ended = openssh_terminal.run("ls", **{f"IOT_SFTP_{name}": ""})

    assert ended.status == 2
    assert f"--{name.lower()}" in ended.err
    assert f"IOT_SFTP_{name}" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [("--port", "0"), ("--port", "x"), ("--host-key", "SHA256:short"), ("--host", "a b"), ("--hos", "a")]
    + [("--timeout", seconds) for seconds in ("0", "-1", "nan", "inf", "soon")],
)
def test_what_can_never_work_has_status_2(openssh_terminal: Terminal, arguments: tuple[str, str]) -> None:
    ended = openssh_terminal.run("ls", *arguments)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("iot-sftp")
    assert "Traceback" not in ended.err


def test_an_option_before_the_command_is_refused_with_the_right_order(openssh_terminal: Terminal) -> None:
    ended = openssh_terminal.run("--host", "sftp.example.com", "ls")

    assert (ended.status, ended.out) == (2, "")
    assert "after" in ended.err
    assert openssh_terminal.run("--version").status == 0


def test_a_key_file_that_is_none_is_named_also_by_a_path_without_a_slash(terminal: Terminal) -> None:
    (terminal.directory / "id").write_text("no key")
    (terminal.directory / "folder").mkdir(exist_ok=True)

    assert "private key cannot be read" in terminal.run("ls", "--key-file", "id").err
    assert str(terminal.directory / "folder") in terminal.run("ls", "--key-file", "folder").err


def test_an_argument_comes_before_its_variable(terminal: Terminal) -> None:
    server = terminal.server

    ended = terminal.run(
        "ls", "--host", server.host, "--port", str(server.port), IOT_SFTP_HOST="::2", IOT_SFTP_PORT="1"
    )

    assert ended.status == 0


@pytest.fixture(scope="module")
def bash_completion(openssh_server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script, which is the same for all words."""
    return terminal_of(openssh_server, tmp_path_factory.mktemp("completion")).run("completion", "bash").out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_every_command_and_option_is_completed(openssh_terminal: Terminal, shell: str) -> None:
    script = openssh_terminal.run("completion", shell).out

    for word in (
        "ls",
        "get",
        "put",
        "mv",
        "rm",
        "mkdir",
        "rmdir",
        "stat",
        "check",
        "completion",
        "--host-key",
        "--json",
        "--verify",
    ):
        assert word in script


@pytest.mark.parametrize(
    "words, completed",
    [
        ("iot-sftp ch", ["check"]),
        ("iot-sftp check --js", ["--json"]),
        ("iot-sftp get --ver", ["--verify"]),
        ("iot-sftp get --verify ''", ["size", "sha256"]),
        ("iot-sftp get --verify sh", ["sha256"]),
        ("iot-sftp completion ''", ["bash", "zsh"]),
        ("iot-sftp put ''", []),  # files, which bash knows by itself
        ("iot-sftp put --password-file ''", []),
        ("iot-sftp put --host -", []),
    ],
)
def test_bash_completes_a_word(bash_completion: str, words: str, completed: list[str]) -> None:
    typed = words.split()
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; _iot_sftp; printf '%s\\n' \"${{COMPREPLY[@]}}\""

    done = subprocess.run(["bash", "-c", bash_completion + ask], capture_output=True, text=True, check=True)

    assert done.stdout.split() == completed
