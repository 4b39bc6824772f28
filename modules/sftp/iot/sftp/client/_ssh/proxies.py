"""The way through a SOCKS or an HTTP proxy: python-socks speaks with it, the bounds and the words are ours."""

from __future__ import annotations

import socket
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from iot.sftp.client._base.errors import AuthenticationFailed, SFTPError, Unreachable
from iot.sftp.client._base.lower_layers import from_lower_layer
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._ssh.dial import DirectDialer, Hop, hop_name, named, sent_name
from iot.sftp.client._ssh.handshake import Stage
from iot.sftp.client._ssh.handshake_failures import LONGEST_WORDS
from iot.sftp.client._ssh.login_backoff import LOGIN_BACKOFF, identity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from iot.sftp.client._base.deadline import Deadline
    from iot.sftp.client._base.settings import Proxy

HTTP = "http"
LONGEST_HEADER = 16 * 1024  # bytes of an answer to CONNECT
ENDS_OF_HEADER = b"\r\n\r\n", b"\n\n", b"\n\r\n"
LONGEST_SOCKS_LOGIN = 255  # bytes of a name or a password (RFC 1929, section 2)
LOGIN_WANTED = {401, 407}  # RFC 9110, sections 15.5.2 and 15.5.8: tinyproxy refuses a wrong login with 401
PASSWORD_METHOD = 2  # RFC 1928, section 3
NOT_ALLOWED = {403, 2}  # HTTP's Forbidden; RFC 1928, section 6


class ProxyDialer:
    """A proxy as a hop, and the way from it to the next hop or to the server."""

    kind = Stage.PROXY.value
    advice = ""

    def __init__(self, proxy: Proxy, host: str, port: int, stall: float) -> None:
        """Take the proxy, and where it leads.

        Parameters:
            proxy: is dialled directly.
            host: of what is behind it.
            port: of what is behind it.
            stall: see `DirectDialer`.
        """
        self.found = self.peer = ""
        self._proxy = proxy
        self._name = hop_name(self.kind, proxy.host, proxy.port)
        self._host, self._port = host, port
        self._target = f"{host} port {port}"
        self._dialer = DirectDialer(proxy.host, proxy.port, stall, self.kind)
        self._socket: socket.socket | None = None
        self._failure: SFTPError | None = None  # of the connection behind the proxy
        self._closed_by: SFTPError | None = None

    @property
    def hops(self) -> Sequence[Hop]:
        """The proxy itself."""
        return (self,)

    def look_up(self, deadline: Deadline) -> list[str]:
        """Resolve the proxy's name."""
        return self._dialer.look_up(deadline)

    def open(self, deadline: Deadline) -> None:
        """Connect to the proxy, log in, and ask it for the connection. Whether it reaches that, `connect` tells.

        Raises:
            AuthenticationFailed: it refuses the login, or wants one.
            Unreachable: it does not answer, or not as a proxy of this kind.
        """
        if self._socket is not None:
            return
        login = self._login()
        with self._backoff(login, deadline):
            self._socket = connection = self._dialer.connect(deadline)
            try:
                self._failure = self._closed_by or self._request(connection, login, deadline)
            except BaseException:
                self._socket = None
                connection.close()
                raise
        self.found = f"{self._name} ({self._dialer.peer}) answers"

    def connect(self, deadline: Deadline) -> socket.socket:
        """Return the connection that the proxy has made.

        Raises:
            Unreachable: the proxy forbids it, or does not reach what is behind it.
        """
        if self._socket is None:
            self.open(deadline)
        connection, self._socket = self._socket, None
        assert connection is not None  # noqa: S101 - it is open
        failure = self._closed_by or self._failure
        if failure is not None:
            connection.close()
            raise failure
        self.peer = f"{self._target}, through {self._name},"
        return connection

    def close(self, reason: SFTPError) -> None:
        """End a connection that is not in use, and a request that is under way."""
        self._closed_by = self._closed_by or reason
        if (connection := self._socket) is not None:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for an answer
            connection.close()

    # --- the login ---

    def _login(self) -> tuple[str, str] | None:
        """Return user and password.

        Raises:
            AuthenticationFailed: they cannot be read, or sent.
        """
        if self._proxy.user is None or self._proxy.password is None:
            return None
        try:
            login = self._proxy.user, self._proxy.password.read()
        except AuthenticationFailed as error:
            raise named(error, self._name) from None
        wanted = ""
        if self._proxy.scheme == HTTP:
            if ":" in login[0] or not all(ord(char) < 256 for char in "".join(login)):  # noqa: PLR2004 - Latin-1
                wanted = "user and password at an HTTP proxy have no characters beyond Latin-1, and the user no colon"
        elif not all(text.isascii() and 0 < len(text) <= LONGEST_SOCKS_LOGIN for text in login):
            wanted = f"user and password at a SOCKS proxy have 1 to {LONGEST_SOCKS_LOGIN} characters of ASCII"
        if wanted:
            message = f"{self._name}: {wanted}"
            raise AuthenticationFailed(message)
        return login

    def _backoff(self, login: tuple[str, str] | None, deadline: Deadline) -> AbstractContextManager[None]:
        if login is None:
            return nullcontext()
        return LOGIN_BACKOFF.login(identity(self._name, *login), deadline)

    # --- the request ---

    def _request(
        self, connection: socket.socket, login: tuple[str, str] | None, deadline: Deadline
    ) -> SFTPError | None:
        """Ask for the connection; return why there is none if the cause is behind the proxy."""
        # Only who has a proxy loads it
        from python_socks import ProxyError, ProxyType  # noqa: PLC0415 - see above
        from python_socks.sync import Proxy as Requester  # noqa: PLC0415 - see above

        spoken = ProxyType.HTTP if self._proxy.scheme == HTTP else ProxyType.SOCKS5
        conversation = _Conversation(connection, deadline, is_http=spoken is ProxyType.HTTP)
        user, password = login or (None, None)
        forward: Any = conversation
        requester = Requester(spoken, self._proxy.host, self._proxy.port, user, password, forward=forward)
        try:
            requester.connect(sent_name(self._host, self._name), self._port)
        except ProxyError as error:
            said = excerpt(str(error), LONGEST_WORDS)
            return self._refusal(conversation, error.error_code, said, has_login=login is not None)
        except TimeoutError:
            return self._no_answer(conversation)
        except SFTPError:
            raise
        except OSError as error:
            raise self._closed_by or named(Unreachable(from_lower_layer(error).message), self._name) from error
        except Exception as error:  # python-socks checks little of what it parses
            raise self._not_a_proxy("with something that cannot be read") from error
        return None

    def _no_answer(self, conversation: _Conversation) -> SFTPError:
        if conversation.has_asked:
            return Unreachable(f"{self._name}: it did not say in time whether it reaches {self._target}")
        message = f"{self._name}: it did not answer in time"
        raise Unreachable(message)

    def _refusal(self, conversation: _Conversation, code: int | None, said: str, *, has_login: bool) -> SFTPError:
        """Return why the proxy does not reach what is behind it; raise what is wrong with the proxy itself."""
        if code in LOGIN_WANTED or (code is None and conversation.is_about_login):
            what = "refuses the login" if has_login else "wants a login: set user and password"
            message = f"{self._name}: it {what} (it said {said!r})"
            raise AuthenticationFailed(message)
        if code is None:
            if conversation.has_ended:
                message = f"{self._name}: it closed the connection without an answer"
                raise Unreachable(message)
            raise self._not_a_proxy(f"wrongly ({said})")
        if code in NOT_ALLOWED:
            return Unreachable(f"{self._name}: it forbids connections to {self._target} (it said {said!r})")
        return Unreachable(
            f"{self._name}: it cannot connect to {self._target} (it said {said!r}). It resolves that name itself"
        )

    def _not_a_proxy(self, how: str) -> SFTPError:
        kind = "an HTTP" if self._proxy.scheme == HTTP else "a SOCKS"
        return Unreachable(f"{self._name}: it answered {how}. Is this {kind} proxy, and its url right?")


class _Conversation:
    """A connection to a proxy as python-socks uses it: with one time limit for all of it, and bounded answers.

    It is what the requester calls its forward proxy, so that the socket is ours.

    Attributes:
        has_ended: whether the proxy has closed the connection.
    """

    def __init__(self, connection: socket.socket, deadline: Deadline, *, is_http: bool) -> None:
        self.has_ended = False
        self._connection = connection
        self._deadline = deadline
        self._is_http = is_http
        self._sent = 0  # messages
        self._method = -1  # of the login, that a SOCKS proxy has chosen
        self._answer = b""  # to the last message

    @property
    def has_asked(self) -> bool:
        """Whether the request for the connection was sent."""
        return self._is_http or self._sent > (2 if self._method == PASSWORD_METHOD else 1)

    @property
    def is_about_login(self) -> bool:
        """Whether a SOCKS proxy has refused the methods of a login, or the login (RFC 1928, 3; RFC 1929, 2)."""
        if self._is_http or self.has_ended or self.has_asked:
            return False
        return self._answer[:1] == (b"\5" if self._sent == 1 else b"\1")

    def connect(self, **_: object) -> _Conversation:
        """Return the connection, as a proxy before this one would."""
        return self

    def sendall(self, data: bytes) -> None:
        """Send a message."""
        self._limit()
        self._connection.sendall(data)
        self._sent, self._answer = self._sent + 1, b""

    def recv(self, size: int) -> bytes:
        """Receive so many bytes at most; of an HTTP proxy, all of its answer, and nothing of what follows it."""
        if not self._is_http:
            data = self._receive(size)
            self._answer += data
            if self._sent == 1 and len(self._answer) == 2:  # noqa: PLR2004 - version and method
                self._method = self._answer[1]
            return data
        header = bytearray()
        while not header.endswith(ENDS_OF_HEADER):
            if len(header) == LONGEST_HEADER:
                message = f"the answer has more than {LONGEST_HEADER} bytes"
                raise ValueError(message)
            byte = self._receive(1)
            if not byte:
                return b""
            header += byte
        return bytes(header)

    def close(self) -> None:
        """Do nothing: whoever has opened the connection closes it."""

    def _receive(self, size: int) -> bytes:
        self._limit()
        data = self._connection.recv(size)
        self.has_ended = not data
        return data

    def _limit(self) -> None:
        if not (left := self._deadline.remaining()):
            raise TimeoutError
        self._connection.settimeout(left)
