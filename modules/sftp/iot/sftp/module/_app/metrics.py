"""The metrics for Prometheus and for Azure IoT Edge's metrics collector: the only file that knows of either.

The parts count their own work (`_base/counters.py`). A scrape reads these counts and the state of the parts. There are
no histograms: Azure's metrics collector does not accept the bucket `+Inf`, and Prometheus needs it. The duration of
calls is a summary, and the longest of the last minutes.

To add a metric, change these files:

1. the part that it is about: a count or a property, cheap to read from any thread;
2. this file: a line in the method of `ModuleCollector` for that part (for a new part, a field of `MetricsContext`);
3. `docs/metrics.md`: its row, which a test compares with what a module serves.
"""

from __future__ import annotations

import logging
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from iot.sftp.client import __version__
from iot.sftp.module._app.metrics_server import PATH, MetricsServer
from iot.sftp.module._methods.lanes import NO_SERVER
from iot.sftp.module._methods.method import Lane
from iot.sftp.module._rules.run import RunOutcome
from iot.sftp.module._work.current_session import SessionState
from iot.sftp.module._work.task_record import ENDED, LIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from iot.sftp.module._app.status import Disks
    from iot.sftp.module._base.environment import Environment
    from iot.sftp.module._hub.hub import Hub
    from iot.sftp.module._methods.dispatcher import Dispatcher
    from iot.sftp.module._methods.message_calls import MessageCalls
    from iot.sftp.module._retention.retention import Retention
    from iot.sftp.module._rules.runner import Rules
    from iot.sftp.module._work.message_store import MessageStore
    from iot.sftp.module._work.outbox import Outbox
    from iot.sftp.module._work.servers import Servers
    from iot.sftp.module._work.tasks import Tasks
    from iot.sftp.module._work.transfers import Transfers

LANES_OF_A_SERVER = (Lane.CONTROL, Lane.QUICK, Lane.TRANSFER)
QUEUES_OF_A_SERVER = tuple(f"{lane.value}_calls" for lane in LANES_OF_A_SERVER)
OTHER_QUEUES = tuple(f"{lane.value}_calls" for lane in Lane if lane not in LANES_OF_A_SERVER)
UNKNOWN = "unknown"  # a label is never empty: the metrics collector does not accept that

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MetricsContext:
    """The parts of the module that metrics are read from; none blocks, but the disks for half a second."""

    hub: Hub
    servers: Servers
    dispatcher: Dispatcher
    transfers: Transfers
    tasks: Tasks
    rules: Rules
    retention: Retention
    disks: Disks
    calls: MessageCalls
    outbox: Outbox
    messages: MessageStore


def identity(environment: Environment) -> dict[str, str]:
    """Return the labels of every sample, the same as those of edge agent and edge hub.

    `instance_number` differs from one start to the next: so counters that restart at 0 are not taken for decreasing.
    """
    return {
        "iothub": environment.hub or UNKNOWN,
        "edge_device": environment.device or UNKNOWN,
        "module_name": environment.module or UNKNOWN,
        "instance_number": str(uuid.uuid4()),
    }


class Metrics:
    """All metrics of the module, with its labels."""

    def __init__(self, parts: MetricsContext, labels: Mapping[str, str]) -> None:
        """Take the parts that are read, and the labels of every sample."""
        self._registry = CollectorRegistry(auto_describe=False)
        collectors = (ModuleCollector(parts), ProcessCollector(namespace="sftp", registry=None))
        for collector in collectors:
            self._registry.register(_Labelled(collector, labels))

    def text(self) -> bytes:
        """Return all metrics in the text format 0.0.4 of Prometheus."""
        return generate_latest(self._registry)


class _Labelled(Collector):
    """Adds labels to another collector's metrics."""

    def __init__(self, collector: Collector, labels: Mapping[str, str]) -> None:
        self._collector = collector
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        for metric in self._collector.collect():
            metric.samples = [sample._replace(labels={**sample.labels, **self._labels}) for sample in metric.samples]
            yield metric

    def describe(self) -> Iterable[Metric]:
        return ()  # called at the registration, when the parts may not be ready yet


class ModuleCollector(Collector):
    """Reads the parts of the module; one method for each of them."""

    def __init__(self, parts: MetricsContext) -> None:
        """Take the parts."""
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, as they are now."""
        yield _gauge("sftp_build_info", "The module's version; always 1.", {(__version__,): 1}, "version")
        yield from self._of_hub()
        yield from self._of_sessions()
        yield from self._of_calls()
        yield from self._of_transfers()
        yield from self._of_queues()
        yield from self._of_tasks()
        yield from self._of_rules()
        yield from self._of_retention()
        yield from self._of_messages()
        yield from self._of_process()
        yield from self._of_disks()

    def _of_hub(self) -> Iterator[Metric]:
        hub = self._parts.hub
        text = "1 if there is a connection to the edge hub, else 0."
        yield _gauge("sftp_hub_connected", text, {(): hub.is_connected})
        text = "Connections to the edge hub that followed a broken one."
        yield _counter("sftp_hub_reconnects", text, {(): hub.reconnects})

    def _of_sessions(self) -> Iterator[Metric]:
        servers = self._parts.servers.all()
        states = {
            (name, state.value): int(state is sessions.state.state)
            for name, sessions in servers.items()
            for state in sorted(SessionState)
        }
        text = "1 for the state of the session with an SFTP server, 0 for the other states."
        yield _gauge("sftp_session_state", text, states, "server", "state")
        reconnects = {(name,): sessions.totals().reconnects for name, sessions in servers.items()}
        text = "Sessions with an SFTP server that followed a broken or closed one."
        yield _counter("sftp_session_reconnects", text, reconnects, "server")
        failures = {
            (name, *code): count
            for name, sessions in servers.items()
            for code, count in sessions.failures.counts().items()
        }
        text = "Operations that failed because of the connection to an SFTP server, by error code."
        yield _counter("sftp_connection_failures", text, failures, "server", "code")

    def _of_calls(self) -> Iterator[Metric]:
        calls = self._parts.dispatcher.calls
        text = "Calls of direct methods, by the code of the response."
        yield _counter("sftp_calls", text, calls.answers.counts(), "method", "code")
        text = "Time from the arrival of a call to its response, in seconds."
        summary = SummaryMetricFamily("sftp_call_duration_seconds", text, labels=["method"])
        text = "The longest such time in the last 5 to 10 minutes, in seconds."
        longest = GaugeMetricFamily("sftp_call_duration_max_seconds", text, labels=["method"])
        for method, known in calls.durations.durations().items():
            summary.add_metric([method], count_value=known.count, sum_value=known.seconds)
            longest.add_metric([method], max(known.longest))
        yield summary
        yield longest

    def _of_transfers(self) -> Iterator[Metric]:
        servers = self._parts.servers.all()
        files = self._parts.transfers.moves.counts(servers)
        text = "Files whose transfer has ended, of calls, tasks and rules."
        yield _counter("sftp_transfers", text, files, "server", "direction", "outcome")
        of_tasks, of_rules = self._parts.tasks.retries, self._parts.rules.runs(servers)
        moved: dict[tuple[str, str], float] = {}
        retries: dict[tuple[str, str], float] = {}
        for name, sessions in servers.items():
            totals = sessions.totals()
            moved |= {(name, "download"): totals.downloaded, (name, "upload"): totals.uploaded}
            retries[name, "operation"] = totals.retries
            retries[name, "task"] = of_tasks.get(name, 0)
            retries[name, "rule"] = of_rules[name, RunOutcome.FAILED.value]
        text = "Bytes of files that were transferred, incomplete transfers included."
        yield _counter("sftp_transferred_bytes", text, moved, "server", "direction")
        yield _counter("sftp_retries", "Retries after a failure, made or scheduled.", retries, "server", "kind")

    def _of_queues(self) -> Iterator[Metric]:
        servers = self._parts.servers.all()
        known = [(queue, server) for server in servers for queue in (*QUEUES_OF_A_SERVER, "tasks")]
        known += [(queue, NO_SERVER) for queue in OTHER_QUEUES]
        queues = dict.fromkeys(known, (0, 0.0))
        queues |= {("tasks", server): found for server, found in self._parts.tasks.waiting.items()}
        for (lane, server), found in self._parts.dispatcher.waiting().items():
            if (f"{lane}_calls", server) in queues:  # not of servers that were removed
                queues[f"{lane}_calls", server] = found
        text = "Calls and tasks that wait in the queue."
        length = GaugeMetricFamily("sftp_queue_length", text)
        text = "How long the oldest of these has waited, in seconds; 0 if none waits."
        age = GaugeMetricFamily("sftp_queue_oldest_age_seconds", text)
        for (queue, server), (number, seconds) in queues.items():
            labels = {"queue": queue} | ({"server": server} if server != NO_SERVER else {})
            length.add_sample(length.name, labels, number)
            age.add_sample(age.name, labels, seconds)
        yield length
        yield age

    def _of_tasks(self) -> Iterator[Metric]:
        counts = self._parts.tasks.counts
        live = {(status.value,): counts.get(status.value, 0) for status in LIVE}
        yield _gauge("sftp_tasks", "Tasks that have not ended.", live, "status")
        text = "1 if tasks can be written to the journal, as far as is known, else 0."
        yield _gauge("sftp_journal_writable", text, {(): self._parts.tasks.can_be_accepted})
        ended = {(status.value,): counts.get(status.value, 0) for status in ENDED}
        yield _counter("sftp_tasks_ended", "Tasks that have ended.", ended, "status")

    def _of_rules(self) -> Iterator[Metric]:
        rules, servers = self._parts.rules, self._parts.servers.all()
        yield _gauge("sftp_rules", "Rules in force.", rules.states(servers), "server", "state")
        text = "Files that rules have delivered, but cannot delete or move at their source."
        not_removed = {(server,): count for server, count in rules.not_removed(servers).items()}
        yield _gauge("sftp_rule_files_not_removed", text, not_removed, "server")
        yield _counter("sftp_rule_runs", "Runs of rules that have ended.", rules.runs(servers), "server", "outcome")

    def _of_retention(self) -> Iterator[Metric]:
        retention = self._parts.retention
        text = "Local files that retention has deleted, by whether they were delivered."
        yield _counter("sftp_retention_deleted", text, retention.deleted.counts(), "delivered")
        text = "Bytes of these files."
        yield _counter("sftp_retention_deleted_bytes", text, retention.sizes.counts(), "delivered")
        text = "Folders of the section retention that hold too much still, as of the last look."
        yield _gauge("sftp_retention_unmet", text, {(): retention.unmet})

    def _of_messages(self) -> Iterator[Metric]:
        store = self._parts.messages
        received = {(outcome,): count for outcome, count in self._parts.calls.received.items()}
        yield _counter("sftp_messages_received", "Calls that arrived as messages.", received, "outcome")
        sent = {(output,): count for output, count in self._parts.outbox.sent.items()}
        yield _counter("sftp_messages_sent", "Messages that the edge hub has confirmed.", sent, "output")
        waiting = {(name,): count for name, count in store.counts.items()}
        text = "Calls by message that are not answered, and messages that are not sent, by output."
        yield _gauge("sftp_messages_waiting", text, waiting, "queue")
        text = "Messages that were dropped, or summarized, as too many waited for the edge hub."
        lost = {(output,): count for output, count in store.dropped.items()}
        yield _counter("sftp_messages_dropped", text, lost, "output")

    def _of_process(self) -> Iterator[Metric]:
        text = "Threads of the process, including the one that serves the scrape."
        yield _gauge("sftp_process_threads", text, {(): threading.active_count()})

    def _of_disks(self) -> Iterator[Metric]:
        # A stale value would look like a healthy disk: a file system that does not respond has no sample
        found = {(name,): disk for name, disk in self._parts.disks.free().items() if "error" not in disk}
        text = "Free bytes on the file system of the local root (data) or the state directory (state)."
        yield _gauge("sftp_disk_free_bytes", text, {name: disk["free"] for name, disk in found.items()}, "disk")
        sizes = {name: disk["total"] for name, disk in found.items()}
        yield _gauge("sftp_disk_size_bytes", "Size of that file system in bytes.", sizes, "disk")


def serve(port: int, metrics: Metrics, host: str = "") -> MetricsServer | None:
    """Serve the metrics in threads of their own; on port 0, serve nothing.

    A port that is in use is one warning in the log: the module works without metrics.
    """
    if port == 0:
        return None
    try:
        server = MetricsServer((host, port), metrics.text)
    except OSError as error:
        message = "SFTP_METRICS_PORT: there are no metrics, as port %d cannot be used: %s. Choose another port, or 0"
        _log.warning(message, port, error.strerror)
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    _log.info("metrics are at port %d, %s", port, PATH)
    return server


def _gauge(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    """Return a gauge; the keys of its values are the values of its labels."""
    metric = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        metric.add_metric(label_values, value)
    return metric


def _counter(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    """Return a counter; the keys of its values are the values of its labels."""
    metric = CounterMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        metric.add_metric(label_values, value)
    return metric
