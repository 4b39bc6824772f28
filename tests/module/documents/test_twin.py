"""A desired document is read whole; what is wrong in it is told in its author's words, never with a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.client import Secret, TimeLimits
from iot.sftp.module._documents.server import ServerSection
from iot.sftp.module._documents.twin import EventsSection, TransfersSection, read_desired
from iot.sftp.module._documents.validation import Section

SERVER = {"host": "sftp.example.com", "user": "device-42", "password": "hunter2"}
PIN = "SHA256:" + "A" * 43


def server_of(**content: Any) -> ServerSection:
    section = read_desired({"sftp": SERVER | content}).sftp
    assert section.error is None
    assert section.value is not None
    return section.value


def error_of(**content: Any) -> str:
    section = read_desired({"sftp": SERVER | content}).sftp
    assert section.value is None
    assert section.error is not None
    return section.error


def test_every_key_of_the_section_becomes_a_setting_of_the_client() -> None:
    formats = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    key = Ed25519PrivateKey.generate().private_bytes(*formats).decode().strip()
    section = server_of(
        port=2222,
        privateKey=key.splitlines(),
        passphrase={"env": "PASSPHRASE"},
        hostKeys=[PIN],
        root="/upload",
        connectTimeout=5,
        stallTimeout=7.5,
        keepAlive=0,
    )
    settings = section.as_settings(Path("/state/known_hosts"), Path("/state/transfers"))
    assert (settings.host, settings.port, settings.user) == ("sftp.example.com", 2222, "device-42")
    assert settings.password == Secret("hunter2")
    assert settings.private_key == Secret(key)
    assert settings.passphrase == Secret.from_environment("PASSPHRASE")
    assert settings.host_keys == (PIN,)
    assert settings.known_hosts == Path("/state/known_hosts")
    assert settings.root == "/upload"
    assert settings.time_limits == TimeLimits(5, 7.5, 0)


def test_what_is_not_given_has_a_default() -> None:
    settings = server_of().as_settings(Path("k"), Path("t"))
    assert (settings.port, settings.host_keys, settings.root, settings.time_limits) == (22, (), None, TimeLimits())


def test_a_secret_may_be_in_a_file() -> None:
    assert server_of(password={"file": "/run/secrets/p"}).password == Secret.from_file("/run/secrets/p")


@pytest.mark.parametrize(
    "secret",
    [
        "",
        [],
        {},
        5,
        True,
        ["a", 1],
        {"file": ""},
        {"file": 5},
        {"hunter3": "x"},
        {"hunter3": "/x"},
        {"dir": "/x"},
        {"file": "/x", "hunter3": "x"},
        {"file": "relative"},
        {"dir": "x"},
    ],
)
@pytest.mark.parametrize("key", ["password", "privateKey", "passphrase"])
def test_a_secret_of_another_form_is_refused_without_repeating_it(key: str, secret: Any) -> None:
    message = error_of(**{key: secret})
    assert message.startswith(f"'{key}' must be a string, a list of strings, {{\"file\"")
    assert "hunter" not in message


def test_a_secret_with_two_sources_after_a_patch_is_refused() -> None:
    message = error_of(password={"file": "/run/secrets/hunter2", "env": "HUNTER"})
    assert message.startswith('\'password\' has both "file" and "env"')
    assert "hunter" not in message.lower()


@pytest.mark.parametrize(
    "content, message",
    [
        ({"host": ""}, "'host' must not be empty"),
        ({"host": 5}, "'host' must be a string"),
        ({"host": " a"}, "'host' must be a name or an address, without spaces"),
        ({"host": "a b"}, "'host' must be a name or an address, without spaces"),
        ({"host": "sftp://a"}, "'host' must be a name or an address alone: no URL"),
        ({"host": "sftp://u:a secret@a"}, "'host' must be a name or an address alone: no URL, no user and no port"),
        ({"host": "u:secret:22"}, "'host' must be a name or an address alone: no URL, no user and no port"),
        ({"host": "u@a"}, "'host' must be a name or an address alone: no URL, no user"),
        ({"host": "a:22"}, "'host' must be a name or an address alone: no URL, no user and no port"),
        ({"host": "a\nb"}, "'host' must be a name or an address, without spaces and control characters"),
        ({"user": "a\0"}, "'user' must not contain a NUL character, nor begin or end with a space"),
        ({"user": " a"}, "'user' must not contain a NUL character, nor begin or end with a space"),
        ({"user": "a "}, "'user' must not contain a NUL character, nor begin or end with a space"),
        ({"user": "\ud800"}, "'user' must not contain lone surrogates"),
        ({"root": "/\ud800"}, "'root' must not contain lone surrogates"),
        ({"port": "22"}, "'port' must be a whole number"),
        ({"port": 0}, "'port' must be greater than or equal to 1"),
        ({"port": 65536}, "'port' must be less than or equal to 65535"),
        ({"port": True}, "'port' must be a whole number"),
        ({"hostKeys": PIN}, "'hostKeys' must be a list"),
        ({"hostKeys": [PIN, "md5:00"]}, "'hostKeys.1' cannot be used: a host key is 'SHA256:'"),
        ({"connectTimeout": 0}, "'connectTimeout' must be greater than or equal to 0.001"),
        ({"stallTimeout": 0.0005}, "'stallTimeout' must be greater than or equal to 0.001"),
        ({"stallTimeout": 86_401}, "'stallTimeout' must be less than or equal to 86400"),
        ({"stallTimeout": "30"}, "'stallTimeout' must be a number"),
        ({"keepAlive": -1}, "'keepAlive' must be greater than or equal to 0"),
        ({"private_key": "x"}, "'private_key' is not known here; known are: connectTimeout, host, hostKeys"),
        ({"password": None}, "'password' or 'privateKey' is missing"),
        ({"passphrase": "x"}, "'passphrase' needs a 'privateKey' that it opens"),
    ],
)
def test_what_is_wrong_is_named_as_the_author_wrote_it(content: dict[str, Any], message: str) -> None:
    assert error_of(**content).startswith(message)


def test_the_upper_limits_are_those_of_the_page() -> None:
    server_of(connectTimeout=86_400, stallTimeout=0.001, keepAlive=86_400)
    assert read_desired({"transfers": {"bandwidthLimit": 10**12}}).transfers.value is not None
    error = read_desired({"transfers": {"bandwidthLimit": 10**12 + 1}}).transfers.error
    assert error == "'bandwidthLimit' must be less than or equal to 1000000000000"


def test_what_is_missing_is_named() -> None:
    assert read_desired({"sftp": {}}).sftp.error == "'host' is missing; 'user' is missing"
    assert read_desired({"sftp": []}).sftp.error == "'sftp' must be an object whose keys are text"


def test_the_login_method_is_reported_and_no_secret() -> None:
    section = server_of(privateKey={"file": "/key text"}, passphrase="pass text")
    assert section.as_properties() == {
        "host": "sftp.example.com",
        "port": 22,
        "user": "device-42",
        "auth": "privateKey+password",
    }
    for shown in (repr(section), str(section), section.model_dump_json(fallback=str)):
        assert not any(secret in shown for secret in ("hunter2", "pass text"))


def test_transfers_have_defaults_and_bounds() -> None:
    assert read_desired({"transfers": {}}).transfers.value == TransfersSection()
    assert TransfersSection().as_properties() == {"concurrency": 2, "verify": "size"}
    limited = read_desired({"transfers": {"bandwidthLimit": 1000}}).transfers.value
    assert limited is not None
    assert limited.as_properties() == {"concurrency": 2, "verify": "size", "bandwidthLimit": 1000}
    assert read_desired({"transfers": {"concurrency": 16, "verify": "size", "bandwidthLimit": None}}).transfers.value
    assert read_desired({"transfers": {"verify": "sha256", "bandwidthLimit": 1}}).transfers.value
    assert (
        read_desired({"transfers": {"concurrency": 17}}).transfers.error
        == "'concurrency' must be less than or equal to 16"
    )
    for limit in (0, -1):
        error = read_desired({"transfers": {"bandwidthLimit": limit}}).transfers.error
        assert error == "'bandwidthLimit' must be greater than or equal to 1"
    for wrong in (1.5, "5", True):
        error = read_desired({"transfers": {"bandwidthLimit": wrong}}).transfers.error
        assert str(error).startswith("'bandwidthLimit' must be a whole number of bytes per second, null,")
    assert read_desired({"transfers": {"verify": "hash"}}).transfers.error == "'verify' must be 'size' or 'sha256'"


@pytest.mark.parametrize(
    "value, tasks, files",
    [
        (True, True, False),
        (False, False, False),
        ({}, True, False),
        ({"files": True}, True, True),
        ({"tasks": False, "files": True}, False, True),
    ],
)
def test_events_are_those_of_tasks_and_of_files(value: object, tasks: bool, files: bool) -> None:
    assert read_desired({"events": value}).events == Section(EventsSection(tasks=tasks, files=files))
    assert read_desired({"events": None}).events == Section()


@pytest.mark.parametrize("value", [0, "false", []])
def test_events_are_nothing_else(value: object) -> None:
    words = "'events' must be true, false or an object with the keys tasks and files"
    assert read_desired({"events": value}).events == Section(error=words)


@pytest.mark.parametrize(
    "value, words",
    [
        ({"file": True}, "'file' is not known here; known are: files, tasks"),
        ({"files": 1}, "'files' must be true or false"),
    ],
)
def test_what_is_wrong_within_events_is_named(value: object, words: str) -> None:
    assert read_desired({"events": value}).events == Section(error=words)


def test_the_log_level_is_one_of_four() -> None:
    assert read_desired({"logLevel": "Debug"}).log_level.value == "debug"
    assert (
        read_desired({"logLevel": "loud"}).log_level.error
        == "'logLevel' must be one of debug, info, warning, error, not 'loud'"
    )
    assert read_desired({"logLevel": 5}).log_level.error == "'logLevel' must be one of debug, info, warning, error"


def test_metadata_alone_is_an_empty_document() -> None:
    assert read_desired({"$version": 3, "$metadata": {}}).is_empty
    assert not read_desired({"$version": 3, "logLevel": "info"}).is_empty
    assert read_desired({"$version": 3}).version == 3
    assert read_desired({"$version": "3"}).version == 0


def test_unknown_sections_are_named() -> None:
    assert read_desired({"sfpt": {}, "$version": 1, "rulez": []}).unknown == ("sfpt", "rulez")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KEYS = st.sampled_from(
    ["host", "port", "user", "password", "privateKey", "passphrase", "hostKeys", "root", "keepAlive", "connectTimeout"]
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "$version": JSON,
        "sftp": JSON | st.dictionaries(KEYS, JSON | st.text(min_size=1)),
        "transfers": JSON | st.dictionaries(st.sampled_from(["concurrency", "verify", "bandwidthLimit"]), JSON),
        "logLevel": JSON,
        "other": JSON,
    },
)


@given(document=DOCUMENTS)
def test_any_document_can_be_read(document: dict[str, Any]) -> None:
    desired = read_desired(document)
    for section in (desired.sftp, desired.transfers, desired.log_level):
        assert section.value is None or section.error is None
    if desired.sftp.value is not None:
        desired.sftp.value.as_settings(Path("known_hosts"), Path("transfers"))


SECRETS = st.text(min_size=4).map("\N{SNOWMAN}{}".format)
"""No key or word of our own messages has a snowman, so that one cannot be taken for a secret."""


@given(secret=SECRETS, key=st.sampled_from(["password", "privateKey", "passphrase"]), extra=JSON)
def test_no_secret_is_in_an_error_or_in_a_text_of_the_section(secret: str, key: str, extra: Any) -> None:
    section = read_desired({"sftp": {"host": "h", "user": "u", key: secret, "port": extra, "x": extra}}).sftp
    assert secret not in str(section.error)
    assert secret not in repr(section)


def test_the_shortest_valid_times_are_valid_for_the_client() -> None:
    section = server_of(connectTimeout=0.001, stallTimeout=0.001, keepAlive=0, user="müller")
    assert section.as_settings(Path("k"), Path("t")).time_limits == TimeLimits(0.001, 0.001, 0)
