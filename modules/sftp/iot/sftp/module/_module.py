"""The module, put together: requests to calls, twins to configurations, and an orderly end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from azure.iot.device import exceptions

from iot.sftp.client import SFTPError, __version__
from iot.sftp.module._app.check_server import CheckServer
from iot.sftp.module._app.configuration import Configuration
from iot.sftp.module._app.metrics import Metrics, Sources, identity, serve
from iot.sftp.module._app.status import Status
from iot.sftp.module._base.state_directory import StateLock
from iot.sftp.module._base.timeouts import in_thread, pauses
from iot.sftp.module._base.times import rfc3339
from iot.sftp.module._base.uncaught import log_loop_exception
from iot.sftp.module._base.wording import with_causes
from iot.sftp.module._hub.hub import Hub, HubLost
from iot.sftp.module._hub.loop_watch import watch_loop
from iot.sftp.module._hub.paho import survive_broken_connections
from iot.sftp.module._hub.reported import Reporter
from iot.sftp.module._hub.restarts import Endings
from iot.sftp.module._methods.dispatcher import Dispatcher
from iot.sftp.module._methods.request_ids import RequestIds
from iot.sftp.module._methods.table import Parts
from iot.sftp.module._rules.run import RuleContext
from iot.sftp.module._rules.runner import Rules
from iot.sftp.module._work.current_session import CurrentSession, SessionState
from iot.sftp.module._work.delivery_ledger import DeliveryLedgers
from iot.sftp.module._work.events import Announcer
from iot.sftp.module._work.journal import Journal
from iot.sftp.module._work.local_files import LocalRoot
from iot.sftp.module._work.slots import Kind, Slots
from iot.sftp.module._work.tasks import Tasks
from iot.sftp.module._work.transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.module._base.environment import Environment
    from iot.sftp.module._work.current_session import ConnectionState

CLOSE_LIMIT = 5.0  # seconds; SIGKILL follows SIGTERM after 10
END_LIMIT = 1.5  # seconds until what runs in threads has ended
TWIN_HEADSTART = 5.0  # seconds that methods wait for the first configuration
STATE_PATIENCE = 10.0  # seconds that a process before this one has to end: it is killed by then
STATE_PAUSE = 1.0  # seconds between two tries to have the state directory
REMINDER = 300.0  # seconds between two lines that say that another module has it
TRANSFERS = 2  # at a time, until the twin says otherwise
END_PAUSE = 10.0  # seconds until it is asked again whether the module may end
STALE_TRIES = 5  # fetches of a twin that is older than the one that was announced

_log = logging.getLogger(__name__)


class Module:
    """Everything that lives as long as the process."""

    def __init__(self, environment: Environment, leave: Callable[[], None]) -> None:
        """Put the parts together, in the running event loop; nothing is started.

        Parameters:
            environment: what the module was started with.
            leave: ends the process at once, from any thread, when the event loop cannot do it any more.
        """
        self._loop = asyncio.get_running_loop()
        self._leave = leave
        self._stop = asyncio.Event()
        self._twin_wanted = asyncio.Event()
        self._announced = 0  # the highest $version that the hub has announced
        self._twin_applied = asyncio.Event()
        self._sessions = CurrentSession(self._show_connection)
        self._state = StateLock(environment.state_dir)
        self._others_state: SFTPError | None = None  # while another module uses the state directory
        local_files = LocalRoot(environment.local_root, environment.state_dir)
        ledgers = DeliveryLedgers(environment.state_dir, guard=self._state.check)
        slots, transfers = Slots(TRANSFERS), Transfers(self._sessions, ledgers, local_files)
        journal = Journal(environment.state_dir, self._show_journal, guard=self._state.check)
        status = Status({"data": environment.local_root, "state": environment.state_dir})
        self._note_failure = status.failures.note
        self._tasks = Tasks(
            journal,
            slots,
            transfers.work,
            on_end=self._task_ended,
            on_failure=self._note_failure,
            forget=transfers.forget,
        )
        parts = Parts(self._sessions, transfers, self._tasks, status)
        self._dispatcher = Dispatcher(parts, slots, RequestIds(journal))
        survive_broken_connections()
        self._endings = Endings(environment.state_dir, guard=self._state.check)
        self._hub = Hub(self._dispatcher.answer, self._connected, self._desired, may_end=self._endings.allow)
        self._announcer = Announcer(journal, self._hub.send)
        self._reporter = Reporter(self._hub.report, self._twin_wanted.set)
        context = RuleContext(self._sessions, transfers, slots, ledgers, local_files, self._note_failure)
        self._rules = Rules(context, self._rules_changed)
        self._configuration = Configuration(
            environment,
            sessions=self._sessions,
            slots=slots,
            transfers=transfers,
            announcer=self._announcer,
            rules=self._rules,
            reporter=self._reporter,
        )
        self._checks = CheckServer(environment.state_dir, lambda: self._configuration.server)
        self._describe(status, slots)
        sources = Sources(
            self._hub, self._sessions, self._dispatcher, transfers, self._tasks, self._rules, status.disks
        )
        self._metrics, self._metrics_port = Metrics(sources, identity(environment)), environment.metrics_port

    def _describe(self, status: Status, slots: Slots) -> None:
        """Say what `get_status` tells of the parts; it asks in other threads."""

        def hub() -> dict[str, Any]:
            state = "connected" if self._hub.is_connected else "disconnected"
            return {"state": state, "since": rfc3339(self._hub.since)}

        def queue() -> dict[str, Any]:
            (calls, call_age), (tasks, task_age) = slots.waiting(Kind.CALL), self._tasks.waiting
            counts = {"places": slots.width, "running": slots.running, "calls_waiting": calls, "tasks_waiting": tasks}
            return {**counts, "oldest": round(max(call_age, task_age), 1)}

        def state() -> dict[str, Any] | None:
            other = self._others_state
            return None if other is None else {"code": other.code, "message": other.message}

        status.add("state_directory", state)
        status.add("hub", hub)
        status.add("reported", lambda: self._reporter.wanted)
        status.add("settings", lambda: self._configuration.in_force)
        status.add("queue", queue)
        status.add("tasks", lambda: self._tasks.counts)

    def stop(self) -> None:
        """Ask the module to end; from any thread."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def run(self) -> int:
        """Work until `stop`, or until the edge hub is lost; return the exit status."""
        self._loop.set_exception_handler(log_loop_exception)
        _log.info("module sftp %s starts", __version__)
        watch_loop(self._leave, self._endings.allow)
        serve(self._metrics_port, self._metrics)
        stop = asyncio.create_task(self._stop.wait())
        holding = asyncio.create_task(self._hold_state())
        # After a restart the process before may still be ending: it has the directory for some seconds
        await asyncio.wait({stop, holding}, timeout=STATE_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        parts = (self._hub.run(), self._follow_twin(), self._reporter.run(), self._announcer.run())
        work = [asyncio.create_task(part) for part in parts]
        await asyncio.wait({stop, *work}, return_when=asyncio.FIRST_COMPLETED)
        status = 0 if stop.done() else await self._end(work, stop)
        _log.info("module sftp stops")
        for task in (*work, holding):
            task.cancel()
        await self._close()
        return status

    async def _hold_state(self) -> None:
        """Wait for the state directory to be ours, and begin what uses it; without it, there is no server to speak to.

        Calls, tasks and rules of two modules on one directory would do each other's work. So the second one says what
        is wrong wherever somebody may look for it, and takes over when the first one has ended.
        """
        waited, due = 0.0, 0.0
        while (error := await asyncio.to_thread(self._state_of_others)) is not None:
            if self._others_state is None:
                self._sessions.replace(None, error.message)
            self._others_state = error
            if waited >= due:
                level, due = (logging.ERROR, waited + REMINDER) if waited else (logging.WARNING, STATE_PATIENCE)
                _log.log(level, "%s", error.message)
                self._note_failure("state directory", error.code, error.message)
            waited += STATE_PAUSE
            await asyncio.sleep(STATE_PAUSE)
        if self._others_state is not None:
            _log.info("the state directory is free: this module uses it now")
            self._others_state = None
            self._sessions.replace(None, "the module has not received its desired properties yet")
            self._twin_wanted.set()
        self._checks.start()
        await asyncio.to_thread(self._tasks.start)

    async def _end(self, work: list[asyncio.Task[None]], stop: asyncio.Task[Any]) -> int:
        """Say why the module ends; return the exit status, after a defect not before the module may end by itself."""
        (error, *_) = (task.exception() for task in work if task.done())
        if isinstance(error, HubLost):
            _log.error("the module ends to be started anew: %s", error)
            return 1
        _log.error("the module ends to be started anew, after a defect: %r", error, exc_info=error)
        while not stop.done() and not self._endings.allow():
            await asyncio.wait({stop}, timeout=END_PAUSE)  # what still works goes on meanwhile
        return 0 if stop.done() else 1

    async def _close(self) -> None:
        # Ends what runs in the threads, so that those calls are answered before the hub is left
        with suppress(TimeoutError):
            await in_thread(self._end_work, END_LIMIT)
        await self._hub.close(CLOSE_LIMIT - 1)

    def _end_work(self) -> None:
        self._checks.stop()
        self._rules.stop(0.3)
        self._tasks.stop(1)
        self._sessions.close()
        self._state.release()

    def _task_ended(self) -> None:
        self._announcer.wake()

    def _show_journal(self, trouble: SFTPError | None) -> None:
        if trouble is None:
            self._announcer.wake()  # what could not be noted as told, or not be read, is gone on with
        else:
            self._note_failure("journal", trouble.code, trouble.message)

        def show() -> None:
            self._configuration.report_journal(trouble)

        self._loop.call_soon_threadsafe(show)

    def _show_connection(self, state: ConnectionState) -> None:
        if state.state is SessionState.FAILED:
            self._note_failure("connection", state.code or "", state.message or "")

        def show() -> None:
            self._configuration.report_connection(state)

        self._loop.call_soon_threadsafe(show)  # any thread may have found it
        if state.state in {SessionState.CONNECTING, SessionState.CONNECTED}:
            self._loop.call_soon_threadsafe(self._wake_tasks)

    def _wake_tasks(self) -> None:
        self._tasks.wake()
        self._rules.wake()

    def _rules_changed(self) -> None:
        with suppress(RuntimeError):  # the module has just ended
            self._loop.call_soon_threadsafe(self._configuration.report_rules)

    async def _connected(self) -> None:
        self._announcer.wake()
        self._reporter.doubt()
        self._twin_applied.clear()
        self._twin_wanted.set()
        # Methods are subscribed to afterwards: so the first one finds a configuration
        waiting = asyncio.ensure_future(self._twin_applied.wait())
        await asyncio.wait({waiting}, timeout=TWIN_HEADSTART)
        waiting.cancel()

    def _desired(self, patch: Any) -> None:
        self._announced = max(self._announced, _version(patch))
        self._twin_wanted.set()

    async def _follow_twin(self) -> None:
        """Fetch the twin whenever there is a reason to, and put it into force."""
        while True:
            await self._twin_wanted.wait()
            self._twin_wanted.clear()
            tries = 0
            for pause in pauses():
                try:
                    twin = await self._hub.get_twin()
                    desired, reported = dict(twin["desired"]), dict(twin["reported"])
                except exceptions.NoConnectionError:
                    break  # it is wanted again as soon as the hub is back
                except Exception as error:  # noqa: BLE001 - whatever it is, the twin is still wanted
                    _log.warning("the twin cannot be fetched, next try in %.0f s: %s", pause, with_causes(error))
                else:
                    tries += 1
                    self._apply(desired)
                    self._reporter.rebase(reported)
                    self._twin_applied.set()
                    if _version(desired) >= self._announced or tries == STALE_TRIES:
                        self._announced = 0
                        break
                await asyncio.sleep(pause)

    def _state_of_others(self) -> SFTPError | None:
        try:
            self._state.check()
        except SFTPError as error:
            return error
        return None

    def _apply(self, desired: dict[str, Any]) -> None:
        if self._others_state is not None:
            return  # it is fetched again when the state directory is ours
        try:
            self._configuration.apply(desired)
        except Exception:  # noqa: BLE001 - see below
            # The same document would come again after a restart: it must not end the process
            _log.exception("desired properties %d are not in force, because of a defect", _version(desired))


def _version(desired: Any) -> int:
    version = desired.get("$version") if isinstance(desired, dict) else None
    return version if isinstance(version, int) else 0
