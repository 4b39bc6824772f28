"""The SFTP channels of one connection, and which transfer uses which."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iot.sftp.client._base.deadline import Deadline
from iot.sftp.client._base.errors import ConnectionLost, DeadlineExceeded, LocalBusy, SFTPError
from iot.sftp.client._base.threads import start_thread
from iot.sftp.client._ssh.paramiko_internals.failures import reason_of
from iot.sftp.client._ssh.server_traits import mixes_up_channels
from iot.sftp.client._ssh.sftp_subsystem import open_sftp_channel
from iot.sftp.client._ssh.waiting import wait_for_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from iot.sftp.client._base.settings import TimeLimits
    from iot.sftp.client._ssh.channel import SFTPChannel
    from iot.sftp.client._ssh.liveness import Activity
    from iot.sftp.client._ssh.open_files import OpenFiles
    from iot.sftp.client._ssh.paramiko_internals.transport import Transport

logger = logging.getLogger(__name__)

TRANSFER_CHANNELS = 8  # OpenSSH grants ten a connection: one is for quick calls, one for a command


@dataclass
class ChannelBudget:
    """How many channels for transfers a server grants; learned once, kept between connections.

    Some servers do not refuse a channel too many, but end the connection. Two breaks with no channel more granted in
    between count as a refusal, one counts as a link that broke at this moment.
    """

    most: int = TRANSFER_CHANNELS
    broke_at: int | None = None

    def grant(self, count: int) -> None:
        """Record that so many are open."""
        if self.broke_at is not None and count > self.broke_at:
            self.broke_at = None

    def refuse(self, granted: int, *, broke: bool) -> None:
        """Record that no more than `granted` channels were granted.

        Parameters:
            granted: how many were open.
            broke: whether the connection broke when another one was opened.
        """
        if broke and self.broke_at is None:
            self.broke_at = granted
        else:
            self.most = min(self.most, max(granted, self.broke_at or 0) if broke else granted)
            self.broke_at = None


class ChannelPool:
    """The channels of one connection; thread-safe.

    One channel is for quick calls. Transfers borrow their own, so that they do not delay quick calls; if the server
    grants no further channel, they share the first one.

    Attributes:
        quick: the channel for calls that are answered at once.
    """

    def __init__(
        self,
        transport: Transport,
        quick: SFTPChannel,
        budget: ChannelBudget,
        *,
        limits: TimeLimits,
        activity: Activity,
        open_files: OpenFiles,
    ) -> None:
        """Take a connection with its first channel.

        Parameters:
            transport: of the connection.
            quick: the first channel.
            budget: how many channels the server grants, as far as that is known.
            limits: of the server.
            activity: of the connection.
            open_files: of the server.
        """
        self.quick = quick
        self._transport = transport
        self._budget = budget
        self._limits = limits
        self._activity = activity
        self._open_files = open_files
        self._lock = threading.Lock()
        self._channels = [quick]
        self._transfers: dict[SFTPChannel, int] = {}  # how many transfers use each channel that is for them
        self._openings = 0  # channels that are being opened
        self._was_refused = False  # one of those that began since there were none
        self._prepared: list[Future[None]] = []  # openings that nobody waits for yet
        self._failure: SFTPError | None = None
        if mixes_up_channels(transport.remote_version):
            budget.most = 0

    @property
    def all(self) -> list[SFTPChannel]:
        """All channels that were not seen to be closed when the last one was opened."""
        with self._lock:
            return list(self._channels)

    def is_awaited(self) -> bool:
        """Return whether an answer is due on any of the channels."""
        for channel in self._channels:  # noqa: SIM110 - asked for each answer; the list is replaced, never changed
            if channel.in_flight:
                return True
        return False

    @contextmanager
    def lend(self, deadline: Deadline) -> Iterator[SFTPChannel]:
        """Lend a channel for one transfer: an idle one, a new one, or the one that has the fewest transfers.

        The channel for quick calls is lent only if the server grants no other.
        """
        with self._lock:
            self._transfers = {channel: count for channel, count in self._transfers.items() if not channel.closed}
            are_busy = all(self._transfers.values())
            has_to_open = are_busy and len(self._transfers) + self._openings < self._budget.most
            self._openings += has_to_open
        if has_to_open:
            self._open_another(deadline)
        with self._lock:
            channel = min(self._transfers, key=self._transfers.__getitem__, default=None)
            if channel is not None:
                self._transfers[channel] += 1
        try:
            yield channel or self.quick
        finally:
            with self._lock:
                if channel in self._transfers:
                    self._transfers[channel] -= 1

    @contextmanager
    def lend_spare(self, deadline: Deadline) -> Iterator[SFTPChannel | None]:
        """Lend a further channel to a transfer that has one already: an idle or a new one, or none."""
        with self._lock:
            used = {channel for channel, count in self._transfers.items() if count}
            opening = self._prepared.pop() if self._prepared else None
        if opening is not None:
            with suppress(SFTPError):  # it has been learned from
                wait_for_answer(opening, deadline, self._activity.silence, self._limits.stall)
        with self.lend(deadline) as channel:
            yield None if channel in used or channel is self.quick else channel

    def prepare(self, count: int) -> None:
        """Begin to open channels, so that a transfer finds so many: `lend` opens one, `lend_spare` waits for others."""
        with self._lock:
            self._prepared = [opening for opening in self._prepared if not opening.done()]
            idle = sum(not users for channel, users in self._transfers.items() if not channel.closed)
            free = self._budget.most - len(self._transfers) - self._openings - (idle == 0)
            count = min(free, count - len(self._prepared) - max(1, idle))
            openings: list[Future[None]] = [Future() for _ in range(count)]
            self._openings += len(openings)
            self._prepared += openings
        for opened in openings:
            self._begin_to_open(opened)

    def _begin_to_open(self, opened: Future[None]) -> None:
        try:
            start_thread(self._open_for, opened, name="sftp-channel-opening")
        except LocalBusy as error:
            self._fail_opening(opened, error)

    def _fail_opening(self, opened: Future[None], error: SFTPError) -> None:
        self._end_opening(None, is_refused=not isinstance(error, LocalBusy))
        opened.set_exception(error)

    def open_channel(self, deadline: Deadline) -> SFTPChannel:
        """Open one more channel.

        Raises:
            SFTPError, paramiko.SSHException, OSError, EOFError: there is none.
        """
        return open_sftp_channel(
            self._transport,
            deadline,
            activity=self._activity,
            stall=self._limits.stall,
            open_files=self._open_files,
            on_opened=self._add,
        )

    def fail(self, error: SFTPError) -> None:
        """End all channels: each request in flight, and each later one, fails with `error`."""
        with self._lock:
            self._failure = self._failure or error
            channels = list(self._channels)
        for channel in channels:
            channel.fail(error)

    def join(self) -> None:
        """Wait for the channels' threads; they end as soon as the transport is closed."""
        for channel in self.all:
            channel.join()

    def _add(self, channel: SFTPChannel) -> None:
        with self._lock:
            self._channels = [*(other for other in self._channels if not other.closed), channel]
            failure = self._failure
        if failure is not None:
            channel.fail(failure)

    def _open_another(self, deadline: Deadline) -> None:
        """Open a further channel, or learn that the server grants none.

        It is opened in a thread of its own: a caller who cannot wait so long leaves the channel to the next one.
        """
        opened: Future[None] = Future()
        try:
            self._begin_to_open(opened)
            wait_for_answer(opened, deadline, self._activity.silence, self._limits.stall)
        except DeadlineExceeded:
            raise
        except Exception as error:
            if not self._transport.is_active():
                lost = ConnectionLost("the server ended the connection when a further channel was asked for")
                raise lost from error
            logger.info("There is no further channel (%s): transfers share what there is", error)

    def _open_for(self, opened: Future[None]) -> None:
        try:
            channel = self.open_channel(Deadline(self._limits.connect))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for the thread that waits
            self._fail_opening(opened, reason_of(error, self._transport.saved_exception))
        else:
            self._end_opening(channel, is_refused=False)
            opened.set_result(None)

    def _end_opening(self, channel: SFTPChannel | None, *, is_refused: bool) -> None:
        """Record a channel, or none where it was refused: how many are granted is seen when none is being opened."""
        with self._lock:
            self._openings -= 1
            self._was_refused |= is_refused
            if channel is not None:
                self._transfers[channel] = 0
                self._budget.grant(len(self._transfers))
            if self._was_refused and not self._openings:
                self._was_refused = False
                self._budget.refuse(len(self._transfers), broke=not self._transport.is_active())
