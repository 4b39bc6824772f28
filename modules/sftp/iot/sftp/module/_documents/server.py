"""The section of one server, `sftp` or one of `servers`: where it is, who logs in, and with what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from iot.sftp.client import Secret, ServerSettings, TimeLimits, check_pin
from iot.sftp.module._documents.fields import AsWritten, TemplateContext, Text, check_text, template
from iot.sftp.module._documents.template import Placeholders, Template
from iot.sftp.module._documents.validation import Document, Section, explain

if TYPE_CHECKING:
    from pathlib import Path

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
    # No name or address contains one of these; a resolver would only report an unknown name
    if not value.isprintable() or any(char.isspace() for char in value):
        raise PydanticCustomError("host", "must be a name or an address, without spaces and control characters")
    return value


def _host_key(value: str) -> str:
    try:
        return check_pin(value)
    except ValueError as error:
        raise PydanticCustomError("host_key", "cannot be used: {reason}", {"reason": str(error)}) from None


SecretText = Annotated[Secret, PlainValidator(_secret)]
Account = Annotated[Template, template(_account), AsWritten]
Host = Annotated[Text, AfterValidator(_host)]
HostKey = Annotated[Text, AfterValidator(_host_key)]
Seconds = Annotated[float, Field(ge=SECONDS_MINIMUM, le=SECONDS_MAXIMUM, allow_inf_nan=False)]


class ServerSection(Document, alias_generator=to_camel):
    """The section `sftp`."""

    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: Account
    password: SecretText | None = None
    private_key: SecretText | None = None
    passphrase: SecretText | None = None
    host_keys: Annotated[tuple[HostKey, ...], Field(strict=False)] = ()
    root: Account | None = None
    connect_timeout: Seconds = TimeLimits.connect
    stall_timeout: Seconds = TimeLimits.stall
    keep_alive: Annotated[float, Field(ge=0, le=SECONDS_MAXIMUM, allow_inf_nan=False)] = TimeLimits.keep_alive

    @property
    def auth(self) -> str:
        """How it logs in: `password`, `privateKey` or both."""
        used = (("privateKey", self.private_key), ("password", self.password))
        return "+".join(name for name, secret in used if secret is not None)

    @property
    def has_date(self) -> bool:
        """Whether its settings depend on the time."""
        return self.user.has_date or (self.root is not None and self.root.has_date)

    def identity(self) -> list[object]:
        """Return what stands for the account and its root over time, as JSON."""
        return [self.user.identity(), None if self.root is None else self.root.identity()]

    def as_settings(self, known_hosts: Path, unfinished: Path, now: float | None = None) -> ServerSettings:
        """Return the client's settings, with their placeholders filled in.

        Parameters:
            known_hosts: the file for remembered host keys.
            unfinished: the directory for unfinished transfers.
            now: the moment for dates, in seconds since 1970; `None` is this one.

        Raises:
            NotConfigured: a date cannot be filled in, as the clock is not set.
        """
        now = time.time() if now is None else now
        return ServerSettings(
            host=self.host,
            port=self.port,
            user=self.user.fill(now),
            password=self.password,
            private_key=self.private_key,
            passphrase=self.passphrase,
            host_keys=self.host_keys,
            known_hosts=known_hosts,
            root=None if self.root is None else self.root.fill(now),
            time_limits=TimeLimits(self.connect_timeout, self.stall_timeout, self.keep_alive),
            state=unfinished,
        )

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
    if section.password is None and section.private_key is None:
        return Section(error="'password' or 'privateKey' is missing")
    if section.passphrase is not None and section.private_key is None:
        return Section(error="'passphrase' needs a 'privateKey' that it opens")
    return Section(section)
