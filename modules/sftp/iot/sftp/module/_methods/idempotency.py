"""Idempotency keys: a call that is repeated with the same `request_id` gets the response to the first one.

The worker thread that runs a call records its outcome when it has finished, however late that is: so a repeat after a
timeout gets the true outcome. Not every failure is an outcome:

- A call that certainly had no effect, because there was no connection to the server, is executed again by a repeat.
- So is an idempotent call that was interrupted: a transfer resumes, and ends as one transfer.
- An interrupted deletion or move is not executed again, as it may have taken effect: the repeat gets that answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from iot.sftp.client import ConnectionLost, DeadlineExceeded, InvalidRequest, Retry, SFTPError, error_for_code
from iot.sftp.client._base.threads import WorkerThreads
from iot.sftp.module._hub.response import Response
from iot.sftp.module._methods import responses
from iot.sftp.module._work.task_record import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from iot.sftp.module._documents.requests import ChangeRequest
    from iot.sftp.module._methods.method import Call
    from iot.sftp.module._work.journal import Journal

IN_MEMORY = 1_000  # outcomes that are kept while the journal cannot be written
THREADS = 4

INTERRUPTION = (
    "the module stopped while it executed this call, and whether the server has done it is not known: check, and call "
    "again with another request_id if it is still wanted"
)


class RequestIdConflict(InvalidRequest):
    """The request id was used for another call: give each call its own."""

    code = "request_id_conflict"


class Idempotency:
    """The calls with a request id that run now, and the outcomes of earlier ones.

    Lives in the event loop.
    """

    def __init__(self, journal: Journal) -> None:
        """Keep outcomes in the journal, where they survive a restart."""
        self._outcomes = _Outcomes(journal)
        self._running: dict[str, IdempotentCall] = {}

    def running(self, call: Call) -> IdempotentCall | None:
        """Return the call with the same id that runs at the moment; `None` if there is none.

        Raises:
            RequestIdConflict: the id belongs to a different call.
        """
        running = self._running.get(_id(call))
        if running is not None:
            _check_same(running.fingerprint, call)
        return running

    def begin(self, call: Call) -> IdempotentCall:
        """Register a call, of which none with the same id runs; leave its context when it is answered."""
        idempotent = self._running[_id(call)] = IdempotentCall(call, self._outcomes, self._running)
        return idempotent


class IdempotentCall:
    """A call with a request id, from its arrival to its outcome; repeats that arrive meanwhile wait for that.

    A context manager: a call that is left before a worker thread has started it has had no effect, and whoever waits
    for it gets the reason.

    Attributes:
        call: what is executed: with the paths that an earlier attempt had, where the date would make others of them.
    """

    def __init__(self, call: Call, outcomes: _Outcomes, running: dict[str, IdempotentCall]) -> None:
        """Take the call.

        Parameters:
            call: with a request id.
            outcomes: of earlier calls; that of this one is added.
            running: from which the call removes itself when it is finished.
        """
        self.fingerprint = _fingerprint(call)
        self.call = call
        self._outcomes = outcomes
        self._running = running
        self._response: Future[Response] = Future()
        self._has_started = False

    def __enter__(self) -> IdempotentCall:
        """Return the call itself."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Finish the call, unless a worker thread does that or has done it."""
        if not self._has_started and not self._response.done():
            reason = error if isinstance(error, SFTPError) else ConnectionLost("the call was abandoned")
            self._finish(responses.failed(self.call.name, reason))

    async def wait(self, deadline: float) -> Response:
        """Return the response, for a repeat of the call.

        Raises:
            DeadlineExceeded: there is none by `deadline`, in `time.monotonic()`.
        """
        waiting = asyncio.wrap_future(self._response)
        await asyncio.wait({waiting}, timeout=max(0.0, deadline - time.monotonic()))
        if not waiting.done():
            message = "the first call with this request_id is still running: ask again later"
            raise DeadlineExceeded(message)
        return waiting.result()

    async def recall(self, deadline: float) -> Response | None:
        """Return the response to an earlier call with the same id; `None` if this one has to be executed.

        Raises:
            RequestIdConflict: the id belongs to a different call.
            DeadlineExceeded: the outcomes could not be read by `deadline`, in `time.monotonic()`.
        """
        known = await self._outcomes.look_up(_id(self.call), deadline)
        response = None if known is None else _recalled(self.call, known)
        if response is not None:
            self._finish(response)
        elif known is not None and isinstance(known.payload, dict):
            self.call = replace(self.call, request=self.call.request.model_copy(update=known.payload))
        return response

    def execute(self, work: Callable[[], Any]) -> Response:
        """Do the work, and record its outcome; to be called in the worker thread."""
        self._has_started = True
        response = responses.failed(self.call.name, ConnectionLost(INTERRUPTION))  # unless something else is known
        try:
            self._outcomes.save(_id(self.call), RequestRecord(self.fingerprint, begun=True, payload=_paths(self.call)))
            try:
                response = responses.succeeded(work())
            except SFTPError as error:
                response = responses.failed(self.call.name, error)
            self._outcomes.save(_id(self.call), _outcome(self.call, self.fingerprint, response))
        finally:
            self._finish(response)
        return response

    def _finish(self, response: Response) -> None:
        del self._running[_id(self.call)]
        self._response.set_result(response)


class _Outcomes:
    """The outcomes of calls by their ids: in the journal, and in memory while that cannot be written."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._in_memory: OrderedDict[str, RequestRecord] = OrderedDict()
        self._threads = WorkerThreads(THREADS, name="request-ids")

    async def look_up(self, name: str, deadline: float) -> RequestRecord | None:
        """Return what is known of an id; a journal whose file system hangs delays the call until its deadline only."""
        lookup = asyncio.get_running_loop().run_in_executor(self._threads, self._find, name)
        await asyncio.wait({lookup}, timeout=max(0.0, deadline - time.monotonic()))
        if not lookup.done():
            lookup.cancel()
            message = "the journal, which holds the request ids, did not answer in time: nothing was done"
            raise DeadlineExceeded(message)
        return lookup.result()

    def save(self, name: str, request: RequestRecord) -> None:
        """Record what is known of an id; blocks."""
        try:
            self._journal.save_request(name, request)
            self._in_memory.pop(name, None)
        except SFTPError:  # the journal has reported it; the call goes on without it
            self._in_memory[name] = request
            while len(self._in_memory) > IN_MEMORY:
                self._in_memory.popitem(last=False)

    def _find(self, name: str) -> RequestRecord | None:
        request = self._in_memory.get(name)
        if request is not None:
            return request
        try:
            return self._journal.find_request(name)
        except SFTPError:
            return None


def check_same_call(known: RequestRecord, call: Call) -> None:
    """Compare a call with the one that its id belongs to.

    Raises:
        RequestIdConflict: they differ.
    """
    _check_same(known.fingerprint, call)


def _check_same(fingerprint: str, call: Call) -> None:
    if fingerprint != _fingerprint(call):
        message = "this request_id was used for another call: give each call its own, and repeat a call unchanged"
        raise RequestIdConflict(message)


def _id(call: Call) -> str:
    return _request(call).request_id or ""


def _fingerprint(call: Call) -> str:
    return _request(call).fingerprint(call.name)


def _paths(call: Call) -> dict[str, Any] | None:
    return _request(call).filled_paths()


def _request(call: Call) -> ChangeRequest:
    return cast("ChangeRequest", call.request)  # no other request has an id


def _recalled(call: Call, known: RequestRecord) -> Response | None:
    """Return the response that follows from a recorded outcome; `None` if the call has to be executed (again)."""
    _check_same(known.fingerprint, call)
    if known.status is not None:
        code = known.payload.get("code") if isinstance(known.payload, dict) else None
        return Response(known.status, known.payload, code)
    if known.begun and not call.method.is_idempotent:
        return responses.failed(call.name, ConnectionLost(INTERRUPTION))
    return None


def _outcome(call: Call, fingerprint: str, response: Response) -> RequestRecord:
    """Return what is to be recorded of a call with this response."""
    if response.code is not None:
        error = error_for_code(response.code)
        if error.retry is not Retry.NEVER and (call.method.is_idempotent or not error.leaves_doubt):
            return RequestRecord(fingerprint, payload=_paths(call))
    return RequestRecord(fingerprint, status=response.status, payload=response.payload)
