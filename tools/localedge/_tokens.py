"""Shared access signatures: made for callers, checked for the hub.

`SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]`, where the signature is the
HMAC-SHA256 of the encoded resource, a newline and the expiry in seconds since 1970.
Source: "Control access to IoT Hub by using Shared Access Signatures" in the IoT Hub documentation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import quote, unquote

_PREFIX = "SharedAccessSignature "


class TokenError(Exception):
    """A token that is not accepted; the message says why."""


def sign(key: bytes, data: bytes) -> str:
    """Return the HMAC-SHA256 of `data`, base64 encoded."""
    return base64.b64encode(hmac.new(key, data, hashlib.sha256).digest()).decode()


def make_token(resource: str, key: bytes, *, policy: str | None = None, lifetime: float = 3600) -> str:
    """Return a token for `resource` that expires `lifetime` seconds from now."""
    encoded = quote(resource, safe="")
    expiry = int(time.time() + lifetime)
    signature = quote(sign(key, f"{encoded}\n{expiry}".encode()), safe="")
    token = f"{_PREFIX}sr={encoded}&sig={signature}&se={expiry}"
    return token if policy is None else f"{token}&skn={policy}"


def check_token(token: str, resource: str, key: bytes, *, policy: str | None = None) -> None:
    """Raise `TokenError` unless `token` opens `resource`, was signed with `key`, and has not expired."""
    fields = _fields(token)
    if unquote(fields["sr"]).lower() != resource.lower():
        raise TokenError(f"the token is for {unquote(fields['sr'])!r}, not for {resource!r}")
    if policy is not None and fields.get("skn") != policy:
        raise TokenError(f"the token names the policy {fields.get('skn')!r}, not {policy!r}")
    expected = sign(key, f"{fields['sr']}\n{fields['se']}".encode())
    if not hmac.compare_digest(expected.encode(), unquote(fields["sig"]).encode()):
        raise TokenError("the token's signature was not made with this identity's key")
    # After the signature: an expiry that nobody signed says nothing.
    if int(fields["se"]) <= time.time():
        raise TokenError(f"the token expired {time.time() - int(fields['se']):.0f} s ago")


def _fields(token: str) -> dict[str, str]:
    if not token.startswith(_PREFIX):
        raise TokenError("not a shared access signature")
    fields = dict(part.partition("=")[::2] for part in token[len(_PREFIX) :].split("&"))
    missing = [name for name in ("sr", "sig", "se") if not fields.get(name)]
    if missing:
        raise TokenError(f"the token lacks {', '.join(missing)}")
    if not fields["se"].isascii() or not fields["se"].isdigit():
        raise TokenError(f"the token's expiry is not a number: {fields['se']!r}")
    return fields
