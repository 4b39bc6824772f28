"""Keep the rules in force: what appears in a folder is transferred, without a call from the cloud.

Each rule has a `RuleWorker`: a thread that waits until the rule is due (`RuleSchedule`: an event of the file system,
the end of a period, the age that a young file comes to) and its calendar lets it run (`RuleHours`), takes a slot among
the tasks, and makes a run (`make_run`), which transfers the folder in one call of the client, file by file. After a run
that failed it pauses (`RuleBackoff`).
What has arrived is written into a delivery ledger before its source is deleted or moved; so a run can be interrupted
anywhere, and the next one resumes.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from iot.sftp.module._base.token_bucket import TokenBucket
from iot.sftp.module._rules.limits import RULE_LIMITS, RuleLimits
from iot.sftp.module._rules.rule_status import RULE_STATES, RuleReporter, RuleStatus
from iot.sftp.module._rules.run import RuleContext, RunOutcome
from iot.sftp.module._rules.worker import RuleWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from iot.sftp.module._documents.rule import Rule


class Rules:
    """The rules in force. `apply`, `statuses`, `wake` and `stop` belong to one thread; the rest is thread-safe."""

    def __init__(
        self, context: RuleContext, on_change: Callable[[], None], *, limits: RuleLimits = RULE_LIMITS
    ) -> None:
        """Have no rules yet.

        Parameters:
            context: the parts that rules use.
            on_change: called when there is something new to report, from any thread; must not block.
            limits: bound rules.
        """
        self._context = context
        self._on_change = on_change
        self._limits = limits
        self._workers: dict[str, RuleWorker] = {}
        self._allowance = TokenBucket(limits.counts_at_once, limits.counts_period)

    def apply(self, rules: Mapping[str, Rule]) -> None:
        """Put these rules into force, without blocking. A rule that has not changed is not restarted."""
        self._context.due_times.keep_only(rules)
        ending: dict[str, RuleWorker] = {}
        for name, worker in list(self._workers.items()):
            if rules.get(name) != worker.rule:
                worker.stop()
                ending[name] = self._workers.pop(name)
        for name, rule in rules.items():
            if name not in self._workers:
                reporter = RuleReporter(self._on_change, self._allowance, self._limits.nothing_new)
                worker = RuleWorker(rule, self._context, reporter, self._limits)
                worker.start(after=ending.get(name))  # before it counts: there may be no thread left
                self._workers[name] = worker

    @property
    def in_force(self) -> dict[str, Rule]:
        """The rules by their names."""
        return {name: worker.rule for name, worker in list(self._workers.items())}

    def statuses(self) -> dict[str, RuleStatus]:
        """Return how each rule does, by its name."""
        return {name: worker.status for name, worker in self._workers.items()}

    # --- numbers, for the metrics: from any thread, by server; those of these servers also where they are 0

    def runs(self, servers: Iterable[str]) -> dict[tuple[str, ...], int]:
        """Return the number of runs that have ended, by server and outcome; each failed one is followed by another."""
        known = ((server, outcome.value) for server in servers for outcome in RunOutcome)
        return dict.fromkeys(known, 0) | self._context.runs.counts()

    def states(self, servers: Iterable[str]) -> dict[tuple[str, str], int]:
        """Return how many rules are `active`, and how many `failing`, by server and that word."""
        states = Counter((worker.rule.server, worker.status.state) for worker in list(self._workers.values()))
        return dict.fromkeys(((server, state) for server in servers for state in RULE_STATES), 0) | dict(states)

    def not_removed(self, servers: Iterable[str]) -> dict[str, int]:
        """Return the number of files that have arrived and cannot be deleted or moved at their source, by server."""
        counts = dict.fromkeys(servers, 0)
        for worker in list(self._workers.values()):
            counts[worker.rule.server] = counts.get(worker.rule.server, 0) + worker.status.delivered
        return counts

    def wake(self, server: str) -> None:
        """Run those rules at once that could not reach a server: it may be reachable again."""
        for worker in self._workers.values():
            if worker.rule.server == server:
                worker.wake()

    def stop(self, limit: float) -> None:
        """End all, within `limit` seconds."""
        end = time.monotonic() + limit
        for worker in self._workers.values():
            worker.stop()
        for worker in self._workers.values():
            worker.join(max(0.0, end - time.monotonic()))
        self._context.ledgers.close()
