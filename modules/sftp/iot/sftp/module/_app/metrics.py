"""What the module tells Prometheus, and the metrics collector of Azure IoT Edge: the only file that knows of either.

The parts count their own work (`_tallies`), and are asked for it and for their state when somebody scrapes. There are
no histograms: without the bucket `+Inf`, which Azure's metrics collector does not take, they are of no use to
Prometheus. How long calls take is told by a summary, and by the longest of the last minutes.
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
from iot.sftp.module._work.current_session import SessionState
from iot.sftp.module._work.task_record import ENDED, LIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from iot.sftp.module._app.status import Disks
    from iot.sftp.module._base.environment import Environment
    from iot.sftp.module._hub.hub import Hub
    from iot.sftp.module._methods.dispatcher import Dispatcher
    from iot.sftp.module._rules.runner import Rules
    from iot.sftp.module._work.current_session import CurrentSession
    from iot.sftp.module._work.tasks import Tasks
    from iot.sftp.module._work.transfers import Transfers

UNKNOWN = "unknown"  # the value of a label is never empty: the metrics collector takes none that is

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """The parts that are asked; none of them waits for anything, but the disks half a second for a file system."""

    hub: Hub
    sessions: CurrentSession
    dispatcher: Dispatcher
    transfers: Transfers
    tasks: Tasks
    rules: Rules
    disks: Disks


def identity(environment: Environment) -> dict[str, str]:
    """Return the labels of every sample, as those of edge agent and edge hub.

    `instance_number` differs from one start to the next: counters that begin again are told from those that went down.
    """
    return {
        "iothub": environment.hub or UNKNOWN,
        "edge_device": environment.device or UNKNOWN,
        "module_name": environment.module or UNKNOWN,
        "instance_number": str(uuid.uuid4()),
    }


class Metrics:
    """All metrics of the module, with its labels."""

    def __init__(self, sources: Sources, labels: Mapping[str, str]) -> None:
        """Take the parts that are asked, and the labels of every sample."""
        self._registry = CollectorRegistry(auto_describe=False)
        collectors = (ModuleCollector(sources), ProcessCollector(namespace="sftp", registry=None))
        for collector in collectors:
            self._registry.register(_Labelled(collector, labels))

    def text(self) -> bytes:
        """Return all of them in the text format 0.0.4 of Prometheus."""
        return generate_latest(self._registry)


class _Labelled(Collector):
    """Another collector's metrics with further labels."""

    def __init__(self, collector: Collector, labels: Mapping[str, str]) -> None:
        self._collector = collector
        self._labels = labels

    def collect(self) -> Iterator[Metric]:
        for metric in self._collector.collect():
            metric.samples = [sample._replace(labels={**sample.labels, **self._labels}) for sample in metric.samples]
            yield metric

    def describe(self) -> Iterable[Metric]:
        return ()  # asked for at the registration, where the parts may not be ready to answer


class ModuleCollector(Collector):
    """Asks the parts of the module."""

    def __init__(self, sources: Sources) -> None:
        """Take the parts."""
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Give all metrics, as they are now."""
        yield _gauge("sftp_build_info", "The module's version; always 1.", {(__version__,): 1}, "version")
        yield from self._of_hub()
        yield from self._of_session()
        yield from self._of_calls()
        yield from self._of_transfers()
        yield from self._of_queues()
        yield from self._of_tasks()
        yield from self._of_rules()
        yield from self._of_process()
        yield from self._of_disks()

    def _of_hub(self) -> Iterator[Metric]:
        hub = self._sources.hub
        yield _gauge("sftp_hub_connected", "Whether there is a connection to the edge hub.", {(): hub.is_connected})
        yield _counter("sftp_hub_reconnects", "Connections to the edge hub after one that broke.", {(): hub.reconnects})

    def _of_session(self) -> Iterator[Metric]:
        sessions = self._sources.sessions
        now, totals = sessions.state.state, sessions.totals()
        states = {(state.value,): int(state is now) for state in sorted(SessionState)}
        yield _gauge("sftp_session_state", "The state of the session with the SFTP server: 1.", states, "state")
        text = "Sessions with the SFTP server that were opened after one that broke or was ended."
        yield _counter("sftp_session_reconnects", text, {(): totals.reconnects})
        text = "Operations that failed for the connection to the SFTP server, by the reason."
        yield _counter("sftp_connection_failures", text, sessions.failures.counts(), "code")

    def _of_calls(self) -> Iterator[Metric]:
        calls = self._sources.dispatcher.calls
        text = "Direct methods that were answered."
        yield _counter("sftp_calls", text, calls.answers.counts(), "method", "code")
        text = "From the arrival of a direct method to its answer."
        summary = SummaryMetricFamily("sftp_call_duration_seconds", text, labels=["method"])
        text = "The longest of these in the last 5 to 10 minutes."
        longest = GaugeMetricFamily("sftp_call_duration_max_seconds", text, labels=["method"])
        for method, known in calls.durations.durations().items():
            summary.add_metric([method], count_value=known.count, sum_value=known.seconds)
            longest.add_metric([method], max(known.longest))
        yield summary
        yield longest

    def _of_transfers(self) -> Iterator[Metric]:
        totals, tasks, rules = self._sources.sessions.totals(), self._sources.tasks, self._sources.rules
        text = "Files whose transfer has ended, for calls, tasks and rules."
        yield _counter("sftp_transfers", text, self._sources.transfers.moves.files.counts(), "direction", "outcome")
        moved = {("download",): totals.downloaded, ("upload",): totals.uploaded}
        text = "Bytes of files that were moved, also by transfers that were not completed."
        yield _counter("sftp_transferred_bytes", text, moved, "direction")
        retries = {("operation",): totals.retries, ("task",): tasks.retries, ("rule",): rules.retries}
        yield _counter("sftp_retries", "What was, or is to be, tried again after a failure.", retries, "kind")

    def _of_queues(self) -> Iterator[Metric]:
        queues = {f"{lane}_calls": waiting for lane, waiting in self._sources.dispatcher.waiting().items()}
        queues["tasks"] = self._sources.tasks.waiting
        lengths = {(name,): length for name, (length, _) in queues.items()}
        ages = {(name,): age for name, (_, age) in queues.items()}
        yield _gauge("sftp_queue_length", "Calls and tasks that wait.", lengths, "queue")
        text = "Since the oldest of these came; 0 if none waits."
        yield _gauge("sftp_queue_oldest_age_seconds", text, ages, "queue")

    def _of_tasks(self) -> Iterator[Metric]:
        counts = self._sources.tasks.counts
        live = {(status.value,): counts.get(status.value, 0) for status in LIVE}
        yield _gauge("sftp_tasks", "Tasks that have not ended.", live, "status")
        well = self._sources.tasks.can_be_accepted
        yield _gauge("sftp_journal_writable", "Whether tasks can be written down, as far as is known.", {(): well})
        ended = {(status.value,): counts.get(status.value, 0) for status in ENDED}
        yield _counter("sftp_tasks_ended", "Tasks that have ended.", ended, "status")

    def _of_rules(self) -> Iterator[Metric]:
        rules = self._sources.rules
        states = {(state,): count for state, count in rules.states().items()}
        yield _gauge("sftp_rules", "Rules in force.", states, "state")
        text = "Files that rules have delivered and cannot delete or move at their source."
        yield _gauge("sftp_rule_files_not_removed", text, {(): rules.not_removed})
        yield _counter("sftp_rule_runs", "Runs of rules that have ended.", rules.runs.counts(), "outcome")

    def _of_process(self) -> Iterator[Metric]:
        text = "Threads of the process, that of the scrape included."
        yield _gauge("sftp_process_threads", text, {(): threading.active_count()})

    def _of_disks(self) -> Iterator[Metric]:
        # An old value would look like a disk that is well: one that does not answer has none
        told = {(name,): disk for name, disk in self._sources.disks.free().items() if "error" not in disk}
        text = "What the module may still write on the disk of the files, or of the state directory."
        yield _gauge("sftp_disk_free_bytes", text, {name: disk["free"] for name, disk in told.items()}, "disk")
        sizes = {name: disk["total"] for name, disk in told.items()}
        yield _gauge("sftp_disk_size_bytes", "The size of that disk.", sizes, "disk")


def serve(port: int, metrics: Metrics, host: str = "") -> MetricsServer | None:
    """Answer scrapers in threads of their own, if there is a port for it; 0 is none.

    A port that is taken is told of in the log, and nothing else: the module does its work without metrics.
    """
    if port == 0:
        return None
    try:
        server = MetricsServer((host, port), metrics.text)
    except OSError as error:
        message = "SFTP_METRICS_PORT: there are no metrics, as port %d cannot be used: %s. Choose another one, or 0"
        _log.warning(message, port, error.strerror)
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    _log.info("metrics are at port %d, %s", port, PATH)
    return server


def _gauge(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    """Return a metric whose values are given by those of its labels."""
    metric = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        metric.add_metric(label_values, value)
    return metric


def _counter(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    """Return a metric whose values are given by those of its labels."""
    metric = CounterMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        metric.add_metric(label_values, value)
    return metric
