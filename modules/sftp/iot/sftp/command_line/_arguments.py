"""What can be said on the command line. No secret can."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, NoReturn

from iot.sftp.client import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

SECRETS = ("--password", "--passphrase")
REFUSAL = (
    "a secret is no argument: every user of this machine can read it. Set IOT_SFTP_PASSWORD or IOT_SFTP_PASSPHRASE, "
    "name a file with --password-file or --passphrase-file, or type the password when it is asked for"
)
OF_THE_PROGRAM = ("-h", "--help", "--version")
EXIT_STATUS = "exit status: 0 done, 1 not done, 2 not understood, 130 ended by Ctrl-C, 143 by SIGTERM"


class Parser(argparse.ArgumentParser):
    """Refuses abbreviations, and never repeats what may be a secret."""

    def __init__(self, **options: object) -> None:
        """Take argparse's own options."""
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type] # handed through

    def parse_arguments(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return what was said; leave the program with status 2 where it cannot be understood."""
        if any(argument.partition("=")[0] in SECRETS for argument in arguments):
            self.error(REFUSAL)
        if arguments and arguments[0].startswith("-") and arguments[0] not in OF_THE_PROGRAM:
            self.error("a command comes first, and its options after it: iot-sftp ls --host HOST")
        said, unknown = self.parse_known_args(arguments)
        if unknown:
            names = [word.partition("=")[0] for word in unknown if word.startswith("--")]
            names += [word[:2] for word in unknown if word.startswith("-") and not word.startswith("--")]
            self.error(f"unrecognized arguments: {' '.join(names) or f'there are {len(unknown)} too many'}")
        return said

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and leave the program."""
        if "ignored explicit argument" in message:  # argparse's words; what follows may be a password
            message = "an option that takes no value was given one"
        self.exit(2, f"{self.prog}: {message}. `{self.prog} --help` tells more\n")


def parser() -> Parser:
    """Return the parser of the whole command line."""
    top = Parser(prog="iot-sftp", description="Files on an SFTP server, for people.", epilog=EXIT_STATUS)
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    common = _common()

    def command(name: str, words: str, *parents: Parser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, description=words, epilog=EXIT_STATUS, parents=[common, *parents])

    listing = command("ls", "list a directory, in the server's order")
    listing.add_argument("path", nargs="?", default=".", metavar="PATH", help="default: where the server begins")
    listing.add_argument("-l", "--long", action="store_true", help="with kind, permissions, size and time")
    get = command("get", "download a file; DEST is the old complete file or the new one", _transfer())
    get.add_argument("source", metavar="SOURCE", help="on the server")
    get.add_argument("dest", nargs="?", default="./", metavar="DEST", help="default: this directory")
    put = command("put", "upload a file; DEST is the old complete file or the new one", _transfer())
    put.add_argument("source", metavar="SOURCE", help="on this machine")
    put.add_argument("dest", nargs="?", metavar="DEST", help="on the server; default: the file's name")
    move = command("mv", "move a file on the server, replacing DEST")
    move.add_argument("source", metavar="SOURCE")
    move.add_argument("dest", metavar="DEST")
    remove = command("rm", "delete files on the server, until one cannot be deleted")
    remove.add_argument("paths", nargs="+", metavar="PATH")
    command("stat", "tell what is at a path").add_argument("path", metavar="PATH")
    check = command("check", "find out why there is no connection, step by step")
    check.add_argument("--write", metavar="FOLDER", help="measure with a file in this folder of the server, then gone")
    completion = commands.add_parser("completion", help="print what lets a shell complete the words of iot-sftp")
    completion.add_argument("shell", choices=("bash", "zsh"))
    return top


def _common() -> Parser:
    common = Parser(add_help=False)
    server = common.add_argument_group("the server", "Each has an environment variable, such as IOT_SFTP_HOST_KEY.")
    server.add_argument("--host", help="its name or address")
    server.add_argument("--port", help="default: 22")
    server.add_argument("--user", help="the name to log in with")
    server.add_argument("--password-file", metavar="FILE", help="that holds the password")
    server.add_argument("--key-file", metavar="FILE", help="that holds the private key")
    server.add_argument("--passphrase-file", metavar="FILE", help="that holds the passphrase of the private key")
    server.add_argument(
        "--host-key",
        action="append",
        metavar="KEY",
        help="the only one accepted: SHA256:… or 'type base64'; repeatable",
    )
    server.add_argument("--known-hosts", metavar="FILE", help="in which keys of servers are remembered")
    server.add_argument("--root", metavar="FOLDER", help="of the server, that paths are taken inside of")
    common.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="for each operation, and for opening the session in check"
    )
    common.add_argument("--json", action="store_true", help="one JSON document to standard output")
    return common


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
