"""Scheduled jobs: one direct method on all modules that a query finds, with the outcome of each.

Source: "Schedule jobs on multiple devices" in the IoT Hub documentation, and the REST API "Jobs". Only jobs of the type
scheduleDeviceMethod on modules (`FROM devices.modules WHERE …`) are here, and they start at once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from localedge._errors import HubError
from localedge._query import parsed

_AT_ONCE = 10

Document = dict[str, Any]
Invoke = Callable[[str, str, Document], Awaitable[Document]]


@dataclass
class _Job:
    request: Document
    targets: list[tuple[str, str]]
    outcomes: dict[tuple[str, str], Document]
    created: str
    ended: str | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Jobs:
    """Runs jobs; `invoke(device, module, body)` answers as the REST API's direct methods do. For one event loop."""

    def __init__(self, modules: Callable[[], Iterable[Document]], invoke: Invoke) -> None:
        self._modules = modules
        self._invoke = invoke
        self._jobs: dict[str, _Job] = {}

    def create(self, name: str, request: Document) -> Document:
        """Start a job, and return what `get` does."""
        if name in self._jobs:
            raise HubError(409, 409000, f"There is a job {name!r} already.")
        if request.get("type") != "scheduleDeviceMethod":
            raise HubError.invalid(f"The job's type is {request.get('type')!r}; here is only 'scheduleDeviceMethod'.")
        query = parsed(str(request.get("queryCondition")))
        if query.collection != "devices.modules":
            raise HubError.invalid(
                "A job's queryCondition is FROM devices.modules, as there are no device methods here."
            )
        targets = [(twin["deviceId"], twin["moduleId"]) for twin in self._modules() if query.matches(twin)]
        job = self._jobs[name] = _Job(request, targets, {}, _now())
        job.task = asyncio.create_task(self._run(job))
        return self.get(name)

    def get(self, name: str) -> Document:
        """Return the state of a job, in IoT Hub's words."""
        job = self._jobs.get(name)
        if job is None:
            raise HubError(404, 404000, f"There is no job {name!r}.")
        failed = sum(outcome["status"] == "failed" for outcome in job.outcomes.values())
        return {
            "jobId": name,
            "type": job.request["type"],
            "queryCondition": job.request["queryCondition"],
            "status": "running" if job.ended is None else "completed",
            "createdTime": job.created,
            "startTime": job.created,
            **({} if job.ended is None else {"endTime": job.ended}),
            "deviceJobStatistics": {
                "deviceCount": len(job.targets),
                "succeededCount": len(job.outcomes) - failed,
                "failedCount": failed,
                "runningCount": len(job.targets) - len(job.outcomes),
                "pendingCount": 0,
            },
        }

    def outcomes(self) -> list[Document]:
        """Return what `FROM devices.jobs` looks through: a document for each call that has ended."""
        return [
            {"deviceId": device, "moduleId": module, "jobId": name, "jobType": job.request["type"], **outcome}
            for name, job in self._jobs.items()
            for (device, module), outcome in job.outcomes.items()
        ]

    async def stop(self) -> None:
        """Give up what still runs."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: _Job) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def run_on(device: str, module: str) -> None:
            async with slots:
                begin = _now()
                outcome = await self._outcome(device, module, job.request.get("cloudToDeviceMethod") or {})
            job.outcomes[device, module] = {"startTimeUtc": begin, "endTimeUtc": _now(), **outcome}

        await asyncio.gather(*(run_on(device, module) for device, module in job.targets))
        job.ended = _now()

    async def _outcome(self, device: str, module: str, method: Document) -> Document:
        """Record what came of one call: an answer, whatever its status, completes it; no answer fails it."""
        try:
            answer = await self._invoke(device, module, method)
        except HubError as error:
            return {"status": "failed", "error": {"code": str(error.code), "description": error.message}}
        return {"status": "completed", "outcome": {"deviceMethodResponse": answer}}


def _now() -> str:
    return dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
