"""How many files and directories of a server may be open at a time: learned once, and respected from then on.

Servers limit it, and most report that only by refusing one OPEN too many, with a status that they use for other things
as well: draft-ietf-secsh-filexfer-02 has none for it. Others give out a handle that is in use when several files are
open (Erlang's ssh_sftpd). Neither is the fault of a file: a caller without a place waits for one, as for a semaphore
whose size is learned.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Busy, HandleInUse, NotSFTP, SFTPError
from iot.sftp.client._base.sftp_statuses import is_of_a_limit
from iot.sftp.client._ssh.packets import Kind, Reader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from iot.sftp.client._base.deadline import Deadline

logger = logging.getLogger(__name__)

UNLIMITED = 1_000_000_000  # files


@dataclass(eq=False)
class Place:
    """Stands for one file or directory that is being opened, is open, or is being closed.

    Attributes:
        channel: over which it is opened.
        is_directory: whether it is a directory; some servers count files only.
        owner: the thread that opens it.
        is_alone: whether no other thread has or gets a place, as long as it is being opened.
        others: how many were open beside it when the answer came that the server refused it.
        beside: the most files, and directories, that were open beside it at a time, since it was asked for.
        unclear: how many others were being opened then: their answers may have been in flight, over another channel.
        is_crowded: whether more were never open than there may have been then.
        is_own_crowd: whether all of these belong to the same thread, and stay open: there is nothing to wait for.
        is_closing: whether CLOSE was sent, and not answered yet.
    """

    channel: object
    is_directory: bool
    owner: int = field(default_factory=threading.get_ident)
    is_alone: bool = False
    others: int = 0
    beside: tuple[int, int] = (0, 0)
    unclear: int = 0
    is_crowded: bool = False
    is_own_crowd: bool = False
    is_closing: bool = False


class OpenFiles:
    """The places of one server, of all channels, kept from one connection to the next; thread-safe.

    A thread that has a file open gets its next place at once: if it waited, it could be for itself, a deadlock.
    It stays in one piece because each method reads or changes the same few sets under one lock.

    Attributes:
        most: how many may be open at a time, as far as that is known.
    """

    def __init__(self) -> None:
        """Start without knowing a limit."""
        self.most = UNLIMITED
        self._changed = threading.Condition()
        self._asked: set[Place] = set()
        self._open: dict[object, dict[bytes, Place]] = {}  # by channel and handle
        self._waiting_to_be_alone = 0  # threads
        self._granted = self._granted_directories = self._granted_files = 0  # the most that were open at a time
        self._is_one_per_channel = False

    # --- places, in the threads of callers ---

    def take_place(self, channel: object, deadline: Deadline, *, is_directory: bool, is_quick: bool) -> Place:
        """Wait for a place, and take it. Transfers leave the last one, if there are several, to quick calls.

        Raises:
            DeadlineExceeded: there was none in time.
        """
        place = Place(channel, is_directory)
        with self._changed:
            while not self._is_free_for(place, is_quick=is_quick):
                self._changed.wait(deadline.wait_at_most())
                deadline.check()
            self._ask(place)
        return place

    def take_free_place(self, channel: object, *, is_directory: bool, is_quick: bool) -> Place | None:
        """Take a place if one is free, whatever this thread has open: it may have files of others in hand."""
        place = Place(channel, is_directory)
        with self._changed:
            if not self._is_free_beside(self._all(), place, is_quick=is_quick):
                return None
            self._ask(place)
        return place

    def take_place_alone(self, refused: Place, deadline: Deadline, seconds: float) -> Place | None:
        """Take a place when no other thread has one; `None` once the server's limit is known: then there is no need.

        Transfers that begin meanwhile have to wait.

        Raises:
            Busy: there were others all the time, for so many seconds.
            DeadlineExceeded: the call's time has run out.
        """
        place, patience = Place(refused.channel, refused.is_directory, is_alone=True), deadline.within(seconds)
        with self._changed:
            self._waiting_to_be_alone += 1
            try:
                while any(other.owner != place.owner for other in self._all()):
                    if self.most <= refused.others:
                        return None
                    self._changed.wait(patience.wait_at_most())
                    deadline.check()
                    if not patience.remaining():
                        message = "the server refused to open this beside other files: try again when they are closed"
                        raise Busy(message)
                self._ask(place)
            finally:
                self._waiting_to_be_alone -= 1
                self._changed.notify_all()
        return place

    def may_be_of_limit(self, place: Place, error: SFTPError) -> bool:
        """Return whether a refusal may be caused by the other files that were open, and not by this one."""
        is_crowded = place.is_crowded and not place.is_own_crowd
        return is_of_a_limit(error) or (is_crowded and not place.is_alone)

    # --- what is learned ---

    def announce(self, most: int) -> None:
        """Record the limit that the server announced (OpenSSH PROTOCOL, section 4.8); 0 announces none."""
        with self._changed:
            if most:
                self.most = min(self.most, most)
                self._granted = self._granted_files = self._granted_directories = most

    def learn(self, most: int) -> None:
        """Record that the server refused a file because so many others were open."""
        with self._changed:
            most = max(1, most)
            if most >= self.most:
                return
            self.most = most
        logger.info("The server lets %d files be open at a time: no more are opened at once from now on", most)

    # --- answers, in paramiko's thread ---

    def ask(self, channel: object, *, is_directory: bool) -> Place:
        """Take a place without waiting."""
        place = Place(channel, is_directory)
        with self._changed:
            self._ask(place)
        return place

    def answered(self, place: Place, packet: bytes) -> None:
        """Record the answer to an OPEN or an OPENDIR.

        Raises:
            HandleInUse: see `granted`.
        """
        if packet[0] != Kind.HANDLE:
            self.refused(place)
            return
        try:
            handle = Reader(packet, 5).string()  # behind the type and the number
        except NotSFTP:
            self.refused(place)
        else:
            self.granted(place, handle)

    def granted(self, place: Place, handle: bytes) -> None:
        """Record that a file is open.

        Raises:
            HandleInUse: another one on this channel is open under that handle. A CLOSE in flight does not change that:
                the server had not received it when it gave out the handle.
        """
        with self._changed:
            self._asked.discard(place)
            places = self._open.setdefault(place.channel, {})
            is_in_use = handle in places
            places[handle] = place
            self._note_crowd(self._asked)
            # What is being closed may have been closed before this was opened: answers overtake over several channels
            files, directories = self._count_open(with_closing=False)
            self._granted = max(self._granted, files + directories)
            self._granted_files = max(self._granted_files, files)
            self._granted_directories = max(self._granted_directories, directories)
            is_news = is_in_use and not self._is_one_per_channel
            self._is_one_per_channel = self._is_one_per_channel or is_in_use
            self._changed.notify_all()
        if is_news:
            logger.info("The server gives out handles that are in use: one file is opened at a time from now on")
        if is_in_use:
            message = "the server gave out a handle that is in use: what was moved meanwhile is moved again"
            raise HandleInUse(message)

    def refused(self, place: Place) -> None:
        """Record that a file was not opened."""
        with self._changed:
            self._asked.discard(place)
            files, directories = self._count_open(with_closing=True)
            place.others, place.unclear = files + directories, len(self._asked)
            place.is_own_crowd = place.others > 0 == place.unclear and all(
                other.owner == place.owner and not other.is_closing for other in self._all()
            )
            # Over several channels, CLOSE may be answered before there is a place again, and before an earlier refusal
            files, directories = place.beside
            of_its_kind, most = (
                (directories, self._granted_directories) if place.is_directory else (files, self._granted_files)
            )
            slack = place.unclear + (self.most != UNLIMITED)
            is_crowded = files + directories + slack >= self._granted or of_its_kind + slack >= most
            place.is_crowded = is_crowded and files + directories + place.unclear > 0
            self._changed.notify_all()

    def closing(self, channel: object, handle: bytes) -> None:
        """Record that CLOSE was sent."""
        with self._changed:
            place = self._open.get(channel, {}).get(handle)
            if place is not None:
                place.is_closing = True

    def closed(self, channel: object, handle: bytes) -> None:
        """Record that CLOSE was answered."""
        with self._changed:
            self._open.get(channel, {}).pop(handle, None)
            self._changed.notify_all()

    def ended(self, channel: object) -> None:
        """Record that a channel has ended, and with it all that was open on it."""
        with self._changed:
            self._open.pop(channel, None)
            self._asked = {place for place in self._asked if place.channel is not channel}
            self._changed.notify_all()

    # --- under the lock ---

    def _is_free_for(self, place: Place, *, is_quick: bool) -> bool:
        there = self._all()
        is_owner = any(other.owner == place.owner and not other.is_closing for other in there)
        return is_owner or self._is_free_beside(there, place, is_quick=is_quick)

    def _is_free_beside(self, there: list[Place], place: Place, *, is_quick: bool) -> bool:
        if (self._waiting_to_be_alone and not is_quick) or any(other.is_alone for other in self._asked):
            return False
        if self._is_one_per_channel and any(other.channel is place.channel for other in there):
            return False
        return len(there) < (self.most if is_quick or self.most == 1 else self.most - 1)

    def _ask(self, place: Place) -> None:
        self._asked.add(place)
        self._note_crowd((place,))

    def _note_crowd(self, asked: Iterable[Place]) -> None:
        files, directories = self._count_open(with_closing=True)
        for place in asked:
            place.beside = max(place.beside[0], files), max(place.beside[1], directories)

    def _all(self) -> list[Place]:
        there = list(self._asked)
        for places in self._open.values():
            there += places.values()
        return there

    def _count_open(self, *, with_closing: bool) -> tuple[int, int]:
        """Return how many files and how many directories are open."""
        files = directories = 0
        for places in self._open.values():
            for place in places.values():
                if with_closing or not place.is_closing:
                    directories += place.is_directory
                    files += not place.is_directory
        return files, directories
