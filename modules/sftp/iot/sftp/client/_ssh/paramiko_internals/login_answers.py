"""The server's answers to a login, in the place of paramiko's `AuthHandler`."""

from __future__ import annotations

import queue
import weakref
from functools import partial
from typing import TYPE_CHECKING, Protocol

from paramiko.common import (
    MSG_EXT_INFO,
    MSG_NAMES,
    MSG_SERVICE_ACCEPT,
    MSG_UNIMPLEMENTED,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_SUCCESS,
    cMSG_SERVICE_REQUEST,
    cMSG_UNIMPLEMENTED,
)
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from iot.sftp.client._base.deadline import GLANCE
from iot.sftp.client._base.errors import AuthenticationFailed, ConnectionLost, ServerBusy, SFTPError, Unsupported
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.handshake_failures import LONGEST_WORDS
from iot.sftp.client._ssh.login_backoff import UnansweredLogin
from iot.sftp.client._ssh.packets import string
from iot.sftp.client._ssh.server_traits import OPENSSH

if TYPE_CHECKING:
    import logging

    from iot.sftp.client._base.deadline import Deadline

LOGIN_ANSWERS = (MSG_UNIMPLEMENTED, MSG_SERVICE_ACCEPT, *range(51, 80))  # message types (RFC 4250, section 4.1.2)


class LoginTransport(Protocol):
    """What the answers to a login need of the transport."""

    deadline: Deadline
    farewell: str | None
    remote_version: str
    logger: logging.Logger
    server_extensions: dict[str, bytes]
    session_id: bytes | None

    def is_active(self) -> bool:
        """Return whether the connection has not ended."""

    def _send_message(self, data: Message) -> None:
        """Send a message at once."""

    def _send_user_message(self, data: Message) -> None:
        """Send a message, once no keys are being exchanged."""

    def parting(self) -> ConnectionLost | None:
        """Return an error with what the server said when it ended the connection."""


class LoginAnswers:
    """Replaces paramiko's AuthHandler: passes what the server answers to a login to the thread that logs in.

    paramiko's own sends a SERVICE_REQUEST with each method, and ends the connection at answers that it does not know.
    Messages of types that paramiko does not know are answered here too (RFC 4253, section 11.4).
    """

    def __init__(self, transport: LoginTransport) -> None:
        """Answer for this connection."""
        self._transport: LoginTransport = weakref.proxy(transport)
        self._answers: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
        self._has_sent_credential = self._is_authenticated = False
        self._is_service_due = self._has_extensions = False
        self._due = 0  # answers that are expected
        self.banner = ""  # the server's text since a credential was sent
        unknown_types = {kind: partial(self._refuse, kind) for kind in range(256) if kind not in MSG_NAMES}
        self._handler_table = unknown_types | {kind: partial(self._receive, kind) for kind in LOGIN_ANSWERS}

    @property
    def session_id(self) -> bytes:
        """The identifier of the session, to which every signature is bound."""
        return bytes(self._transport.session_id or b"")

    @property
    def signature_algorithms(self) -> tuple[str, ...] | None:
        """The signature algorithms that the server accepts (`server-sig-algs`, RFC 8308), if it announced them."""
        announced: bytes | None = self._transport.server_extensions.get("server-sig-algs")
        return None if announced is None else tuple(announced.decode("utf-8", "replace").split(","))

    def is_authenticated(self) -> bool:
        """Return whether the server has accepted the login."""
        return self._is_authenticated

    def get_username(self) -> str | None:
        """Return nothing: paramiko asks for it."""
        return None

    def abort(self) -> None:
        """Do nothing: the thread that waits checks whether the connection has ended."""

    def request_service(self) -> None:
        """Request the authentication service (RFC 4253, section 10), once for a connection.

        OpenSSH's acceptance is not waited for once its extensions are there, which it sends before: what is asked next
        is answered behind that one, a round trip sooner.

        Raises:
            ConnectionLost: the connection ended.
            Unsupported: the server does not offer logins.
        """
        self._send(cMSG_SERVICE_REQUEST + string(b"ssh-userauth"), has_credential=False)
        self._is_service_due = True
        if OPENSSH not in self._transport.remote_version or not self._await_extensions():
            self._await_service()

    def note_extensions(self) -> None:
        """Record that the server's extensions are there (RFC 8308), in paramiko's thread."""
        if not self._has_extensions:  # they may come again, behind the login
            self._has_extensions = True
            self._answers.put((MSG_EXT_INFO, b""))

    def _await_extensions(self) -> bool:
        """Wait until the server's extensions are there; return `False` if it has sent another answer sooner."""
        kind, _ = self._next()
        if kind != MSG_EXT_INFO:
            self._check_service(kind)
        return kind == MSG_EXT_INFO

    def _await_service(self) -> None:
        if self._is_service_due:
            self._check_service(self._next_but_extensions()[0])

    def _check_service(self, kind: int) -> None:
        self._is_service_due = False
        if kind != MSG_SERVICE_ACCEPT:
            message = f"the server answered the request to log in with a message (type {kind}) that is no answer to it"
            raise Unsupported(message)

    def ask(self, message: bytes, *, has_credential: bool) -> tuple[int, bytes]:
        """Send a message, and return the type and the fields of the answer.

        Parameters:
            message: its type and its fields.
            has_credential: whether it contains a credential.

        Raises:
            ConnectionLost: the connection ended, or the server did not answer in time; `UnansweredLogin` if this may
                be its way to refuse a credential.
            AuthenticationFailed: the server refused, and ended the connection.
        """
        self._send(message, has_credential=has_credential)
        self._await_service()
        return self._next_but_extensions()

    def _send(self, message: bytes, *, has_credential: bool) -> None:
        transport, packet = self._transport, Message()
        packet.add_bytes(message)
        self._has_sent_credential |= has_credential
        self._due += 1
        try:
            # Never between the messages of a key exchange, which a server may begin at any time
            transport._send_user_message(packet)  # noqa: SLF001 - this is the place
        except (OSError, EOFError, ValueError, SSHException) as error:
            raise self._reason_of_end() from error

    def _next_but_extensions(self) -> tuple[int, bytes]:
        """Return the next answer, whether or not the extensions come in front of it."""
        answer = self._next()
        return self._next() if answer[0] == MSG_EXT_INFO else answer

    def _next(self) -> tuple[int, bytes]:
        transport = self._transport
        while True:
            try:
                return self._answers.get(timeout=transport.deadline.wait_at_most(GLANCE))
            except queue.Empty:
                if not transport.is_active() and self._answers.empty():
                    raise self._reason_of_end() from None
                if not transport.deadline.remaining():
                    raise self._unanswered("the server did not answer the login in time") from None

    def _receive(self, kind: int, message: Message) -> None:
        """Receive a message, in paramiko's thread."""
        fields = message.asbytes()
        if kind == MSG_USERAUTH_BANNER and self._has_sent_credential:
            self.banner = excerpt(Message(fields).get_binary().decode("utf-8", "replace"), LONGEST_WORDS)
        if kind == MSG_USERAUTH_BANNER or not self._due or self._is_authenticated:
            return
        self._due -= 1
        self._is_authenticated = kind == MSG_USERAUTH_SUCCESS
        self._answers.put((kind, fields))

    def _refuse(self, kind: int, message: Message) -> None:
        self._transport.logger.debug("the server sent a message of the unknown type %d", kind)
        reply = Message()
        reply.add_byte(cMSG_UNIMPLEMENTED)
        reply.add_int(message.seqno)
        self._transport._send_message(reply)  # noqa: SLF001 - this is the place

    def _reason_of_end(self) -> SFTPError:
        parting = self._transport.parting()
        if parting is None:
            return self._unanswered("the connection broke during the login")
        if self._has_sent_credential and not isinstance(parting, ServerBusy):
            return AuthenticationFailed(f"the server refused the login and said: {self._transport.farewell}")
        return parting

    def _unanswered(self, message: str) -> ConnectionLost:
        return UnansweredLogin(message) if self._has_sent_credential else ConnectionLost(message)
