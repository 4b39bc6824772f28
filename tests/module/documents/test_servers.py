"""The section `servers`: each server by itself, and nobody's secret in what is said of another one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iot.sftp.module._documents.rule import read_rules
from iot.sftp.module._documents.servers import NAME, RESERVED, SERVERS_MAXIMUM, ServersSection, read_servers
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._documents.twin import read_desired

PLACEHOLDERS = Placeholders("device-42", "sftp", "plant-hub")
SERVER = {"host": "sftp.example.com", "user": "device-42", "password": "hunter2"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def read(content: Any) -> ServersSection:
    section = read_servers(content, PLACEHOLDERS)
    assert section is not None
    return section


def test_each_server_has_the_keys_of_the_default_one() -> None:
    section = read({"mes": SERVER | {"port": 2222, "root": "/in"}, "E_r-P9": SERVER})
    assert (section.error, section.errors) == (None, {})
    assert (section.servers["mes"].port, section.servers["E_r-P9"].port) == (2222, 22)


def test_a_server_that_is_invalid_leaves_the_others_alone() -> None:
    section = read({"mes": SERVER, "erp": SERVER | {"port": "22"}, "old": {"host": "h", "user": "u"}, "no": 5})
    assert list(section.servers) == ["mes"]
    assert section.errors == {
        "erp": "'port' must be a whole number",
        "old": "'password' or 'privateKey' is missing",
        "no": "'no' must be an object whose keys are text",
    }
    assert section.error is None


@pytest.mark.parametrize("name", ["", "a b", "a.b", "$a", "é", "a" * 33, "a/b", "..", "a\n"])
def test_a_name_that_cannot_be_used_is_told(name: str) -> None:
    section = read({name: SERVER, "mes": SERVER})
    assert list(section.servers) == ["mes"]
    assert section.errors == {}
    assert "1 to 32 letters, digits, hyphens and underscores" in (section.error or "")


def test_the_name_of_the_other_section_is_refused() -> None:
    section = read({"sftp": SERVER})
    assert section.servers == {}
    assert "write that server there" in (section.error or "")


@pytest.mark.parametrize("name", RESERVED)
def test_a_key_of_the_report_is_no_name(name: str) -> None:
    section = read({name: SERVER})
    assert (section.servers, section.errors) == ({}, {})
    assert f"'{name}' cannot be the name of a server" in (section.error or "")


def test_there_are_sixteen_at_most() -> None:
    assert len(read({f"s{number}": SERVER for number in range(SERVERS_MAXIMUM)}).servers) == SERVERS_MAXIMUM
    section = read({f"s{number}": SERVER for number in range(SERVERS_MAXIMUM + 1)})
    assert (section.servers, section.is_object) == ({}, False)


def test_a_null_is_a_server_that_is_not_there() -> None:
    assert read({"mes": None}) == ServersSection()
    assert read_servers(None, PLACEHOLDERS) is None


@pytest.mark.parametrize("content", [[], [SERVER], "mes", 5, True])
def test_another_type_is_refused_as_a_whole(content: Any) -> None:
    section = read(content)
    assert (section.servers, section.is_object) == ({}, False)
    assert section.error == "'servers' must be an object of servers by their names"


@given(st.dictionaries(st.text(max_size=40) | st.from_regex(NAME, fullmatch=True), JSON | st.just(SERVER), max_size=5))
def test_whatever_is_in_it_names_are_usable_and_secrets_untold(content: dict[str, Any]) -> None:
    desired = read_desired({"servers": content, "sftp": SERVER})
    assert desired.sftp.value is not None
    section = desired.servers
    assert section is not None
    names = {*section.servers, *section.errors}
    assert all(NAME.fullmatch(name) and name in content for name in names)
    assert not section.servers.keys() & section.errors.keys()
    assert "hunter2" not in str(section)
    assert bool(desired.refused) == bool(section.error or section.errors)


def test_a_rule_for_a_server_that_is_not_there_is_invalid() -> None:
    rule = {"direction": "upload", "source": "a", "dest": "b"}
    section = read_rules(
        [rule | {"name": "a"}, rule | {"name": "b", "server": "mes"}, rule | {"name": "c", "server": "mess"}]
    )
    assert section is not None
    checked = section.checked(("sftp", "mes"))
    assert set(checked.rules) == {"a", "b"}
    assert checked.errors == {"c": "'server' must be one of sftp, mes, not 'mess'"}
