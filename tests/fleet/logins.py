"""Whose logins OpenSSH has accepted or refused, by what it says at `LogLevel VERBOSE`."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping

# A connection offers several keys: each refused one has a line of its own, and so has the accepted one
_LINE = re.compile(r"^(Connection|Failed publickey|Accepted publickey)\b.*? port (\d+)\b(?:.* (SHA256:\S+))?")


def failed_logins(log: Iterable[str], devices: Mapping[str, str]) -> Counter[str]:
    """Count the logins of each device that were refused after its first accepted one.

    Parameters:
        log: the lines of sshd.
        devices: their names by the fingerprints of all keys that they have ever had.
    """
    accepted: set[str] = set()
    refused: dict[str, str] = {}  # the device, by the port of a connection that has offered nothing better yet
    failed: Counter[str] = Counter()

    def end(port: str) -> None:
        device = refused.pop(port, None)
        if device in accepted:
            failed[device] += 1

    for line in log:
        match = _LINE.match(line)
        if match is None:
            continue
        what, port, key = match.groups()
        if what == "Connection":  # from: a new one; closed: the end of one; another line of both is none of ours
            end(port)
        elif what == "Accepted publickey":
            refused.pop(port, None)
            accepted.add(devices.get(key, ""))
        else:
            refused.setdefault(port, devices.get(key, ""))
    for port in list(refused):
        end(port)
    return failed


def accepted_keys(log: Iterable[str]) -> set[str]:
    """Return the fingerprints of all keys that were accepted."""
    matches = (_LINE.match(line) for line in log)
    return {match[3] for match in matches if match is not None and match[1] == "Accepted publickey"}


def fingerprint_of(key: str) -> str:
    """Return the fingerprint of a public key in base64, as OpenSSH shows it."""
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
