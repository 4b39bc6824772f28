"""The way of a call: parsed, queued in its lane, executed once, answered by its deadline, and logged.

Every request is answered exactly once, and none blocks the event loop or another lane.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from iot.sftp.client import DeadlineExceeded, Internal, SFTPError
from iot.sftp.client._base.text import excerpt, quoted
from iot.sftp.module._base.counters import CallCounters
from iot.sftp.module._base.logging import about, subject
from iot.sftp.module._documents.requests import (
    BackgroundRequest,
    ChangeRequest,
    PathsRequest,
    ServerRequest,
    expanded,
)
from iot.sftp.module._documents.servers import DEFAULT_SERVER, on_server
from iot.sftp.module._methods import responses
from iot.sftp.module._methods.idempotency import check_same_call
from iot.sftp.module._methods.lanes import NO_SERVER, Lanes
from iot.sftp.module._methods.method import Lane
from iot.sftp.module._methods.parsing import NAME_SHOWN, parse_call
from iot.sftp.module._methods.table import METHODS
from iot.sftp.module._work.task_document import short_id
from iot.sftp.module._work.task_record import new_task

if TYPE_CHECKING:
    from iot.sftp.module._hub.response import Response
    from iot.sftp.module._methods.idempotency import Idempotency, IdempotentCall
    from iot.sftp.module._methods.method import Call, MethodContext
    from iot.sftp.module._work.server_slots import ServerSlots

LEAST_TIME = 0.05  # seconds that a call must have left when it gets its slot: with less it could only time out

_log = logging.getLogger(__name__)


class Dispatcher:
    """Takes requests, runs them in their lanes, returns the responses."""

    def __init__(self, context: MethodContext, slots: ServerSlots, idempotency: Idempotency) -> None:
        """Take what methods work with.

        Parameters:
            context: the parts of the module.
            slots: those of transfers, which are shared with tasks.
            idempotency: the calls with a request id.
        """
        self.calls = CallCounters()
        self._context = context
        self._idempotency = idempotency
        self._lanes = Lanes(slots, context.servers.all)

    def waiting(self) -> dict[tuple[str, str], tuple[int, float]]:
        """Return how many calls wait, and since when: see `Lanes.waiting`."""
        return self._lanes.waiting()

    async def answer(self, name: str, payload: Any, received: float | None = None) -> Response:
        """Execute a request and return the response; never raises for anything in the request or during execution.

        Parameters:
            name: the method's.
            payload: any JSON value, or `Malformed`.
            received: when, in `time.monotonic()`; the timeout counts from then.
        """
        started = time.monotonic() if received is None else received
        call_id, shown = secrets.token_hex(3), self._shown(name, payload)
        paths, attempts = "", 1
        with subject(f"call {call_id} {shown}", shown):
            try:
                call = self._expanded(parse_call(name, payload))
                paths = _paths(call)
                response = await self._respond(call, started + call.request.timeout)
            except SFTPError as error:
                response, attempts = responses.failed(name, error), error.attempts
            except Exception:  # noqa: BLE001 - every request is answered, whatever fails inside
                _log.exception("internal error")
                message = f"internal error of the module, described in its log at call {call_id}: please report it"
                response = responses.failed(name, Internal(message))
            self._record(name, f"{shown} {paths}".rstrip(), response, time.monotonic() - started)
            _log_response(shown, paths, response, attempts, time.monotonic() - started)
        return response

    def _shown(self, name: str, payload: Any) -> str:
        """Return the method's name for log lines, with the server if it is not the default one."""
        server = payload.get("server") if isinstance(payload, dict) else None
        is_known = isinstance(server, str) and server in self._context.servers.all()
        return on_server(excerpt(name, NAME_SHOWN), str(server) if is_known else DEFAULT_SERVER)

    def _expanded(self, call: Call) -> Call:
        """Return a call whose placeholders are filled in, if it has any: this is their moment of use."""
        if not isinstance(call.request, PathsRequest):
            return call
        placeholders = self._context.placeholders
        return replace(call, request=expanded(call.request, placeholders.values, placeholders.clock()))

    def _record(self, name: str, thing: str, response: Response, seconds: float) -> None:
        """Count a response, and keep a failure for the status."""
        method = name if name in METHODS else "unknown"  # callers choose names: there is no limit to how many
        success = "accepted" if response.status == responses.ACCEPTED else "ok"
        self.calls.note(method, response.code or success, seconds)
        if response.code is not None:
            self._context.status.failures.note(thing, response.code, response.payload["message"])

    async def _respond(self, call: Call, deadline: float) -> Response:
        request = call.request
        if isinstance(request, BackgroundRequest) and request.background:
            return await self._accept(call, request, deadline)
        if isinstance(request, ChangeRequest) and request.request_id is not None:
            return await self._execute_once(call, deadline)
        return await self._execute(call, deadline)

    async def _accept(self, call: Call, request: BackgroundRequest, deadline: float) -> Response:
        """Make a task of a call, or find the one that the first call with its id became."""
        record = new_task(call.name, request.parameters(), request.time_limit)
        if request.request_id is not None:
            self._idempotency.running(call)

        def accept() -> Response:
            self._context.servers.get(request.server)
            known = self._context.tasks.accept(record, request.request_id, request.fingerprint(call.name))
            if known is None:
                return responses.accepted(record.task_id)
            check_same_call(known, call)
            return responses.accepted(known.task_id or "")

        return await self._lanes.queue(Lane.TASKS).run(accept, deadline)

    async def _execute_once(self, call: Call, deadline: float) -> Response:
        """Execute a call with a request id, unless that was done already."""
        first = self._idempotency.running(call)
        if first is not None:
            return await first.wait(deadline)
        with self._idempotency.begin(call) as idempotent:
            known = await idempotent.recall(deadline)
            return known if known is not None else await self._execute(idempotent.call, deadline, idempotent)

    async def _execute(self, call: Call, deadline: float, idempotent: IdempotentCall | None = None) -> Response:
        def remaining() -> float:
            return deadline - time.monotonic()  # computed each time: the call may have waited for its slot

        server = call.request.server if isinstance(call.request, ServerRequest) else NO_SERVER
        if server != NO_SERVER:
            self._context.servers.get(server)

        def run() -> Any:
            return call.method.run(self._context, call.request, remaining())

        def work() -> Response:
            if remaining() <= LEAST_TIME:
                message = "the call timed out while it waited for a free slot: nothing was done"
                raise DeadlineExceeded(message)
            return responses.succeeded(run()) if idempotent is None else idempotent.execute(run)

        return await self._lanes.queue(call.lane, server).run(work, deadline)


def _paths(call: Call) -> str:
    """Return the paths of a call, for the log."""
    request = call.request.model_dump(include={"path", "source", "dest", "task_id"})
    return " -> ".join(quoted(str(value)) for value in request.values())


def _log_response(name: str, paths: str, response: Response, attempts: int, seconds: float) -> None:
    level = logging.INFO if response.code is None else logging.WARNING
    place, tried = f"{paths}: " if paths else "", "" if attempts == 1 else f", {attempts} attempts"
    if response.code is not None:
        words = f" {response.code}: {response.payload['message']}"
    else:
        is_task = response.status == responses.ACCEPTED
        words = f" task {short_id(response.payload['task_id'])}" if is_task else ""
    text = "%s%d%s (%.3f s%s)"
    _log.log(level, text, place, response.status, words, seconds, tried, extra=about(f"{name} {paths}".rstrip()))
