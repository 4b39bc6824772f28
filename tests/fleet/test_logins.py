"""Refused logins are told from keys that a device offers in vain before another one."""

from __future__ import annotations

from collections import Counter

from tests.fleet.logins import accepted_keys, failed_logins, fingerprint_of

DEVICES = {"SHA256:old": "gateway-1", "SHA256:new": "gateway-1", "SHA256:other": "gateway-2"}
NEW = 'Connection from 127.0.0.1 port {port} on 127.0.0.1 port 22 rdomain ""'
REFUSED = "Failed publickey for device from 127.0.0.1 port {port} ssh2: ED25519 {key}"
ACCEPTED = "Accepted publickey for device from 127.0.0.1 port {port} ssh2: ED25519 {key}"
CLOSED = "Connection closed by authenticating user device 127.0.0.1 port {port} [preauth]"


def login(port: int, *keys: str, accepted: str = "", closes: bool = True) -> list[str]:
    lines = [NEW.format(port=port), *(REFUSED.format(port=port, key=f"SHA256:{key}") for key in keys)]
    if accepted:
        return [*lines, ACCEPTED.format(port=port, key=f"SHA256:{accepted}")]
    return [*lines, CLOSED.format(port=port)] if closes else lines


def test_what_was_refused_before_the_first_accepted_login_does_not_count() -> None:
    log = [*login(1, "old"), *login(2, accepted="old"), *login(3, "other")]
    assert failed_logins(log, DEVICES) == Counter()
    assert accepted_keys(log) == {"SHA256:old"}


def test_a_key_that_is_offered_in_vain_before_another_one_does_not_count() -> None:
    assert failed_logins([*login(1, accepted="old"), *login(2, "new", accepted="old")], DEVICES) == Counter()


def test_a_login_with_no_accepted_key_counts_once() -> None:
    log = [*login(1, accepted="old"), *login(2, "new", "old"), *login(2, "new", closes=False)]
    assert failed_logins(log, DEVICES) == Counter({"gateway-1": 2})


def test_a_fingerprint_is_that_of_openssh() -> None:
    key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"  # GitHub's own
    assert fingerprint_of(key) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
