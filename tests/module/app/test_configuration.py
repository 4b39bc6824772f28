"""Which desired document takes effect, and what is reported of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.servers import free_port

from iot.sftp.client import Bandwidth, NotConfigured, SFTPSession, __version__
from iot.sftp.module._app.configuration import UNKNOWN_MAXIMUM, Configuration
from iot.sftp.module._base.environment import Environment
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._hub.reported import Reporter
from iot.sftp.module._retention.proof import Duties
from iot.sftp.module._retention.retention import Retention, RetentionContext
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.current_placeholders import CurrentPlaceholders
from iot.sftp.module._work.current_session import ConnectionState, SessionState
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.file_events import FileEvents
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.outbox import Outbox
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.transfers import Transfers


class Device:
    """A configuration with the parts that it changes, and what is reported of them."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_795_906_800.0  # 2026-11-28T23:00:00Z
        self.reporter = Reporter(self._never_sent, lambda: None)
        self.servers = Servers(lambda _name, _state: None)
        environment = Environment(directory / "data", directory / "state", "warning")
        messages, ledgers = Journal(directory / "state").messages, DeliveryLedgers(directory / "state")
        self.outbox = Outbox(messages, self._never_told)
        self.file_events = FileEvents(ledgers.events, messages, lambda: None)
        self.slots, self.transfers = ServerSlots(2), Transfers(self.servers)
        files = LocalRoot(directory / "data", directory / "state")
        context = RuleContext(self.transfers, self.slots, ledgers, files)
        self.rules = Rules(context, lambda: None)
        duties = Duties(lambda: self.rules.in_force, self.servers, files, directory / "state", lambda: self.now)
        self.retention = Retention(
            RetentionContext(files, directory / "state", ledgers.delivered, duties, self.file_events)
        )
        self.configuration = Configuration(
            environment,
            servers=self.servers,
            slots=self.slots,
            transfers=self.transfers,
            outbox=self.outbox,
            file_events=self.file_events,
            rules=self.rules,
            retention=self.retention,
            reporter=self.reporter,
            placeholders=CurrentPlaceholders(Placeholders("device-42", "sftp", "plant-hub"), lambda: self.now),
        )

    @staticmethod
    async def _never_sent(_patch: dict[str, Any]) -> None:
        raise AssertionError("nothing is sent here")

    @staticmethod
    async def _never_told(_message: Any, _output: str) -> None:
        raise AssertionError("nothing ends here")

    def apply(self, version: int, /, **sections: Any) -> None:
        self.configuration.apply({"$version": version, "$metadata": {}, **sections})

    @property
    def reported(self) -> dict[str, Any]:
        return self.reporter.wanted

    @property
    def session(self) -> SFTPSession | None:
        try:
            with self.servers.default.use() as session:
                return session
        except NotConfigured:
            return None


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.rules.stop(5)
    device.retention.stop(60)
    device.servers.close()
    for name in ("iot", "paramiko"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def server() -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": free_port(), "user": "device", "password": "hunter2"}


def test_before_the_first_document_only_the_version_is_reported(device: Device) -> None:
    assert device.reported == {"module": {"version": __version__}}
    assert device.session is None


def test_a_valid_document_takes_effect_and_each_section_is_acknowledged(device: Device, server: dict[str, Any]) -> None:
    device.apply(3, sftp=server, transfers={"concurrency": 4}, logLevel="debug")
    assert device.session is not None
    shown = {"host": "127.0.0.1", "port": server["port"], "user": "device", "auth": "password"}
    assert device.reported["sftp"] == {"ac": 200, "av": 3, "ad": "applied", "value": shown}
    assert device.reported["transfers"] == {
        "ac": 200,
        "av": 3,
        "ad": "applied",
        "value": {"concurrency": 4, "verify": "size"},
    }
    assert device.reported["logLevel"] == {"ac": 200, "av": 3, "ad": "applied", "value": "debug"}
    assert logging.getLogger("iot").level == logging.DEBUG
    assert "hunter2" not in str(device.reported)


def test_the_session_knows_the_local_root_and_the_state_directory(
    device: Device, server: dict[str, Any], tmp_path: Path
) -> None:
    device.apply(1, sftp=server)
    assert device.session is not None
    assert device.session.settings.known_hosts == tmp_path / "state" / "known_hosts"


def test_an_invalid_section_leaves_the_old_one_in_force(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, sftp=server)
    before = device.session
    device.apply(2, sftp=server | {"port": "22"}, transfers={"concurrency": 5})
    assert device.session is before
    assert device.reported["sftp"]["ac"] == 400
    assert device.reported["sftp"]["av"] == 2
    assert device.reported["sftp"]["ad"] == "'port' must be a whole number"
    assert device.reported["sftp"]["value"]["port"] == server["port"]
    assert device.reported["transfers"]["ac"] == 200


def test_an_invalid_first_section_is_the_error_of_every_call(device: Device) -> None:
    device.apply(1, sftp={"host": "h"})
    with pytest.raises(NotConfigured, match="'user' is missing"), device.servers.default.use():
        pass
    assert device.reported["sftp"]["ac"] == 400
    assert "value" not in device.reported["sftp"]


def test_a_section_that_did_not_change_keeps_its_session(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, sftp=server)
    before = device.session
    device.apply(2, sftp=dict(server), logLevel="debug")
    assert device.session is before
    assert device.reported["sftp"]["av"] == 2


def test_another_password_is_another_session(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, sftp=server)
    before = device.session
    device.apply(2, sftp=server | {"password": "hunter3"})
    assert device.session is not before
    assert "hunter" not in str(device.reported)


def test_a_removed_key_is_not_in_force_any_more(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, sftp=server | {"root": "/upload"}, transfers={"concurrency": 5}, logLevel="debug")
    device.apply(2, sftp=server)
    assert device.session is not None
    assert device.session.settings.root is None
    assert device.reported["transfers"]["value"]["concurrency"] == 2
    assert "logLevel" not in device.reported
    assert logging.getLogger("iot").level == logging.WARNING


def test_a_removed_section_leaves_nothing_configured(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, sftp=server)
    device.apply(2, logLevel="info")
    assert device.session is None
    assert device.servers.default.state.state == "not_configured"
    assert "sftp" not in device.reported


def test_an_older_document_is_ignored(device: Device, server: dict[str, Any]) -> None:
    device.apply(5, sftp=server)
    device.apply(4, sftp=server | {"user": "older"})
    assert device.session is not None
    assert device.session.settings.user == "device"
    assert device.reported["sftp"]["av"] == 5


@pytest.mark.parametrize("version", [1, 5, 6])
def test_an_empty_document_keeps_the_configuration_in_force(
    device: Device, server: dict[str, Any], version: int
) -> None:
    device.apply(5, sftp=server)
    device.apply(version)
    assert device.session is not None
    assert device.reported["sftp"]["av"] == 5


def test_after_an_empty_document_the_next_real_one_takes_effect(device: Device, server: dict[str, Any]) -> None:
    device.apply(5, sftp=server)
    device.apply(6)
    device.apply(6, sftp=server | {"user": "next"})
    assert device.session is not None
    assert device.session.settings.user == "next"


def test_an_empty_first_document_says_what_is_missing(device: Device) -> None:
    device.apply(1)
    with pytest.raises(NotConfigured, match="host, user and password or privateKey"), device.servers.default.use():
        pass


def test_an_invalid_log_level_leaves_the_old_one_in_force(device: Device) -> None:
    device.apply(1, logLevel="error")
    device.apply(2, logLevel="loud")
    assert logging.getLogger("iot").level == logging.ERROR
    assert device.reported["logLevel"]["ac"] == 400


def test_an_unknown_section_is_acknowledged_and_ignored(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, sftp=server, sfpt={"password": "hunter2"})
    assert device.session is not None
    assert device.reported["sfpt"]["ac"] == 400
    assert "misspelt" in device.reported["sfpt"]["ad"]
    assert "hunter2" not in str(device.reported)
    device.apply(2, sftp=server)
    assert "sfpt" not in device.reported


def test_thousands_of_unknown_sections_do_not_fill_the_twin(device: Device) -> None:
    device.apply(1, **{f"section{number}": 1 for number in range(1_000)})
    assert len(device.reported) < UNKNOWN_MAXIMUM + 5


def test_the_log_names_the_sections_that_are_not_in_force(
    device: Device, server: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="iot")
    device.apply(1, sftp=server, logLevel="info")
    assert "desired properties 1 are in force" in caplog.messages
    device.apply(2, sftp=server | {"port": 0}, logLevel="loud", rules=[{"name": "a"}])
    assert "desired properties 2 are in force, except for sftp, logLevel, rules" in caplog.messages
    assert device.reported["logLevel"]["value"] == "info"
    device.apply(3, logLevel="info")
    assert "server: none any more, as the section sftp was removed" in caplog.messages


def test_what_is_wrong_is_logged_once_and_without_secrets(
    device: Device, server: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="iot")
    device.apply(1, sftp=server | {"prot": "hunter2"})
    assert "'prot' is not known here" in caplog.text
    assert "hunter2" not in caplog.text


RULE = {"direction": "upload", "source": "out", "dest": "in"}


def test_each_rule_is_acknowledged_by_its_name(device: Device) -> None:
    wrong = {"name": "wrong", **RULE, "direction": "sideways"}
    device.apply(3, rules=[{"name": "right", **RULE}, wrong, {"name": "right", **RULE}, 5])
    reported = device.reported["rules"]
    assert (reported["ac"], reported["av"]) == (400, 3)
    assert reported["ad"].startswith("rule 3: another rule has the name 'right'; rule 4: ")
    assert reported["value"]["right"]["ac"] == 200
    assert reported["value"]["wrong"] == {"ac": 400, "ad": "'direction' must be 'upload' or 'download'"}
    device.apply(4, rules=[{"name": "right", **RULE}])
    assert {key: device.reported["rules"][key] for key in ("ac", "av", "ad")} == {"ac": 200, "av": 4, "ad": "applied"}
    assert set(device.reported["rules"]["value"]) == {"right"}


def test_an_invalid_rule_leaves_the_previous_one_in_force(device: Device) -> None:
    device.apply(1, rules=[{"name": "a", **RULE}, {"name": "b", **RULE}])
    before = device.rules.in_force
    device.apply(2, rules=[{"name": "a", **RULE, "every": "often"}])
    assert device.rules.in_force == {"a": before["a"]}
    assert device.reported["rules"]["value"]["a"]["ac"] == 400
    assert "since" in device.reported["rules"]["value"]["a"]
    many: list[Any] = [{"name": f"{number}", **RULE} for number in range(21)]
    nonsense: Any
    for nonsense in ({}, "a", many):
        device.apply(3, rules=nonsense)
        assert device.rules.in_force == {"a": before["a"]}
        assert device.reported["rules"]["ac"] == 400
    device.apply(4, logLevel="info")
    assert device.rules.in_force == {}
    assert "rules" not in device.reported


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("漢" * 2_000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
NAMES = st.sampled_from(["transfers", "events", "rules", "logLevel", "connection", "module", "journal"]) | st.text()
RULES = st.lists(st.fixed_dictionaries({"name": st.text(), "direction": JSON}) | JSON, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each document is a newer one for the same
@given(sections=st.dictionaries(NAMES, JSON, max_size=8), rules=RULES)
def test_any_desired_document_is_reported_within_the_limits_of_a_twin(
    device: Device, sections: dict[str, Any], rules: list[Any]
) -> None:
    device.apply(device.configuration.in_force["version"] + 1, **{"rules": rules} | sections)
    document = device.reporter.document
    assert len(json.dumps(document, ensure_ascii=False).encode()) <= 32 * 1024
    assert document["module"] == {"version": __version__}
    assert "connection" not in document
    json.dumps(device.configuration.in_force)


def test_an_unknown_section_does_not_replace_one_of_the_reported_properties(device: Device) -> None:
    device.configuration.servers.report_connection(
        "sftp", ConnectionState(SessionState.FAILED, "unreachable", "no route")
    )
    device.apply(1, connection={"state": "connected"}, module=5)
    assert device.reported["connection"]["code"] == "unreachable"
    assert device.reported["module"] == {"version": __version__}
    device.apply(2, logLevel="info")
    assert device.reported["connection"]["code"] == "unreachable"


# Placeholders


def test_variables_and_the_time_zone_are_acknowledged_under_their_names(device: Device) -> None:
    device.apply(1, variables={"line": "7"}, timeZone="Europe/Berlin")
    assert device.reported["variables"] == {"ac": 200, "av": 1, "ad": "applied", "value": {"line": "7"}}
    assert device.reported["timeZone"] == {"ac": 200, "av": 1, "ad": "applied", "value": "Europe/Berlin"}
    assert device.configuration.in_force["timeZone"] == "Europe/Berlin"
    device.apply(2, variables={"line": "a/b"}, timeZone="Mars/Olympus")
    assert (device.reported["variables"]["ac"], device.reported["timeZone"]["ac"]) == (400, 400)
    assert device.reported["variables"]["value"] == {"line": "7"}
    assert "not 'Mars/Olympus'" in device.reported["timeZone"]["ad"]
    assert device.reported["timeZone"]["value"] == "Europe/Berlin"
    device.apply(3, logLevel="info")
    assert "variables" not in device.reported
    assert "timeZone" not in device.reported
    assert device.configuration.in_force["variables"] == {}


def test_other_variables_are_another_session(device: Device, server: dict[str, Any]) -> None:
    server = server | {"user": "{deviceId}", "root": "/upload/{line}"}
    device.apply(1, sftp=server, variables={"line": "7"})
    before = device.session
    assert before is not None
    assert (before.settings.user, before.settings.root) == ("device-42", "/upload/7")
    assert device.reported["sftp"]["value"]["user"] == "device-42"
    device.apply(2, sftp=server, variables={"line": "7", "other": "x"})
    assert device.session is before
    device.apply(3, sftp=server, variables={"line": "8"})
    assert device.session is not None
    assert device.session.settings.root == "/upload/8"


def test_what_an_unknown_placeholder_is_in_stays_as_it_was(device: Device, server: dict[str, Any]) -> None:
    rule = {"name": "r", "direction": "download", "source": "a", "dest": "{line}"}
    server = server | {"root": "/{line}"}
    device.apply(1, sftp=server, rules=[rule], variables={"line": "7"})
    before, rules = device.session, device.rules.in_force
    device.apply(2, sftp=server, rules=[rule], variables={"lines": "7"})
    assert device.session is before
    assert device.rules.in_force == rules
    reason = "has the unknown placeholder {line} at character 2; known are: {deviceId}, {moduleId}, {hub}, {server}, "
    assert device.reported["sftp"]["ad"] == f"'root' {reason}{{date:…}}, {{lines}}"
    assert device.reported["rules"]["value"]["r"]["ac"] == 400
    assert device.reported["rules"]["ad"] == "not valid: r"


def test_a_root_of_each_day_is_another_session_with_the_first_use_after_midnight(
    device: Device, server: dict[str, Any]
) -> None:
    device.apply(1, sftp=server | {"root": "/{date:%d}"}, timeZone="UTC")
    before = device.session
    assert before is not None
    assert before.settings.root == "/28"
    assert device.session is before
    device.now += 3_600
    assert device.session is not None
    assert device.session.settings.root == "/29"
    assert device.configuration.in_force["sftp"]["root"] == "/29"
    device.apply(2, sftp=server | {"root": "/fixed"})
    device.now += 86_400
    assert device.session.settings.root == "/fixed"


def test_a_server_with_a_date_waits_for_the_clock(device: Device, server: dict[str, Any]) -> None:
    device.now = 12.5
    device.apply(1, sftp=server | {"user": "{deviceId}-{date:%Y}"})
    assert device.reported["sftp"]["ac"] == 200
    assert device.servers.default.state.state is SessionState.NOT_CONFIGURED
    with pytest.raises(NotConfigured, match="the clock of the device is not set yet"), device.servers.default.use():
        pass
    device.now = 1_795_906_800.0
    assert device.session is not None
    assert device.session.settings.user == "device-42-2026"


def test_a_server_that_was_removed_does_not_come_back_with_another_date(device: Device, server: dict[str, Any]) -> None:
    device.apply(1, sftp=server | {"root": "/{date:%d}"})
    prepare = device.servers.default.prepare
    device.apply(2, logLevel="info")
    device.now += 86_400
    prepare()  # of a call that has begun before
    assert device.session is None


def test_the_limit_of_the_bandwidth_is_that_of_the_time_of_day(device: Device, server: dict[str, Any]) -> None:
    office = {"days": "Mon-Fri", "from": "08:00", "to": "18:00", "upload": 1000}
    timetable = [office, {"download": 2000}]
    device.apply(1, sftp=server, transfers={"bandwidthLimit": timetable}, timeZone="Europe/Berlin")
    assert device.reported["transfers"]["value"]["bandwidthLimit"] == timetable
    assert device.configuration.in_force["transfers"]["bandwidthLimit"] == timetable
    assert device.session is not None
    limit = device.session._limit
    assert limit.bandwidth == Bandwidth(download=2000)  # at midnight between Saturday and Sunday
    device.now += (24 + 8) * 3600
    limit._next_look = 0.0  # it looks once a second
    limit.largest(1)
    assert limit.bandwidth == Bandwidth(upload=1000)
    device.apply(2, sftp=server, transfers={"bandwidthLimit": [{"from": "08:00"}]})
    assert device.reported["transfers"]["ac"] == 400
    assert limit.bandwidth == Bandwidth(upload=1000)
    device.apply(3, sftp=server, transfers={"bandwidthLimit": {"upload": 5}})
    assert limit.bandwidth == Bandwidth(upload=5)
    device.apply(4, sftp=server)
    assert limit.bandwidth == Bandwidth()
