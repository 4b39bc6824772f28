"""`iot-sftp`: the library for people at a terminal. It needs nothing that the library does not need."""

from iot.sftp.command_line._main import main

__all__ = ["main"]
