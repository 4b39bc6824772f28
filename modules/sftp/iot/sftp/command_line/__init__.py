"""`iot-sftp`: the library on the command line, without further dependencies."""

from iot.sftp.command_line._main import main

__all__ = ["main"]
