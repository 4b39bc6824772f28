"""The way to a server, from its settings: a proxy first, then the jump hosts, outermost first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.client._ssh.dial import DirectDialer
from iot.sftp.client._ssh.handshake import Stage
from iot.sftp.client._ssh.jumps import JumpDialer, settings_of_jump
from iot.sftp.client._ssh.proxies import ProxyDialer

if TYPE_CHECKING:
    from iot.sftp.client._base.settings import ServerSettings
    from iot.sftp.client._ssh.dial import Dialer


def dialer_of(settings: ServerSettings) -> Dialer:
    """Return a new way to a server; nothing is sent yet."""
    stall = settings.time_limits.stall
    (host, port), *behind = [*((jump.host, jump.port) for jump in settings.jumps), (settings.host, settings.port)]
    dialer: Dialer
    if settings.proxy is None:
        dialer = DirectDialer(host, port, stall, Stage.JUMP.value if behind else "")
    else:
        dialer = ProxyDialer(settings.proxy, host, port, stall)
    for number, (host, port) in enumerate(behind):
        dialer = JumpDialer(settings_of_jump(settings, number), dialer, host, port)
    return dialer
