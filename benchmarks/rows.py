"""The work that is measured: what is moved, over which link, by whom, and how often."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.proxy import Link

MIB = 1024**2
GIB = 1024**3
ALL = ("ours", "openssh", "asyncssh", "rclone", "lftp", "pysftp")
MIRRORS = ("ours", "rclone", "lftp")  # those that compare what is there already
DIRECT = Link()
SERVER = ("Ciphers aes128-gcm@openssh.com",)  # lines of its configuration, so that all use the same cipher
TEN_MEGABIT = 10e6 / 8  # bytes per second


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: for `--rows`.
        title: for readers.
        kinds: what is done, as `Job.kind` names it; each is measured by itself.
        size: bytes of one file.
        files: how many.
        per_folder: how many of them are in each folder; 0 puts all into one.
        link: to the server.
        clients: those that are measured.
        repeats: how often each.
        once: clients that are measured once only, because they take minutes.
        note: what a reader has to know.
        server: lines for the server's configuration.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    size: int
    files: int = 1
    per_folder: int = 0
    link: Link = DIRECT
    clients: tuple[str, ...] = ALL
    repeats: int = 3
    once: tuple[str, ...] = ()
    note: str = ""
    server: tuple[str, ...] = SERVER

    @property
    def moves_bytes(self) -> bool:
        """Whether its speed is in bytes: one large file."""
        return self.files == 1

    def quick(self) -> Row:
        """Return the same work, small: to see that everything runs, not to be believed."""
        return replace(
            self,
            size=max(min(self.size, MIB) // 8, 1),
            files=min(self.files, 10),
            per_folder=min(self.per_folder, 3),
            repeats=1,
        )


def _cipher(name: str, *lines: str, note: str = "") -> Row:
    title = f"256 MiB on loopback, {name}"
    server = (f"Ciphers {name}", *lines)
    return Row(
        name.partition("@")[0], title, ("get", "put"), 256 * MIB, clients=("ours", "openssh"), note=note, server=server
    )


ROWS = {
    row.name: row
    for row in (
        Row("loopback", "256 MiB on loopback", ("get", "put"), 256 * MIB, repeats=5),
        Row(
            "hops",
            "256 MiB on loopback, through one hop",
            ("get", "put"),
            256 * MIB,
            clients=("ours", "ours_socks", "ours_jump", "openssh", "openssh_jump"),
            note="The jump host is the server's own sshd, whose processor time is the server's.",
        ),
        _cipher("aes256-gcm@openssh.com"),
        _cipher("chacha20-poly1305@openssh.com"),
        _cipher("aes128-ctr", "MACs hmac-sha2-256-etm@openssh.com", note="With hmac-sha2-256-etm@openssh.com."),
        Row("rtt50", "64 MiB, 50 ms round trip", ("get", "put"), 64 * MIB, link=Link(0.05), once=("lftp",)),
        Row(
            "rtt200",
            "64 MiB, 200 ms round trip",
            ("get", "put"),
            64 * MIB,
            link=Link(0.2),
            repeats=2,
            once=("rclone", "lftp", "pysftp"),
        ),
        Row(
            "slow",
            "8 MiB, 50 ms round trip, 10 Mbit/s",
            ("get", "put"),
            8 * MIB,
            link=Link(0.05, TEN_MEGABIT),
            clients=("ours", "openssh", "asyncssh"),
            repeats=2,
            note="The rate counts all bytes of the TCP connection, so that SSH's framing is part of it.",
        ),
        Row("small", "1,000 files of 10 KiB, one call each, loopback", ("get", "put"), 10240, 1000),
        Row(
            "small20",
            "100 files of 10 KiB, one call each, 20 ms round trip",
            ("get", "put"),
            10240,
            100,
            link=Link(0.02),
            repeats=2,
            once=("lftp", "pysftp"),
            note="A hundred files rather than a thousand, since most clients need a tenth of a second for each.",
        ),
        Row(
            "folder",
            "a folder of 1,000 files of 10 KiB, 20 ms round trip",
            ("get_folder", "put_folder"),
            10240,
            1000,
            link=Link(0.02),
            clients=("ours", "openssh", "rclone"),
            once=("openssh", "rclone"),
        ),
        Row(
            "many",
            "5,000 files of 1 KiB in 100 folders, loopback",
            ("get_folder", "put_folder"),
            1024,
            5000,
            50,
            clients=MIRRORS,
            repeats=1,
        ),
        Row(
            "many20",
            "500 files of 1 KiB in 100 folders, 20 ms round trip",
            ("get_folder", "put_folder"),
            1024,
            500,
            5,
            link=Link(0.02),
            clients=MIRRORS,
            repeats=1,
            note="So few since rclone and lftp would take hours for the 100,000 below.",
        ),
        Row(
            "most",
            "100,000 files of 1 KiB in 100 folders, loopback",
            ("put_folder",),
            1024,
            100_000,
            1000,
            clients=("ours",),
            repeats=1,
            note="Twenty times as many as above, for the peak memory.",
        ),
        Row(
            "most20",
            "100,000 files of 1 KiB in 100 folders, 20 ms round trip",
            ("get_folder",),
            1024,
            100_000,
            1000,
            link=Link(0.02),
            clients=("ours",),
            repeats=1,
        ),
        Row(
            "same",
            "100,000 files of 1 KiB in 100 folders, all of them there already, loopback",
            ("get_same_folder", "put_same_folder"),
            1024,
            100_000,
            1000,
            clients=MIRRORS,
            repeats=1,
            note="All compare sizes and times.",
        ),
        Row(
            "same20",
            "100,000 files of 1 KiB in 100 folders, all of them there already, 20 ms round trip",
            ("put_same_folder",),
            1024,
            100_000,
            1000,
            link=Link(0.02),
            clients=MIRRORS,
            repeats=1,
            note="All compare sizes and times.",
        ),
        Row("list", "a listing of 50,000 names, loopback", ("list",), 0, 50_000),
        Row(
            "details20",
            "a listing of 10,000 entries with their details, 20 ms round trip",
            ("list_details",),
            0,
            10_000,
            link=Link(0.02),
        ),
        Row(
            "delete20",
            "deleting a folder of 10,000 files, 20 ms round trip",
            ("delete_folder",),
            0,
            10_000,
            link=Link(0.02),
            clients=("ours", "rclone", "lftp", "asyncssh"),
            once=("rclone", "lftp", "asyncssh"),
            note="OpenSSH's sftp and pysftp cannot delete a folder with what is in it.",
        ),
        Row(
            "delete-folders20",
            "deleting 1,000 folders of 10 files each, 20 ms round trip",
            ("delete_folder",),
            0,
            10_000,
            10,
            link=Link(0.02),
            clients=("ours", "rclone"),
            once=("rclone",),
        ),
        Row(
            "mkdir20",
            "making 100 folders, each with two missing parents, 20 ms round trip",
            ("make_folder",),
            0,
            100,
            link=Link(0.02),
            clients=("ours", "asyncssh", "lftp", "pysftp"),
            note="OpenSSH's sftp makes no parents, and rclone one folder for each start.",
        ),
        Row(
            "memory",
            "4 GiB on loopback",
            ("get", "put"),
            4 * GIB,
            clients=("ours", "openssh", "asyncssh"),
            repeats=1,
            note="For the peak memory.",
        ),
    )
}
