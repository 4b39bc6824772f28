"""The section of one server, `sftp` or one of `servers`: where it is, who logs in, and with what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from iot.sftp.client import Jump, Proxy, Secret, ServerSettings, TimeLimits, check_pin, check_private_key
from iot.sftp.client._base.settings import why_no_host
from iot.sftp.module._documents.fields import AsWritten, TemplateContext, Text, WholeNumber, check_text, template
from iot.sftp.module._documents.template import Placeholders, Template
from iot.sftp.module._documents.validation import Document, Section, explain

if TYPE_CHECKING:
    from pathlib import Path

JUMPS_MAXIMUM = 3
SECONDS_MINIMUM, SECONDS_MAXIMUM = 0.001, 86_400  # the bounds of the client's `TimeLimits`


def _secret(value: object) -> Secret:
    # One fixed sentence: the message must not quote any part of what may be a secret
    if isinstance(value, str) and value:
        return Secret(value)
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return Secret("\n".join(value))
    if isinstance(value, dict) and {"file", "env"} <= value.keys():
        message = 'has both "file" and "env": set one of them to null, which removes it from the twin'
        raise PydanticCustomError("secret", message)
    if isinstance(value, dict) and len(value) == 1:
        ((kind, place),) = value.items()
        if isinstance(place, str) and place and "\0" not in place:
            if kind == "file" and place.startswith("/"):
                return Secret.from_file(place)
            if kind == "env" and "=" not in place:
                return Secret.from_environment(place)
    message = 'must be a string, a list of strings, {"file": "/…"} or {"env": "…"}, and not empty'
    raise PydanticCustomError("secret", message)


def _account(value: object) -> str:
    text = check_text(value)
    if "\0" in text or text != text.strip():
        raise PydanticCustomError("name", "must not contain a NUL character, nor begin or end with a space")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("encodable", "must not contain lone surrogates") from None
    return text


def _host(value: str) -> str:
    reason = why_no_host(value)  # a resolver would only report an unknown name
    if reason is not None:
        raise PydanticCustomError("host", "{reason}", {"reason": reason})
    return value


def _host_key(value: str) -> str:
    try:
        return check_pin(value)
    except ValueError as error:
        raise PydanticCustomError("host_key", "cannot be used: {reason}", {"reason": str(error)}) from None


class GeneratedKey:
    """Stands for a private key that the device makes itself: `{"generate": "ed25519"}`."""


GENERATED = GeneratedKey()


def _private_key(value: object) -> Secret | GeneratedKey:
    if isinstance(value, dict) and "generate" in value:
        if value == {"generate": "ed25519"}:
            return GENERATED
        raise PydanticCustomError("generate", 'must be {"generate": "ed25519"} for a key that the device makes')
    return _secret(value)


SecretText = Annotated[Secret, PlainValidator(_secret)]
PrivateKey = Annotated[Secret | GeneratedKey, PlainValidator(_private_key)]
Account = Annotated[Template, template(_account), AsWritten]
Host = Annotated[Text, AfterValidator(_host)]
HostKey = Annotated[Text, AfterValidator(_host_key)]
Seconds = Annotated[float, Field(ge=SECONDS_MINIMUM, le=SECONDS_MAXIMUM, allow_inf_nan=False)]


def _proxy_url(value: object) -> str:
    text = check_text(value)
    try:
        return Proxy(text).url
    except ValueError as error:
        raise PydanticCustomError("proxy", "cannot be used: {reason}", {"reason": str(error)}) from None


def _listed(value: object) -> object:
    """Return a list of jump hosts, of which one may be written without a list."""
    if value is None:
        return []
    return [value] if isinstance(value, dict) else value


class ProxySection(Document, alias_generator=to_camel):
    """A proxy on the way to a server."""

    url: Annotated[str, PlainValidator(_proxy_url)]
    user: Account | None = None
    password: SecretText | None = None

    def as_settings(self, now: float) -> Proxy:
        """Return the client's settings."""
        return Proxy(self.url, None if self.user is None else self.user.fill(now), self.password)


class LoginSection(Document, alias_generator=to_camel):
    """An SSH server: where it is, who logs in, and with what."""

    host: Host
    port: Annotated[int, Field(ge=1, le=65535), WholeNumber] = 22
    user: Account
    password: SecretText | None = None
    private_key: PrivateKey | None = None
    passphrase: SecretText | None = None
    host_keys: Annotated[tuple[HostKey, ...], Field(strict=False)] = ()

    @property
    def auth(self) -> str:
        """How it logs in: `password`, `privateKey` or both."""
        used = (("privateKey", self.private_key), ("password", self.password))
        return "+".join(name for name, secret in used if secret is not None)

    def problem(self, place: str = "") -> str | None:
        """Return what is wrong with the credentials together; their keys are in `place`."""
        if self.password is None and self.private_key is None:
            return f"'{place}password' or '{place}privateKey' is missing"
        if self.passphrase is not None and self.private_key is None:
            return f"'{place}passphrase' needs a '{place}privateKey' that it opens"
        if isinstance(self.private_key, Secret):
            try:
                check_private_key(self.private_key, self.passphrase)
            except ValueError as error:
                return f"'{place}privateKey': {error}"
        return None


class JumpSection(LoginSection):
    """An SSH server on the way to a server."""

    def problem(self, place: str = "") -> str | None:
        """Return what is wrong with the credentials together; their keys are in `place`."""
        if self.private_key is GENERATED:
            return f"'{place}privateKey': a key that the device makes is for a server, not for a jump host"
        return super().problem(place)

    def as_settings(self, now: float) -> Jump:
        """Return the client's settings."""
        assert not isinstance(self.private_key, GeneratedKey)  # noqa: S101 - see `problem`
        return Jump(
            host=self.host,
            port=self.port,
            user=self.user.fill(now),
            password=self.password,
            private_key=self.private_key,
            passphrase=self.passphrase,
            host_keys=self.host_keys,
        )


class OwnKey(Protocol):
    """The private key that a device has made for a server."""

    current: Secret
    following: Secret  # which takes its place; its file may not exist


class ServerSection(LoginSection):
    """The section `sftp`."""

    root: Account | None = None
    connect_timeout: Seconds = TimeLimits.connect
    stall_timeout: Seconds = TimeLimits.stall
    keep_alive: Annotated[float, Field(ge=0, le=SECONDS_MAXIMUM, allow_inf_nan=False)] = TimeLimits.keep_alive
    proxy: ProxySection | None = None
    jump: Annotated[
        tuple[JumpSection, ...], BeforeValidator(_listed), Field(strict=False, max_length=JUMPS_MAXIMUM)
    ] = ()

    @property
    def has_date(self) -> bool:
        """Whether its settings depend on the time."""
        users = [self.user, self.root, self.proxy.user if self.proxy else None, *(hop.user for hop in self.jump)]
        return any(text is not None and text.has_date for text in users)

    @property
    def generates_key(self) -> bool:
        """Whether the device makes its private key itself."""
        return self.private_key is GENERATED

    def problem(self, place: str = "") -> str | None:
        """Return what is wrong with the credentials, its own and those of the way to it."""
        if self.proxy is not None and (self.proxy.user is None) != (self.proxy.password is None):
            return "'proxy.user' and 'proxy.password' belong together: one of them is missing"
        if self.generates_key and self.passphrase is not None:
            return "'passphrase': a key that the device makes has none"
        return next(
            (problem for number, hop in enumerate(self.jump) if (problem := hop.problem(f"jump.{number}."))),
            super().problem(place),
        )

    def identity(self) -> list[object]:
        """Return what stands for the account and its root over time, as JSON."""
        return [self.user.identity(), None if self.root is None else self.root.identity()]

    def as_settings(
        self, known_hosts: Path, unfinished: Path, now: float | None = None, key: OwnKey | None = None
    ) -> ServerSettings:
        """Return the client's settings, with their placeholders filled in.

        Parameters:
            known_hosts: the file for remembered host keys.
            unfinished: the directory for unfinished transfers.
            now: the moment for dates, in seconds since 1970; `None` is this one.
            key: the files of the device's own key, where it makes one.

        Raises:
            NotConfigured: a date cannot be filled in, as the clock is not set.
        """
        now = time.time() if now is None else now
        return ServerSettings(
            host=self.host,
            port=self.port,
            user=self.user.fill(now),
            password=self.password,
            private_key=self._key_with(key),
            passphrase=self.passphrase,
            host_keys=self.host_keys,
            known_hosts=known_hosts,
            root=None if self.root is None else self.root.fill(now),
            time_limits=TimeLimits(self.connect_timeout, self.stall_timeout, self.keep_alive),
            state=unfinished,
            proxy=None if self.proxy is None else self.proxy.as_settings(now),
            jumps=tuple(hop.as_settings(now) for hop in self.jump),
            next_private_key=key.following if self.generates_key and key is not None else None,
        )

    def _key_with(self, key: OwnKey | None) -> Secret | None:
        if isinstance(self.private_key, GeneratedKey):
            assert key is not None  # noqa: S101 - who reads such a section has the key
            return key.current
        return self.private_key

    def as_properties(self) -> dict[str, Any]:
        """Return what is reported: nothing secret."""
        user = self.user.fill() if self.user.is_fixed else str(self.user)
        return {"host": self.host, "port": self.port, "user": user, "auth": self.auth}


def read_server(content: Any, name: str, placeholders: Placeholders) -> Section[ServerSection]:
    """Read the section of one server; what is wrong with it is reported in the section. Never raises.

    Parameters:
        content: any JSON value; `None` if the section is missing.
        name: the server's.
        placeholders: those in force.
    """
    if content is None:
        return Section()
    try:
        section = ServerSection.model_validate(content, context=TemplateContext(placeholders, name))
    except ValidationError as error:
        return Section(error=explain(error, ServerSection, whole=name))
    problem = section.problem()
    return Section(section) if problem is None else Section(error=problem)
