"""A further channel on a connection, with SFTP on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import SFTPError
from iot.sftp.client._ssh.channel import SFTPChannel
from iot.sftp.client._ssh.server_traits import takes_a_stream
from iot.sftp.client._ssh.waiting import wait_for_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._ssh.liveness import Activity
    from iot.sftp.client._ssh.open_files import OpenFiles
    from iot.sftp.client._ssh.paramiko_internals.channel_data import Channel
    from iot.sftp.client._ssh.paramiko_internals.transport import Transport


def open_sftp_channel(
    transport: Transport,
    deadline: Deadline,
    *,
    activity: Activity,
    stall: float,
    open_files: OpenFiles,
    on_opened: Callable[[SFTPChannel], object],
) -> SFTPChannel:
    """Open a channel, and start SFTP on it.

    Parameters:
        transport: of a connection that is logged in.
        deadline: by when SFTP has to answer.
        activity: informed of whatever arrives.
        stall: see `TimeLimits`.
        open_files: of the server.
        on_opened: called before SFTP is started, so that the channel can be ended meanwhile.

    Raises:
        SFTPError, paramiko.SSHException, OSError, EOFError: there is no channel, or no SFTP on it.
    """
    asked = time.monotonic()
    raw: Channel = transport.open_session(timeout=max(deadline.remaining(), 0.001))  # type: ignore[assignment] # see `Transport._parse_channel_open_success`
    try:
        channel = SFTPChannel(raw, activity.note, open_files, joins_requests=takes_a_stream(transport.remote_version))
    except BaseException:  # no thread is left
        raw.close()
        raise
    channel.round_trip = time.monotonic() - asked
    on_opened(channel)
    try:
        channel.start(deadline, lambda future: wait_for_answer(future, deadline, activity.silence, stall))
    except SFTPError as error:
        channel.close(error)
        raise
    return channel
