"""What is known of a server beyond SFTP version 3, which promises little: learned by asking where that is possible.

An unknown server gets the safe treatment: requests that depend on each other wait for each other, and one file is
written through one handle. Only two implementations are recognised by name, since no request could reveal what they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iot.sftp.client._ssh.open_files import OpenFiles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iot.sftp.client._ssh.packets import Kind

OPENSSH, PROFTPD = "OpenSSH", "mod_sftp"  # in the version line

# What OpenSSH's own sftp-server announces (OpenSSH PROTOCOL, section 4; sftp-server.c). A foreign subsystem behind
# sshd, such as one built on Go's pkg/sftp, has the same version line, and announces fewer of these or others.
OPENSSH_EXTENSIONS = frozenset(
    {
        "posix-rename@openssh.com", "statvfs@openssh.com", "fstatvfs@openssh.com", "hardlink@openssh.com",
        "fsync@openssh.com", "lsetstat@openssh.com", "limits@openssh.com", "expand-path@openssh.com", "copy-data",
        "home-directory", "users-groups-by-id@openssh.com",
    }
)  # fmt: skip
OPENSSH_ALONE = frozenset({"fsync@openssh.com", "fstatvfs@openssh.com"})  # no other server announces both
RENAME, TEMPORARY_NAME = "every rename", "the name of the temporary file"
MOST_DIRECTORIES = 1_000  # that are remembered


def mixes_up_channels(version: str) -> bool:
    """Return whether a server must have one channel only.

    ProFTPD confuses requests of two channels if one of them is split over several SSH packets: uploads beside any other
    call then fail or hang.

    Parameters:
        version: the server's version line.
    """
    return PROFTPD in version


def takes_a_stream(version: str) -> bool:
    """Return whether a server treats a channel as the stream that it is (RFC 4254, section 5.2).

    sshd passes it on through a pipe; libssh answers only the first of several requests in one message.

    Parameters:
        version: the server's version line.
    """
    return OPENSSH in version or PROFTPD in version


def sends_at_once(version: str) -> bool:
    """Return whether a server on whose connection a subsystem runs sends each answer at once.

    sshd sets TCP_NODELAY when it starts one (OpenSSH, session.c, do_exec_no_pty, and packet.c).

    Parameters:
        version: the server's version line.
    """
    return OPENSSH in version


@dataclass
class ServerTraits:
    """What one server does; learned once, kept from one connection of a session to the next.

    Attributes:
        keeps_order: requests on one channel are carried out in the order in which they were sent. Section 6 of
            draft-ietf-secsh-filexfer-02 leaves that open, and Go's pkg/sftp answers FSTAT before earlier WRITEs.
        parts_in_any_order: several handles may write one file at once; with object stores they must not.
        takes_commands: requesting a command does no harm: one that is not allowed is refused. Other servers have been
            seen to end the connection when a further channel is opened.
        keeps_own_attributes: neither FSETSTAT nor SETSTAT gives a file its permissions and times.
        refusals: what was refused in a directory, `RENAME` or `TEMPORARY_NAME`: it is a drop box.
        lacks: requests that the server does not implement.
        files: the places for files that are open on the server at a time.
        refuses_copy: it has not carried out a `copy-data` that it announces.
        tells_in_place: it was logged that growing files are appended to in place.
    """

    keeps_order: bool = False
    parts_in_any_order: bool = False
    takes_commands: bool = False
    keeps_own_attributes: bool = False
    refusals: dict[str, str] = field(default_factory=dict)
    lacks: set[Kind] = field(default_factory=set)
    files: OpenFiles = field(default_factory=OpenFiles)
    refuses_copy: bool = False
    tells_in_place: bool = False
    _server: str = ""

    def recognise(self, server: str, extensions: Iterable[str]) -> None:
        """Record what a connection has shown.

        Parameters:
            server: the server's version line.
            extensions: the SFTP extensions that it announced.
        """
        announced = frozenset(extensions)
        is_openssh = OPENSSH in server and OPENSSH_ALONE <= announced <= OPENSSH_EXTENSIONS
        self.keeps_order = is_openssh or PROFTPD in server
        self.parts_in_any_order = self.takes_commands = is_openssh
        if server != self._server:  # another one in its place: what was learned of the old one does not apply to it
            self._server = server
            self.keeps_own_attributes = self.refuses_copy = self.tells_in_place = False
            self.refusals.clear()
            self.lacks.clear()

    def learn(self, directory: str, refusal: str) -> None:
        """Record what is refused in a directory; an empty text stands for nothing."""
        if len(self.refusals) >= MOST_DIRECTORIES:
            self.refusals.clear()
        self.refusals[directory] = refusal
