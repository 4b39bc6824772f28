"""Runs a program for each connection, as inetd does: `python -I -S inetd.py DESCRIPTOR PROGRAM ARGUMENTS…`.

ProFTPD's own daemon sleeps 0.4 s whenever one of its sessions has ended, before it accepts the next connection.
"""

import os
import signal
import socket
import sys


def reap(*_: object) -> None:
    """Take note of the sessions that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def main() -> None:
    """Accept, and start, until a signal ends this."""
    signal.signal(signal.SIGCHLD, reap)
    listener, command = socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]
    while True:
        try:
            connection, _ = listener.accept()
        except ConnectionError:
            continue
        with connection:
            taken = [(os.POSIX_SPAWN_DUP2, connection.fileno(), number) for number in (0, 1)]
            os.posix_spawn(command[0], command, os.environ, file_actions=taken)


if __name__ == "__main__":
    main()
