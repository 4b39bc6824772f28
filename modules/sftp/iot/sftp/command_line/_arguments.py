"""The commands and options of the command line; none of them takes a secret."""

from __future__ import annotations

import argparse
import difflib
import math
from typing import TYPE_CHECKING, NoReturn

from iot.sftp.client import __version__
from iot.sftp.command_line._completion import commands_of, words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRETS = tuple(f"--{of}{name}" for of in ("", "jump-", "proxy-") for name in ("password", "passphrase"))
REFUSAL = (
    "a secret must not be an argument, which every user of this machine can read. Set IOT_SFTP_PASSWORD or "
    "IOT_SFTP_PASSPHRASE, use --password-file or --passphrase-file, or type the password at the prompt"
)
OF_THE_PROGRAM = ("-h", "--help", "--version")
EXIT_STATUS = "exit status: 0 success, 1 failure, 2 usage error, 130 interrupted by Ctrl-C, 143 by SIGTERM"


class Parser(argparse.ArgumentParser):
    """A parser that refuses abbreviations, and never quotes what may be a secret."""

    def __init__(self, **options: object) -> None:
        """Take argparse's own options."""
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type] # passed on

    def parse_arguments(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the parsed arguments; exit with status 2 if they are invalid."""
        if any(argument.partition("=")[0] in SECRETS for argument in arguments):
            self.error(REFUSAL)
        if arguments and arguments[0].startswith("-") and arguments[0] not in OF_THE_PROGRAM:
            self.error("options come after the command: iot-sftp ls --host HOST")
        parsed, unknown = self.parse_known_args(arguments)
        if unknown:
            names = [word.partition("=")[0] for word in unknown if word.startswith("--")]
            names += [word[:2] for word in unknown if word.startswith("-") and not word.startswith("--")]
            command = commands_of(self)[parsed.command]
            known, _ = words_of(command)
            close = [option for name in names for option in difflib.get_close_matches(name, known, 1)]
            hint = f" (did you mean {' '.join(close)}?)" if close else ""
            command.error(f"unrecognized arguments: {' '.join(names) or f'{len(unknown)} too many'}{hint}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit."""
        if "ignored explicit argument" in message:  # argparse's words; the rest of its message may be a password
            message = "an option that takes no value has one"
        self.exit(2, f"{self.prog}: {message}. For help: {self.prog} --help\n")


def parser() -> Parser:
    """Return the parser of the command line."""
    top = Parser(prog="iot-sftp", description="Transfer and manage files on an SFTP server.", epilog=EXIT_STATUS)
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    common = _common()

    def command(name: str, words: str, *parents: Parser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, description=words, epilog=EXIT_STATUS, parents=[common, *parents])

    listing = command("ls", "list a directory, in the server's order")
    listing.add_argument("path", nargs="?", default=".", metavar="PATH", help="default: the server's start directory")
    listing.add_argument("-l", "--long", action="store_true", help="show kind, permissions, size and time")
    get = command("get", "download a file; DEST is replaced atomically", _transfer())
    get.add_argument("source", metavar="SOURCE", help="path on the server")
    get.add_argument("dest", nargs="?", default="./", metavar="DEST", help="path on this machine; default: ./")
    put = command("put", "upload a file; DEST is replaced atomically where the server can do that", _transfer())
    put.add_argument("source", metavar="SOURCE", help="path on this machine")
    put.add_argument("dest", nargs="?", metavar="DEST", help="path on the server; default: the name of SOURCE")
    move = command("mv", "move a file on the server, replacing DEST; or a directory, to where nothing is")
    move.add_argument("source", metavar="SOURCE")
    move.add_argument("dest", metavar="DEST", help="with a slash at its end, or if it is a directory: into it")
    remove = command("rm", "delete files on the server; stop at the first failure")
    remove.add_argument("paths", nargs="+", metavar="PATH")
    make = command("mkdir", "make directories on the server, with their parents")
    make.add_argument("paths", nargs="+", metavar="PATH")
    unmake = command("rmdir", "delete directories on the server; stop at the first failure")
    unmake.add_argument("paths", nargs="+", metavar="PATH")
    unmake.add_argument(
        "-r", "--recursive", action="store_true", help="with all that is in them; links are not followed"
    )
    command("stat", "describe a file or directory on the server").add_argument("path", metavar="PATH")
    check = command("check", "diagnose the connection, step by step")
    check.add_argument("--write", metavar="FOLDER", help="measure the speed with files in this folder of the server")
    check.add_argument("--name", help="the server of the running module to check, by its name; default: all")
    completion = commands.add_parser("completion", help="print the completion script for a shell")
    completion.add_argument("shell", choices=("bash", "zsh"))
    return top


def _common() -> Parser:
    common = Parser(add_help=False)
    server = common.add_argument_group("the server", "Each option has a variable, such as IOT_SFTP_HOST_KEY.")
    server.add_argument("--host", help="name or address of the server")
    server.add_argument("--port", help="default: 22")
    server.add_argument("--user", help="name to log in with")
    server.add_argument("--password-file", metavar="FILE", help="file with the password")
    server.add_argument("--key-file", metavar="FILE", help="file with the private key")
    server.add_argument("--passphrase-file", metavar="FILE", help="file with the passphrase of the private key")
    server.add_argument(
        "--host-key",
        action="append",
        metavar="KEY",
        help="the only host key that is accepted: SHA256:… or 'type base64'; repeatable",
    )
    server.add_argument("--known-hosts", metavar="FILE", help="file in which host keys are remembered")
    server.add_argument("--root", metavar="FOLDER", help="folder on the server that paths are relative to")
    _add_way(common.add_argument_group("the way to the server", "Through a proxy first, then through jump hosts."))
    common.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="time limit of each operation, and of the session in check"
    )
    common.add_argument("--json", action="store_true", help="print one JSON document to standard output")
    return common


def _add_way(way: argparse._ArgumentGroup) -> None:
    way.add_argument("--proxy", metavar="URL", help="socks5h://HOST:PORT or http://HOST:PORT")
    way.add_argument("--proxy-user", metavar="NAME", help="name to log in with at the proxy")
    way.add_argument("--proxy-password-file", metavar="FILE", help="file with the password for the proxy")
    way.add_argument(
        "--jump",
        action="append",
        metavar="[USER@]HOST[:PORT]",
        help="SSH server to go through, outermost first; up to three times; its default user and key are the server's",
    )
    way.add_argument("--jump-password-file", metavar="FILE", help="file with the password for the jump hosts")
    way.add_argument("--jump-key-file", metavar="FILE", help="file with the private key for the jump hosts")
    way.add_argument("--jump-passphrase-file", metavar="FILE", help="file with the passphrase of that key")
    way.add_argument(
        "--jump-host-key", action="append", metavar="KEY", help="host keys that jump hosts may have; repeatable"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        message = f"must be a number of seconds above 0, not {text!r}"
        raise argparse.ArgumentTypeError(message)
    return seconds


def _transfer() -> Parser:
    transfer = Parser(add_help=False)
    transfer.add_argument("--verify", choices=("size", "sha256"), default="size", help="what is compared afterwards")
    return transfer
