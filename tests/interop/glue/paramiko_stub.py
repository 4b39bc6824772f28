"""Serve the current directory with the stub server of paramiko's tests, as PyPI's sftpserver has it.

Usage: paramiko_stub.py HOST-KEY   (it lets everybody in; its own program serves one connection, and then ends)
"""

from __future__ import annotations

import socket
import sys
import threading

import paramiko
from sftpserver.stub_sftp import StubServer, StubSFTPServer


def serve(connection: socket.socket, key: paramiko.PKey) -> None:
    """Serve one connection until it ends."""
    transport = paramiko.Transport(connection)
    transport.add_server_key(key)
    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, StubSFTPServer)
    try:
        transport.start_server(server=StubServer())
    except (OSError, EOFError, paramiko.SSHException):
        return
    transport.join()


def main() -> None:
    """Serve every connection in a thread of its own."""
    key = paramiko.PKey.from_path(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    print("PORT", listener.getsockname()[1], flush=True)  # noqa: T201 - how glue reports its port
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, key), daemon=True).start()


main()
