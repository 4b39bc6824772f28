"""The module, put together from its parts, and its orderly end."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from iot.sftp.client import NoSpace, __version__
from iot.sftp.module._app.check_server import CheckServer
from iot.sftp.module._app.configuration import Configuration
from iot.sftp.module._app.metrics import Metrics, MetricsContext, identity, serve
from iot.sftp.module._app.queue_document import queue_document
from iot.sftp.module._app.state_claim import StateClaim
from iot.sftp.module._app.status import Status
from iot.sftp.module._app.twin_follower import TwinFollower, version_of
from iot.sftp.module._base.state_directory import StateLock
from iot.sftp.module._base.timeouts import in_thread
from iot.sftp.module._base.times import rfc3339
from iot.sftp.module._base.uncaught import log_loop_exception
from iot.sftp.module._documents.servers import on_server
from iot.sftp.module._documents.template import Placeholders
from iot.sftp.module._documents.twin import TransfersSection
from iot.sftp.module._hub.hub import Hub, HubLost
from iot.sftp.module._hub.loop_watch import watch_loop
from iot.sftp.module._hub.paho import survive_broken_connections
from iot.sftp.module._hub.reported import Reporter
from iot.sftp.module._hub.restarts import RestartBudget
from iot.sftp.module._methods.dispatcher import Dispatcher
from iot.sftp.module._methods.idempotency import Idempotency
from iot.sftp.module._methods.message_calls import MessageCalls
from iot.sftp.module._methods.method import MethodContext
from iot.sftp.module._retention.proof import Duties
from iot.sftp.module._retention.retention import Retention, RetentionContext
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.current_placeholders import CurrentPlaceholders
from iot.sftp.module._work.current_session import SessionState
from iot.sftp.module._work.delivery_ledgers import DeliveryLedgers
from iot.sftp.module._work.due_times import DueTimes
from iot.sftp.module._work.file_events import FileEvents
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.outbox import Outbox
from iot.sftp.module._work.outgoing import ANSWERS
from iot.sftp.module._work.server_slots import ServerSlots
from iot.sftp.module._work.servers import Servers
from iot.sftp.module._work.tasks import Tasks
from iot.sftp.module._work.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client import SFTPError
    from iot.sftp.module._base.environment import Environment
    from iot.sftp.module._hub.input_message import InputMessage
    from iot.sftp.module._work.current_session import ConnectionState

CLOSE_LIMIT = 5.0  # seconds; SIGKILL follows SIGTERM after 10
END_LIMIT = 1.5  # seconds until the work in threads has ended
TWIN_HEADSTART = 5.0  # seconds that methods wait for the first configuration
CALLS_PATIENCE = 60.0  # seconds that calls by message wait for it, from the connection to the hub
EXIT_INTERVAL = 10.0  # seconds until it is asked again whether the module may exit

_log = logging.getLogger(__name__)


class Module:
    """Everything that lives as long as the process.

    It stays in one piece because it only connects the parts: each method passes on what one part reports to the others.
    """

    def __init__(self, environment: Environment, leave: Callable[[], None]) -> None:
        """Put the parts together, in the running event loop; nothing is started.

        Parameters:
            environment: what the module was started with.
            leave: ends the process at once, from any thread, when the event loop cannot do it any more.
        """
        self._loop = asyncio.get_running_loop()
        self._leave = leave
        self._stop = asyncio.Event()
        self._state = StateLock(environment.state_dir)
        self._claim = StateClaim(self._state.check, self._show_conflict)
        self._status = Status({"data": environment.local_root, "state": environment.state_dir})
        self._note_failure = self._status.failures.note
        self._servers = Servers(self._show_connection)
        local_files = LocalRoot(environment.local_root, environment.state_dir)
        ledgers = DeliveryLedgers(environment.state_dir, guard=self._state.check)
        journal = Journal(environment.state_dir, self._show_journal, guard=self._state.check)
        self._file_events = FileEvents(ledgers.events, journal.messages, self._wake_outbox)
        slots = ServerSlots(TransfersSection().concurrency, lambda: len(self._servers.all()))
        transfers = Transfers(self._servers, ledgers, local_files, self._file_events)
        self._tasks = Tasks(
            journal,
            slots,
            transfers.work,
            on_end=self._task_ended,
            on_failure=self._note_failure,
            forget=transfers.forget,
        )
        due_times = DueTimes(environment.state_dir, guard=self._state.check)
        rule_context = RuleContext(transfers, slots, ledgers, local_files, self._note_failure, due_times=due_times)
        self._rules = Rules(rule_context, self._rules_changed)
        self._retention = self._keep_room(environment, ledgers, local_files, transfers)
        placeholders = CurrentPlaceholders(
            Placeholders(environment.device, environment.module, environment.hub.partition(".")[0])
        )
        method_context = MethodContext(self._servers, transfers, self._tasks, self._status, local_files, placeholders)
        self._dispatcher = Dispatcher(method_context, slots, Idempotency(journal))
        self._connect_to_hub(environment, journal, slots)
        self._configuration = Configuration(
            environment,
            servers=self._servers,
            slots=slots,
            transfers=transfers,
            outbox=self._outbox,
            file_events=self._file_events,
            rules=self._rules,
            retention=self._retention,
            reporter=self._reporter,
            placeholders=placeholders,
            guard=self._state.check,
            in_loop=self._in_loop,
        )
        self._checks = CheckServer(
            environment.state_dir, self._configuration.servers.settings, self._configuration.servers.names
        )
        self._observe(environment, slots, transfers)

    def _keep_room(
        self, environment: Environment, ledgers: DeliveryLedgers, local_files: LocalRoot, transfers: Transfers
    ) -> Retention:
        """Make what deletes old files, also when a transfer finds no room."""
        state_dir = environment.state_dir
        duties = Duties(lambda: self._rules.in_force, self._servers, local_files, state_dir, time.time)
        context = RetentionContext(local_files, state_dir, ledgers.delivered, duties, self._file_events)
        retention = Retention(context)
        transfers.room.make = retention.make_room
        return retention

    def _connect_to_hub(self, environment: Environment, journal: Journal, slots: ServerSlots) -> None:
        """Make what talks to the edge hub."""
        survive_broken_connections()
        self._restarts = RestartBudget(environment.state_dir, guard=self._state.check)
        self._hub = Hub(
            self._dispatcher.answer,
            self._connected,
            self.desired_changed,
            on_input=self._message_arrived,
            may_exit=self._restarts.allow,
        )
        messages = self._store = journal.messages
        self._outbox = Outbox(messages, self._hub.send, gather=self._gather, on_sent=self._message_sent)
        self._calls = MessageCalls(
            messages, self._dispatcher, self._outbox, width=lambda: slots.share, servers=self._servers.all
        )
        self._twin = TwinFollower(self._hub.get_twin, self._apply)
        self._reporter = Reporter(self._hub.report, self._twin.fetch)

    def _observe(self, environment: Environment, slots: ServerSlots, transfers: Transfers) -> None:
        """Make what describes all the parts: the metrics, and the document of `get_status`."""
        parts = MetricsContext(
            self._hub,
            self._servers,
            self._dispatcher,
            transfers,
            self._tasks,
            self._rules,
            self._retention,
            self._status.disks,
            self._calls,
            self._outbox,
            self._store,
        )
        self._metrics, self._metrics_port = Metrics(parts, identity(environment)), environment.metrics_port
        self._describe(self._status, slots)

    def _describe(self, status: Status, slots: ServerSlots) -> None:
        """Add what `get_status` reports of the parts; it asks in other threads."""

        def hub() -> dict[str, Any]:
            state = "connected" if self._hub.is_connected else "disconnected"
            return {"state": state, "since": rfc3339(self._hub.since)}

        def queue() -> dict[str, Any]:
            return queue_document(slots, self._tasks.waiting, tuple(self._servers.all()))

        def messages() -> dict[str, Any]:
            waiting, sent = self._store.counts, self._outbox.sent
            received, dropped = self._calls.received, self._store.dropped
            return {"waiting": waiting, "received": dict(received), "sent": dict(sent), "dropped": dropped}

        def state() -> dict[str, Any] | None:
            other = self._claim.conflict
            return None if other is None else {"code": other.code, "message": other.message}

        status.add("state_directory", state)
        status.add("hub", hub)
        status.add("reported", lambda: self._reporter.wanted)
        status.add("settings", lambda: self._configuration.in_force)
        status.add("queue", queue)
        status.add("tasks", lambda: self._tasks.counts)
        status.add("messages", messages)
        status.add("retention", self._retention.document)

    def stop(self) -> None:
        """Ask the module to end; thread-safe."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def run(self) -> int:
        """Work until `stop`, or until the edge hub is lost; return the exit status."""
        self._loop.set_exception_handler(log_loop_exception)
        _log.info("module sftp %s starts", __version__)
        watch_loop(self._leave, self._restarts.allow)
        serve(self._metrics_port, self._metrics)
        stop = asyncio.create_task(self._stop.wait())
        claim = asyncio.create_task(self._begin_with_state())
        # After a restart the process before this one may still be ending: it uses the directory for some seconds
        await asyncio.wait({stop, claim}, timeout=self._claim.patience, return_when=asyncio.FIRST_COMPLETED)
        hub = (self._hub.run(), self._twin.run(), self._reporter.run())
        parts = (*hub, self._outbox.run(), self._calls.run(), self._file_events.run())
        work = [asyncio.create_task(part) for part in parts]
        await asyncio.wait({stop, *work}, return_when=asyncio.FIRST_COMPLETED)
        status = 0 if stop.done() else await self._exit_status(work, stop)
        _log.info("module sftp stops")
        for task in (*work, claim):
            task.cancel()
        await self._close()
        return status

    async def _begin_with_state(self) -> None:
        """Wait until the state directory is ours, and start what uses it."""
        if await self._claim.wait():
            _log.info("the state directory is free: this module uses it now")
            self._servers.default.replace(None, "the module has not received its desired properties yet")
            self._twin.fetch()
        self._checks.start()
        await asyncio.to_thread(self._tasks.start)

    async def _exit_status(self, work: list[asyncio.Task[None]], stop: asyncio.Task[Any]) -> int:
        """Log why the module exits, and return the exit status; after an internal error not before it may exit."""
        (error, *_) = (task.exception() for task in work if task.done())
        if isinstance(error, HubLost):
            _log.error("the module exits so that the edge agent restarts it: %s", error)
            return 1
        text = "the module exits so that the edge agent restarts it, after an internal error: %r"
        _log.error(text, error, exc_info=error)
        while not stop.done() and not self._restarts.allow():
            await asyncio.wait({stop}, timeout=EXIT_INTERVAL)  # what still works goes on meanwhile
        return 0 if stop.done() else 1

    async def _close(self) -> None:
        self._calls.stop()
        # Ends the work in threads first, so that those calls are answered before the hub is left
        with suppress(TimeoutError):
            await in_thread(self._end_work, END_LIMIT)
        await self._hub.close(CLOSE_LIMIT - 1)

    def _end_work(self) -> None:
        self._checks.stop()
        self._retention.stop(0.1)
        self._rules.stop(0.3)
        self._tasks.stop(1)
        self._servers.close()
        self._state.release()

    # --- What the parts report, from any thread

    def _task_ended(self, is_synced: bool) -> None:  # noqa: FBT001 - a callback
        if is_synced:
            self._outbox.wake()
        else:
            self._outbox.wake_soon()

    def _wake_outbox(self) -> None:
        self._outbox.wake()

    def _gather(self) -> None:
        self._file_events.gather(self._outbox.attempted)
        self._tasks.settle()

    def _message_arrived(self, message: InputMessage) -> None:
        self._calls.receive(message)

    def _message_sent(self, output: str) -> None:
        if output == ANSWERS:
            self._calls.wake()  # there may have been too many answers for further calls

    def _show_journal(self, failure: SFTPError | None) -> None:
        if failure is None:
            self._outbox.wake()  # it can go on with what could not be recorded as sent, or not be read
            self._calls.wake()
        else:
            self._note_failure("journal", failure.code, failure.message)
            if isinstance(failure, NoSpace):
                self._retention.ask_for_room()

        def show() -> None:
            self._configuration.report_journal(failure)

        self._loop.call_soon_threadsafe(show)

    def _show_connection(self, server: str, state: ConnectionState) -> None:
        if state.state is SessionState.FAILED:
            self._note_failure(on_server("connection", server), state.code or "", state.message or "")

        def show() -> None:
            self._configuration.servers.report_connection(server, state)

        self._loop.call_soon_threadsafe(show)
        if state.state in {SessionState.CONNECTING, SessionState.CONNECTED}:
            self._loop.call_soon_threadsafe(self._wake_tasks, server)

    def _wake_tasks(self, server: str) -> None:
        self._tasks.wake(server)
        self._rules.wake(server)

    def _rules_changed(self) -> None:
        self._in_loop(self._configuration.report_rules)

    def _in_loop(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the module has just ended
            self._loop.call_soon_threadsafe(function)

    # --- What the hub and the state directory report, in the event loop

    async def _connected(self) -> None:
        self._outbox.wake()
        self._reporter.doubt()
        # Methods are subscribed to afterwards: so the first one finds a configuration
        await self._twin.fetch_now(TWIN_HEADSTART)
        # Messages are kept, and wait longer for one: what is answered with `not_configured` is answered for good
        self._loop.call_later(CALLS_PATIENCE, self._calls.open)

    def desired_changed(self, patch: Any) -> None:
        """Take note of changed desired properties; to be called in the event loop."""
        self._twin.announce(patch)

    def _show_conflict(self, error: SFTPError) -> None:
        """Report that another module uses the state directory; without it, no server is connected to."""
        self._servers.default.replace(None, error.message)
        self._note_failure("state directory", error.code, error.message)

    def _apply(self, desired: dict[str, Any], reported: dict[str, Any]) -> None:
        if self._claim.conflict is None:  # else the twin is fetched again when the state directory is ours
            try:
                self._configuration.apply(desired)
            except Exception:  # noqa: BLE001 - the same document would come again after a restart
                text = "desired properties %d are not in force, because of an internal error"
                _log.exception(text, version_of(desired))
            self._calls.open()
        self._reporter.rebase(reported)
