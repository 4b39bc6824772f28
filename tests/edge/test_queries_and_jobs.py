"""Queries over modules, and jobs that call one method on all that a query finds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from localedge import HubError
from localedge._jobs import Jobs
from localedge._query import parsed

TWINS: list[dict[str, Any]] = [
    {"deviceId": "a", "moduleId": "sftp", "tags": {"site": "north", "floor": 1, "spare": True}},
    {"deviceId": "b", "moduleId": "sftp", "tags": {"site": "south", "floor": 2}},
    {"deviceId": "c", "moduleId": "other", "tags": {}},
]


def found(query: str) -> list[str]:
    matches = parsed(query).matches
    return [twin["deviceId"] for twin in TWINS if matches(twin)]


@pytest.mark.parametrize(
    "condition, devices",
    [
        ("", ["a", "b", "c"]),
        (" WHERE moduleId = 'sftp'", ["a", "b"]),
        (" where ModuleId = 'sftp' and tags.site = 'south'", ["b"]),
        (" WHERE devices.modules.deviceId IN ['a', 'c']", ["a", "c"]),
        (" WHERE tags.site != 'north'", ["b", "c"]),
        (" WHERE tags.floor = 1", ["a"]),
        (" WHERE tags.spare = true", ["a"]),
        (" WHERE tags.floor = true", []),
        (" WHERE tags.site.more = 'north'", []),
    ],
)
def test_a_query_finds_what_its_conditions_hold_of(condition: str, devices: list[str]) -> None:
    assert found("SELECT * FROM devices.modules" + condition) == devices  # noqa: S608 - no SQL, and no input


@pytest.mark.parametrize(
    "query",
    ["", "SELECT deviceId FROM devices.modules", "SELECT * FROM devices", "FROM devices.modules WHERE x LIKE 'y'"],
)
def test_a_query_beyond_that_is_refused_and_not_misunderstood(query: str) -> None:
    with pytest.raises(HubError) as refusal:
        parsed(query)
    assert refusal.value.status == 400


async def run_job(condition: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    async def invoke(device: str, _module: str, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        if device == "b":
            raise HubError.not_online()
        return {"status": 404, "payload": body["methodName"]}

    jobs = Jobs(lambda: TWINS, invoke)
    request = {
        "type": "scheduleDeviceMethod",
        "queryCondition": condition,
        "cloudToDeviceMethod": {"methodName": "exists"},
    }
    started = jobs.create("job", request)
    assert (started["status"], started["deviceJobStatistics"]["runningCount"]) == ("running", 2)
    with pytest.raises(HubError, match="There is a job 'job' already"):
        jobs.create("job", request)
    while jobs.get("job")["status"] == "running":  # noqa: ASYNC110 - as a caller of the service API, who can only ask
        await asyncio.sleep(0.01)
    return jobs.get("job"), jobs.outcomes()


def test_a_job_keeps_the_outcome_of_each_module() -> None:
    job, outcomes = asyncio.run(run_job("FROM devices.modules WHERE moduleId = 'sftp'"))
    by_device = {outcome["deviceId"]: outcome for outcome in outcomes}

    assert job["deviceJobStatistics"]["deviceCount"] == 2
    # An answer is an answer, whatever its status; only who gave none has failed.
    assert (job["deviceJobStatistics"]["succeededCount"], job["deviceJobStatistics"]["failedCount"]) == (1, 1)
    assert by_device["a"]["outcome"] == {"deviceMethodResponse": {"status": 404, "payload": "exists"}}
    assert (by_device["b"]["status"], by_device["b"]["error"]["code"][:3]) == ("failed", "404")


@pytest.mark.parametrize(
    "request_body",
    [
        {"type": "scheduleUpdateTwin", "queryCondition": "FROM devices.modules"},
        {"type": "scheduleDeviceMethod", "queryCondition": "FROM devices.jobs"},
        {"type": "scheduleDeviceMethod", "queryCondition": "*"},
    ],
)
def test_a_job_that_the_local_runtime_cannot_run_is_refused(request_body: dict[str, Any]) -> None:
    async def never(_device: str, _module: str, _body: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError

    with pytest.raises(HubError) as refusal:
        Jobs(lambda: TWINS, never).create("job", request_body)
    assert refusal.value.status == 400
    with pytest.raises(HubError, match="There is no job 'job'"):
        Jobs(lambda: TWINS, never).get("job")
