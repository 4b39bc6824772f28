"""A server that is dead or refuses the login holds up nobody else's calls, tasks or rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.module.several_servers import NEVER, PATIENCE, Device
from tests.servers import Server, black_hole, listening, never_answers
from tests.tasks import end_of, submit

from iot.sftp.client import Secret
from iot.sftp.module._work.current_session import SessionState

WELL, DEAD, REFUSES = ("sftp", "a", "b"), "dead", "refuses"
ROUNDS = 4  # files that each rule has to send, one after the other


@pytest.fixture(params=["silent", "drops"])
def device(
    request: pytest.FixtureRequest, openssh_server: Server, proftpd_server: Server, tmp_path: Path
) -> Iterator[Device]:
    """A device with five servers: two of them work, one accepts and says nothing or drops packets, one refuses."""
    with listening(never_answers) if request.param == "silent" else black_hole() as port:
        device = Device(tmp_path)
        for name in WELL:
            device.have(name, openssh_server)
        device.have(DEAD, openssh_server, port=port, time_limits=NEVER)
        device.have(REFUSES, proftpd_server, password=Secret("wrong"))
        try:
            yield device
        finally:
            device.close()


def rule(name: str, server: str, remote: Path, **changes: Any) -> dict[str, Any]:
    """Return a rule that sends a folder of its name."""
    rule = {"name": name, "direction": "upload", "source": name, "dest": f"{remote.name}/{name}", "server": server}
    return rule | {"every": 3600, "min_age": 0, "then": "delete"} | changes


def named(server: str) -> dict[str, str]:
    """Return the parameter for a server; the default one is not named, as by callers that know of no other."""
    return {} if server == "sftp" else {"server": server}


def test_twenty_rules_over_five_servers_keep_their_pace(device: Device, remote: Path) -> None:
    servers = (*WELL, DEAD, REFUSES)
    rules = [rule(f"{server}-{number}", server, remote) for server in servers for number in range(4)]
    for each in rules:
        (device.root / each["source"]).mkdir()
        device.put(each["source"], "waits")
    device.run(*rules)

    def are_stuck() -> bool:
        """Tell whether the dead server holds all that it was given, and the other one has refused the login."""
        is_refused = device.rules.statuses()[f"{REFUSES}-0"].code == "authentication_failed"
        return is_refused and device.slots.of(DEAD).running == device.slots.of(DEAD).width

    device.until(are_stuck)
    well = [each for each in rules if each["server"] in WELL]
    for number in range(ROUNDS):
        for each in well:
            device.put(each["source"], str(number))
        count = {2 + number}
        device.until(lambda: {device.rules.statuses()[each["name"]].files for each in well} == count)  # noqa: B023 - now

    statuses = device.rules.statuses()
    assert {statuses[each["name"]].code for each in well} == {None}
    for each in well:
        assert {path.name for path in (remote / each["name"]).iterdir()} == {"waits", *map(str, range(ROUNDS))}
    assert {statuses[f"{server}-{number}"].files for server in (DEAD, REFUSES) for number in range(4)} == {0}
    assert are_stuck()


def test_tasks_of_other_servers_are_carried_out(device: Device, remote: Path) -> None:
    (device.root / "file").write_text("1")
    request = {"source": "file", "dest": f"{remote.name}/file"}
    waiting = [submit(device.tasks, "upload_file", request | {"server": DEAD}) for _ in range(20)]
    refused = [submit(device.tasks, "upload_file", request | {"server": REFUSES}) for _ in range(20)]
    device.until(lambda: device.slots.of(DEAD).running == device.slots.of(DEAD).width)
    for server in WELL:
        done = [
            submit(device.tasks, "upload_file", request | {"dest": f"{remote.name}/{server}-{number}"} | named(server))
            for number in range(20)
        ]
        assert {end_of(device.tasks, task, PATIENCE)["status"] for task in done} == {"Completed"}
    assert len(list(remote.iterdir())) == 20 * len(WELL)
    assert {device.tasks.status(task)["result"] for task in waiting + refused} == {None}
    device.until(lambda: "authentication_failed" in {device.tasks.status(task)["code"] for task in refused})


def test_calls_to_other_servers_are_answered(device: Device, remote: Path) -> None:
    asyncio.run(call_all(device, remote))


async def call_all(device: Device, remote: Path) -> None:
    """Call the dead server more often than it has slots for, and then the others."""
    (remote / "file").write_text("1")
    (device.root / "file").write_text("1")
    path = f"{remote.name}/file"

    def call(method: str, server: str, **payload: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(device.dispatcher.answer(method, {"timeout": 290, **payload} | named(server)))

    stuck = [call("exists", DEAD, path=path) for _ in range(40)]
    stuck += [call("upload_file", DEAD, source="file", dest=path) for _ in range(40)]
    stuck += [call("is_connected", DEAD) for _ in range(20)]
    for _ in range(3):
        for server in WELL:
            answers = await asyncio.wait_for(
                asyncio.gather(
                    call("exists", server, path=path),
                    call("is_connected", server),
                    call("list_files", server, path=remote.name),
                    call("upload_file", server, source="file", dest=f"{remote.name}/{server}"),
                ),
                PATIENCE,
            )
            assert [answer.status for answer in answers] == [200] * 4, answers
            assert answers[0].payload is True
    refused = await asyncio.wait_for(call("exists", REFUSES, path=path), PATIENCE)
    assert (refused.status, refused.code) == (401, "authentication_failed")
    assert sum(not task.done() for task in stuck) >= 80
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


def test_each_server_has_a_state_of_its_own(device: Device) -> None:
    for name in WELL:
        with device.servers.use(name) as session:
            session.exists(".")
    device.until(lambda: device.servers.get(REFUSES).state.state is SessionState.FAILED)
    states = {name: session.state.state.value for name, session in device.servers.all().items()}
    assert states == dict.fromkeys(WELL, "connected") | {DEAD: "connecting", REFUSES: "failed"}
    assert device.servers.get(REFUSES).state.code == "authentication_failed"


def test_another_server_is_another_destination_for_a_rule(
    openssh_server: Server, proftpd_server: Server, remote: Path, tmp_path: Path
) -> None:
    device = Device(tmp_path)
    try:
        device.have("sftp", openssh_server)
        device.have("mes", proftpd_server)
        (device.root / "out").mkdir()
        device.put("out", "day.csv")
        to_default = rule("up", "sftp", remote, source="out", then="keep")
        for each, server in ((to_default, openssh_server), (to_default | {"server": "mes"}, proftpd_server)):
            device.run(each)
            device.until(lambda: device.rules.statuses()["up"].files == 1)
            assert (server.directory / remote.name / "up" / "day.csv").read_text() == "day.csv"
        device.run(to_default)
        device.until(lambda: device.rules.statuses()["up"].last_run)
        assert device.rules.statuses()["up"].files == 0  # it is known there
    finally:
        device.close()
