"""Map what the layers below raise to an error: paramiko, pysftp, cryptography, sockets.

No exception of theirs reaches a caller: each becomes an `SFTPError` here.
"""

from __future__ import annotations

import errno
import socket
import struct

import paramiko
from cryptography import exceptions as cryptography_exceptions
from paramiko.ber import BERException
from paramiko.buffered_pipe import PipeTimeout
from paramiko.hostkeys import InvalidHostKey
from paramiko.packet import NeedRekeyException
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import (
    BadHostKeyException,
    ConfigParseError,
    CouldNotCanonicalize,
    IncompatiblePeer,
    MessageOrderError,
    NoValidConnectionsError,
    PartialAuthentication,
    PasswordRequiredException,
    UnableToAuthenticate,
)

from iot.sftp.client._base.errors import (
    AuthenticationFailed,
    ConnectionLost,
    HostKeyMismatch,
    Internal,
    InvalidRequest,
    LocalBusy,
    SFTPError,
    Unreachable,
    Unsupported,
)
from iot.sftp.client._base.messages import KEY_IS_ENCRYPTED, NO_THREAD_LEFT
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._base.pysftp import pysftp
from iot.sftp.client._base.text import excerpt

# The most specific class first. `from_lower_layer` takes the first that fits.
LOWER_LAYER_REASONS: tuple[tuple[type[BaseException], type[SFTPError], str], ...] = (
    (PasswordRequiredException, AuthenticationFailed, KEY_IS_ENCRYPTED),
    (paramiko.BadAuthenticationType, AuthenticationFailed, "the server does not accept this kind of credential"),
    (PartialAuthentication, AuthenticationFailed, "the server wants a further credential after this one"),
    (UnableToAuthenticate, AuthenticationFailed, "the server refused the credential"),
    (paramiko.AuthenticationException, AuthenticationFailed, "the server refused the credential"),
    (UnknownKeyType, AuthenticationFailed, "the private key is of a type that cannot be used"),
    (BadHostKeyException, HostKeyMismatch, "the server's key is not the known one"),
    (BERException, AuthenticationFailed, "the private key is not readable"),
    (InvalidHostKey, HostKeyMismatch, "a host key is not readable"),
    (IncompatiblePeer, Unsupported, "the server and this client have no algorithm in common"),
    (paramiko.ChannelException, Unsupported, "the server refused to open a channel for SFTP"),
    (MessageOrderError, ConnectionLost, "the server broke the order of the key exchange"),
    (paramiko.ProxyCommandFailure, Unreachable, "the proxy command failed"),
    (CouldNotCanonicalize, Unreachable, "the host's name is not known"),
    (ConfigParseError, InvalidRequest, "an SSH configuration file is not readable"),
    (pysftp.ConnectionException, Unreachable, "there is no connection to the server"),
    (pysftp.CredentialException, AuthenticationFailed, "the credential is not usable"),
    (pysftp.HostKeysException, HostKeyMismatch, "the known host keys are not readable"),
    (paramiko.SFTPError, ConnectionLost, "the server's answer was not SFTP"),
    (NeedRekeyException, ConnectionLost, "the session ended in a key exchange"),
    (paramiko.SSHException, ConnectionLost, "the SSH session broke"),
    (cryptography_exceptions.InvalidTag, ConnectionLost, "a packet was damaged on its way"),
    (cryptography_exceptions.InvalidSignature, ConnectionLost, "the server's signature is wrong"),
    (cryptography_exceptions.UnsupportedAlgorithm, Unsupported, "an algorithm is not available on this machine"),
    (cryptography_exceptions.InvalidKey, AuthenticationFailed, "the private key is not usable"),
    (cryptography_exceptions.AlreadyFinalized, Internal, "the encryption was used after its end"),
    (cryptography_exceptions.NotYetFinalized, Internal, "the encryption was used before its end"),
    (cryptography_exceptions.AlreadyUpdated, Internal, "the encryption was used twice"),
    (cryptography_exceptions.InternalError, Internal, "the cryptography library failed"),
    (socket.gaierror, Unreachable, "the host's name is not known: check the name and the DNS servers"),
    (socket.herror, Unreachable, "the host's address is not known"),
    (NoValidConnectionsError, Unreachable, "no address of the host accepts connections"),
    (PipeTimeout, Unreachable, "the server did not answer in time"),
    (TimeoutError, Unreachable, "the server did not answer in time"),
    (ConnectionRefusedError, Unreachable, "nothing accepts connections there: check host and port"),
    (ConnectionResetError, ConnectionLost, "the server or a firewall reset the connection"),
    (ConnectionAbortedError, ConnectionLost, "the connection was aborted"),
    (BrokenPipeError, ConnectionLost, "the server closed the connection"),
    (EOFError, ConnectionLost, "the server closed the connection"),
    (struct.error, ConnectionLost, "the server's answer was not SFTP"),
    (MemoryError, LocalBusy, "this process has no memory left at the moment"),
)

NETWORK_ERRORS = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL, errno.ETIMEDOUT},
)


def from_lower_layer(error: BaseException, path: str | None = None) -> SFTPError:
    """Return the error for any exception of paramiko, pysftp, a socket or the local file system.

    What is not known here is a bug of this library: `Internal`.
    """
    if isinstance(error, SFTPError):
        return error
    for lower, reason, message in LOWER_LAYER_REASONS:
        if isinstance(error, lower):
            return reason(_with_words(message, error), path=path)
    if isinstance(error, RuntimeError) and "start new thread" in str(error):  # CPython has no class for it
        return LocalBusy(NO_THREAD_LEFT, path=path)
    if isinstance(error, OSError):
        if error.errno in NETWORK_ERRORS:
            return Unreachable(_with_words("there is no route to the host", error), path=path)
        return from_os_error(error, path)
    return Internal(f"internal error of the client ({type(error).__name__}): please report it with the log", path=path)


def _with_words(message: str, error: BaseException) -> str:
    """Add the lower layer's own words, which never hold a credential, where they say more than the class."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{message} ({excerpt(words)})" if words and not isinstance(error, struct.error) else message
