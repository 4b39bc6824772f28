"""Calls that arrive as messages at the input `calls`: written down, carried out like direct methods, answered.

A message is acknowledged when it is in the journal, or when it is refused, which is an answer as well. It stays in the
journal until its answer takes its place. A process that is killed in between carries it out again, under the same
request id: the outcome of the first time is not lost.

Acknowledgements have to be in the order of all messages and method requests (see `_hub/sdk.py`). So none can be held
back until there is room: a call that finds the journal full, or unusable, is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections import Counter
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from iot.sftp.client import Busy, DeadlineExceeded, InvalidRequest, SFTPError, TooLarge
from iot.sftp.client._base.text import excerpt
from iot.sftp.client._base.threads import WorkerThreads
from iot.sftp.module._base.logging import about
from iot.sftp.module._documents.requests import ChangeRequest
from iot.sftp.module._documents.servers import DEFAULT_SERVER, NAME
from iot.sftp.module._hub.sdk import Malformed, parse_payload
from iot.sftp.module._methods import responses
from iot.sftp.module._methods.table import METHODS
from iot.sftp.module._work.message_store import IncomingCall, Taken, serving
from iot.sftp.module._work.outgoing import ANSWERS, Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from iot.sftp.module._hub.input_message import InputMessage
    from iot.sftp.module._hub.response import Response
    from iot.sftp.module._methods.dispatcher import Dispatcher
    from iot.sftp.module._work.message_store import MessageStore
    from iot.sftp.module._work.outbox import Outbox

T = TypeVar("T")
W = TypeVar("W")

INPUT = "calls"
BODY_MAXIMUM = 256 * 1024  # bytes, the edge hub's limit for a message
WRITE_LIMIT = 5.0  # seconds that the journal has: meanwhile nothing else is received from the hub
RETRY_PAUSE = 5.0  # seconds until a journal that could not be used is tried again
NAME_SHOWN = 100  # characters of a method's name in an answer
EXAMPLE = '{"method": "upload_file", "payload": {"source": "…", "dest": "…"}}'

_log = logging.getLogger(__name__)


class MessageCalls:
    """Takes calls from the input, and carries them out in the order of each server, some at a time for each.

    So calls to a server that is dead delay none to another one.
    """

    def __init__(
        self,
        store: MessageStore,
        dispatcher: Dispatcher,
        outbox: Outbox,
        *,
        width: Callable[[], int],
        servers: Callable[[], Collection[str]] = lambda: (DEFAULT_SERVER,),
        write_limit: float = WRITE_LIMIT,
    ) -> None:
        """Take the parts; nothing runs before `run` and `open`.

        Parameters:
            store: where calls and answers are written.
            dispatcher: carries a call out.
            outbox: sends the answers.
            width: returns how many calls may run at a time for each server.
            servers: returns the names of the servers that there are.
            write_limit: seconds that the journal has to write a call down.
        """
        self._store = store
        self._dispatcher = dispatcher
        self._outbox = outbox
        self._width = width
        self._servers = servers
        self._write_limit = write_limit
        self._writer = WorkerThreads(1, name="calls")
        self._hanging: Future[Any] | None = None
        self._held: set[str] = set()  # calls of which it is not known yet whether they were written in time
        self._running: dict[str, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted = asyncio.Event()
        self._open = asyncio.Event()
        self.received: Counter[str] = Counter({outcome.value: 0 for outcome in Taken})  # since the process began

    # --- arrival, in the thread that receives messages

    def receive(self, message: InputMessage) -> None:
        """Take a message, which is acknowledged when this returns; never raises."""
        try:
            self._receive(message)
        except Exception:  # noqa: BLE001 - whatever it is, the thread must go on that receives messages
            _log.exception("internal error: a message to input '%s' is lost", excerpt(message.input, NAME_SHOWN))

    def _receive(self, message: InputMessage) -> None:
        if message.input != INPUT:
            name = excerpt(message.input, NAME_SHOWN)
            text = "a message to input '%s' is ignored: there is only '%s', is the route misspelt?"
            _log.warning(text, name, INPUT, extra=about("input"))
            return
        call = IncomingCall(message.key or uuid.uuid4().hex, message.message_id, message.body, _server_in(message.body))
        try:
            taken = self._write_down(call)
        except SFTPError as error:
            taken = Taken.REFUSED
            self._refuse(call, error)
        self.received[taken.value] += 1
        if taken is not Taken.REFUSED:
            self.wake()
        if taken is Taken.REPEATED:
            self._outbox.wake()  # its answer is sent again, if there is one already

    def _write_down(self, call: IncomingCall) -> Taken:
        """Write a call into the journal.

        Raises:
            SFTPError: it cannot be taken, and the message says why.
        """
        if len(call.body) > BODY_MAXIMUM:
            raise TooLarge(f"the message has {len(call.body)} bytes, and {BODY_MAXIMUM} are the most")
        servers = self._servers()
        writing = self._begin(partial(self._take, servers=servers), call)
        try:
            taken = self._result_of(writing)
        except DeadlineExceeded:
            writing.add_done_callback(lambda done: self._take_back(call, done))
            raise
        self._held.discard(call.key)
        if taken is Taken.REFUSED:
            bound = self._store.limits.calls_of_each(len(servers))
            message = f"{bound.count} calls, or {bound.size} bytes of them, are waiting for this server: send fewer"
            raise Busy(message)
        return taken

    def _take(self, call: IncomingCall, servers: Collection[str]) -> Taken:
        self._held.add(call.key)
        try:
            return self._store.take(call, servers=servers)
        except BaseException:
            self._held.discard(call.key)
            raise

    def _begin(self, write: Callable[[W], T], what: W) -> Future[T]:
        """Write into the journal, in a thread of its own: its file system may hang.

        Raises:
            DeadlineExceeded: it does.
            LocalBusy: the system has no thread left.
        """
        if self._hanging is not None and not self._hanging.done():
            raise DeadlineExceeded("the journal does not answer: the call was not taken")
        return self._writer.submit(write, what)

    def _result_of(self, writing: Future[T]) -> T:
        try:
            return writing.result(self._write_limit)
        except FutureTimeoutError:
            self._hanging = writing
            raise DeadlineExceeded("the journal did not answer in time: the call was not taken") from None

    def _take_back(self, call: IncomingCall, done: Future[Taken]) -> None:
        """Forget a call that was refused because its writing hung, before a further one is written."""
        with suppress(SFTPError):  # where it cannot be forgotten, it is carried out after a restart
            if done.exception() is None and done.result() is Taken.ACCEPTED:
                self._store.forget_call(call.key)
            self._held.discard(call.key)
            self.wake()

    def _refuse(self, call: IncomingCall, error: SFTPError) -> None:
        _log.warning("a call by message is refused: %s: %s", error.code, error.message, extra=about("calls"))
        name = _parsed(call.body)[0]
        answer = _answer(call, name, responses.failed(name or "", error))
        try:
            self._result_of(self._begin(self._store.refuse, answer))
            self._outbox.wake()
        except SFTPError:
            self._outbox.send_unkept(answer)

    # --- execution, in the event loop

    def open(self) -> None:
        """Begin: the hub is there, and the module has its configuration if there is one."""
        self._open.set()

    async def run(self) -> None:
        """Carry out calls until this is cancelled."""
        self._loop = asyncio.get_running_loop()
        await self._open.wait()
        while True:
            self._wanted.clear()
            try:
                calls = await asyncio.to_thread(self._next_calls, frozenset(self._running))
            except SFTPError:  # logged by the journal
                await asyncio.sleep(RETRY_PAUSE)
                continue
            for call in calls:
                self._running[call.key] = asyncio.create_task(self._carry_out(call))
            await self._wanted.wait()

    def _next_calls(self, running: Collection[str]) -> list[IncomingCall]:
        """Return the calls that may run now beside those that do, in a thread.

        Raises:
            SFTPError: the journal cannot be used.
        """
        known, width, found = self._servers(), self._width(), list[IncomingCall]()
        waiting = {key: serving(server, known) for key, server in self._store.waiting_calls().items()}
        busy = Counter(waiting[key] for key in running if key in waiting)
        for key, server in waiting.items():
            if key in running or key in self._held or busy[server] >= width:
                continue
            call = self._store.waiting_call(key)
            if call is not None:
                busy[server] += 1
                found.append(call)
        return found

    def stop(self) -> None:
        """Leave what runs without an answer: it is carried out again, or its outcome found, after the restart."""
        for task in self._running.values():
            task.cancel()

    def wake(self) -> None:
        """Look for calls that can be carried out, as there is one more, or room for an answer again; thread-safe."""
        if self._loop is None:
            self._wanted.set()
        else:
            with suppress(RuntimeError):  # the module has just ended
                self._loop.call_soon_threadsafe(self._wanted.set)

    async def _carry_out(self, call: IncomingCall) -> None:
        try:
            name, payload, error = _parsed(call.body)
            if name is None or error is not None:
                response = self._refused_body(name, error or "")
            else:
                response = await self._dispatcher.answer(name, _with_request_id(name, payload, call))
            await self._keep(call, _answer(call, name, response))
            self._outbox.wake()
        except Exception:  # noqa: BLE001 - whatever it is, the other calls go on, and this one is tried again
            _log.exception("internal error: a call by message is not answered yet")
            await asyncio.sleep(RETRY_PAUSE)
        finally:
            del self._running[call.key]
            self._wanted.set()

    def _refused_body(self, name: str | None, reason: str) -> Response:
        _log.warning("a call by message is refused: %s", reason, extra=about("calls"))
        return responses.failed(name or "", InvalidRequest(reason))

    async def _keep(self, call: IncomingCall, answer: Outgoing) -> None:
        """Write the answer into the journal, however long that takes: the call must not be carried out again."""
        while True:
            try:
                await asyncio.to_thread(self._store.answer, call, answer)
            except SFTPError:  # logged by the journal
                await asyncio.sleep(RETRY_PAUSE)
            else:
                return


def _parsed(body: bytes) -> tuple[str | None, Any, str | None]:
    """Return the method and the payload of a call, or as much as there is and what is wrong with it."""
    document = parse_payload(body) if body.strip() else Malformed("it is empty")
    if isinstance(document, Malformed):
        return None, None, f"the message is not valid JSON: {document.reason}"
    if not isinstance(document, dict):
        return None, None, f"the message must be a JSON object, such as {EXAMPLE}"
    name = document.get("method")
    if not isinstance(name, str):
        return None, None, f"'method' must be a string, as in {EXAMPLE}"
    unknown = [excerpt(key, NAME_SHOWN) for key in document if key not in {"method", "payload"}]
    if unknown:
        return name, None, f"'{unknown[0]}' is not known here; known are: method, payload"
    return name, document.get("payload"), None


def _server_in(body: bytes) -> str:
    """Return the name of the server that a call gives; what cannot be one is answered in the default one's turn."""
    payload = _parsed(body)[1] if len(body) <= BODY_MAXIMUM else None
    server = payload.get("server") if isinstance(payload, dict) else None
    return server if isinstance(server, str) and NAME.fullmatch(server) else DEFAULT_SERVER


def _with_request_id(name: str, payload: Any, call: IncomingCall) -> Any:
    """Return the payload with an idempotency key, if the method takes one: the caller's, or the message's id."""
    method = METHODS.get(name)
    payload = {} if payload is None else payload
    takes_one = method is not None and issubclass(method.request, ChangeRequest)
    if not takes_one or not isinstance(payload, dict) or payload.get("request_id") is not None:
        return payload
    message_id = call.message_id
    return {**payload, "request_id": message_id if message_id and message_id.isprintable() else call.key}


def _answer(call: IncomingCall, name: str | None, response: Response) -> Outgoing:
    method = None if name is None else excerpt(name, NAME_SHOWN)
    body = {"method": method, "status": response.status, "payload": response.payload}
    return Outgoing(ANSWERS, f"{call.key}-answer", json.dumps(body), call.message_id)
