"""Safe repeats: a call that comes again with the same `request_id` is answered as the first one was.

What became of a call is written down by the thread that did it, when it is done, however late that is: so a repeat
after a time-out finds the truth. Not every answer is an outcome. What surely was not done, because there was no way to
the server, is tried anew by a repeat. So is a transfer that was interrupted, as it goes on where it was and ends as
one. A deletion or a move that was interrupted is not tried again: it may have been done.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from iot.sftp.client import ConnectionLost, DeadlineExceeded, InvalidRequest, Retry, SFTPError, error_for_code
from iot.sftp.module._documents.requests import ChangeRequest
from iot.sftp.module._hub.response import Response
from iot.sftp.module._methods.table import Call, refused, succeeded
from iot.sftp.module._work.task_record import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from iot.sftp.module._work.journal import Journal

    Work = Callable[[], Any]
    Wrapped = Callable[[], Response]

IN_MEMORY = 1_000  # outcomes, while the journal cannot be used
THREADS = 4

INTERRUPTION = (
    "the module was ended while it did this, and whether the server has done it is not known: look, and call again "
    "with another request_id if it is still wanted"
)


class RequestIdConflict(InvalidRequest):
    """The request id was used for another call: give each call its own."""

    code = "request_id_conflict"


@dataclass
class _First:
    """The first call with an id, while it is there."""

    fingerprint: str
    response: Future[Response] = field(default_factory=Future)
    begun: bool = False


class RequestIds:
    """Knows the calls that came with an id; lives in the event loop, but for what it says otherwise."""

    def __init__(self, journal: Journal) -> None:
        """Write down there what has to be known after a restart."""
        self._journal = journal
        self._here: dict[str, _First] = {}
        self._in_memory: OrderedDict[str, RequestRecord] = OrderedDict()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="request-ids")

    def check(self, call: Call) -> None:
        """Refuse a call whose id belongs to another one that is here at the moment."""
        name, fingerprint = _key(call)
        first = self._here.get(name)
        if first is not None:
            _compare(first.fingerprint, fingerprint)

    async def once(
        self, call: Call, deadline: float, carry_out: Callable[[Callable[[Work], Wrapped]], Awaitable[Response]]
    ) -> Response:
        """Carry a call out, unless that was done already; return its response, or that of the first.

        Parameters:
            call: one with a request id.
            deadline: in `time.monotonic()`.
            carry_out: does it; what is done in a thread is to be wrapped by the function that it is given.

        Raises:
            SFTPError: it was not begun, or was used for another call, or has not come back in time.
        """
        name, fingerprint = _key(call)
        first = self._here.get(name)
        if first is not None:
            _compare(first.fingerprint, fingerprint)
            return await _response_of(first, deadline)
        first = self._here[name] = _First(fingerprint)
        response: Response | None = None
        try:
            known = await self._known(name, deadline)
            response = _recalled(call, fingerprint, known)
            if response is None:
                response = await carry_out(lambda work: lambda: self._do(call, first, work))
        except SFTPError as error:
            response = refused(call.name, error)
            raise
        finally:
            if not first.begun:  # the thread that does it says itself what became of it
                del self._here[name]
                given_up = refused(call.name, ConnectionLost("the call was given up"))
                first.response.set_result(given_up if response is None else response)
        return response

    async def _known(self, name: str, deadline: float) -> RequestRecord | None:
        """Look an id up; a journal whose file system hangs holds the call up until its deadline, and no longer."""
        looking = asyncio.get_running_loop().run_in_executor(self._threads, self._find, name)
        await asyncio.wait({looking}, timeout=max(0.0, deadline - time.monotonic()))
        if not looking.done():
            looking.cancel()
            message = "the journal, where request ids are looked up, did not answer in time: nothing was done"
            raise DeadlineExceeded(message)
        return looking.result()

    # --- in the thread that does the work

    def _do(self, call: Call, first: _First, work: Work) -> Response:
        name, fingerprint = _key(call)
        first.begun = True
        response = refused(call.name, ConnectionLost(INTERRUPTION))  # if a defect leaves nothing else to say
        try:
            self._save(name, RequestRecord(fingerprint, begun=True))
            try:
                response = succeeded(work())
            except SFTPError as error:
                response = refused(call.name, error)
            self._save(name, _request(call, fingerprint, response))
        finally:
            del self._here[name]
            first.response.set_result(response)
        return response

    def _save(self, name: str, request: RequestRecord) -> None:
        try:
            self._journal.save_request(name, request)
            self._in_memory.pop(name, None)
        except SFTPError:  # the journal has told of it; the call is not held up
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


def _key(call: Call) -> tuple[str, str]:
    request = cast("ChangeRequest", call.request)  # the others have no id
    return request.request_id or "", request.fingerprint(call.name)


def _compare(first: str, second: str) -> None:
    if first != second:
        message = "this request_id was used for another call: give each call its own, and repeat one as it was"
        raise RequestIdConflict(message)


def compare(known: RequestRecord, call: Call) -> None:
    """Refuse a call whose id belongs to another one.

    Raises:
        RequestIdConflict: it does.
    """
    _compare(known.fingerprint, _key(call)[1])


def _recalled(call: Call, fingerprint: str, known: RequestRecord | None) -> Response | None:
    """Return the response that is known; none if the call is to be carried out, now or again."""
    if known is None:
        return None
    _compare(known.fingerprint, fingerprint)
    if known.status is not None:
        code = known.payload.get("code") if isinstance(known.payload, dict) else None
        return Response(known.status, known.payload, code)
    if known.begun and not call.method.repeatable:
        return refused(call.name, ConnectionLost(INTERRUPTION))
    return None


def _request(call: Call, fingerprint: str, response: Response) -> RequestRecord:
    """Say what is to be known of a call that got this response."""
    if response.code is not None:
        error = error_for_code(response.code)
        if error.retry is not Retry.NEVER and (call.method.repeatable or not error.leaves_doubt):
            return RequestRecord(fingerprint)
    return RequestRecord(fingerprint, status=response.status, payload=response.payload)


async def _response_of(first: _First, deadline: float) -> Response:
    waiting = asyncio.wrap_future(first.response)
    await asyncio.wait({waiting}, timeout=max(0.0, deadline - time.monotonic()))
    if not waiting.done():
        message = "the first call with this request_id is still running: ask again later"
        raise DeadlineExceeded(message)
    return waiting.result()
