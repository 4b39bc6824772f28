"""The algorithms that are offered to a server, best first: ciphers, MACs, key exchanges, types of host keys.

This is the file to edit when an algorithm is to be allowed or forbidden. What paramiko does not implement itself is
added in `paramiko_internals/transport.py`. The lists follow OpenSSH's defaults, without anything that relies on SHA-1,
MD5, CBC or 3DES to protect a connection.
"""

from __future__ import annotations

CHACHA20_POLY1305 = "chacha20-poly1305@openssh.com"

# AES-GCM first: it is the fastest, and encrypts and authenticates in one pass. CBC modes and 3DES are not offered.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    CHACHA20_POLY1305,
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)

# For the CTR ciphers only: the others authenticate by themselves. Encrypt-then-MAC first; MD5 and truncated MACs are
# not offered. HMAC-SHA1 has no known weakness (RFC 6194, section 3.3), and old servers have nothing else.
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha1",
)

# The hybrid with ML-KEM resists quantum computers. The next two are one algorithm: RFC 8731's name, and the older one.
KEY_EXCHANGES = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
)

# RFC 8332: what an RSA key (type `ssh-rsa`) signs with; SHA-1 signatures are neither accepted nor made.
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256")

HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    *RSA_SIGNATURES,
)

# Asked for only where a certificate authority is known for the host (OpenSSH's PROTOCOL.certkeys).
CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"
HOST_CERTIFICATE_TYPES = tuple(name + CERTIFICATE_SUFFIX for name in HOST_KEY_TYPES)

# Parts of names that mark an algorithm as outdated, for messages: a server that offers nothing else needs an update.
OUTDATED = ("cbc", "3des", "arcfour", "blowfish", "cast128", "ssh-rsa", "ssh-dss", "-sha1", "-md5", "hmac-ripemd")
