"""What the hub sees: each delivery of a method and each answer to it are counted, and some can be made to go wrong."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

from localedge import LocalEdge


class Tap:
    """Listens in the hub of a runtime.

    Attributes:
        twice: whether methods are delivered twice, as a broker does at QoS 1 that has missed an acknowledgement.
        loses_twin_answers: whether answers about the twin get lost.
        lost: how many were.
    """

    def __init__(self, edge: LocalEdge) -> None:
        """Begin to listen; the hub keeps the tap."""
        self.twice = False
        self.loses_twin_answers = False
        self.lost = 0
        self._deliveries: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._told: set[str] = set()
        self._lock = threading.Lock()
        hub: Any = edge._runtime.hub
        self._deliver, self._answered, self._answer_twin = (
            hub._methods._deliver,
            hub._methods.answered,
            hub._answer_twin,
        )
        hub._methods._deliver, hub._methods.answered, hub._answer_twin = self.deliver, self.answered, self.answer_twin

    def deliver(self, client_id: str, topic: str, payload: bytes) -> bool:
        """Send a method to the module, once or twice."""
        count = 2 if self.twice else 1
        with self._lock:
            self._deliveries[_request_id(topic)] += count
        return all(self._deliver(client_id, topic, payload) for _ in range(count))

    def answered(self, client_id: str, topic: str, payload: bytes) -> None:
        """Take a module's answer."""
        with self._lock:
            self._answers[_request_id(topic)] += 1
        self._answered(client_id, topic, payload)

    def answer_twin(self, *arguments: Any) -> None:
        """Answer a module that asked about its twin, or not."""
        if self.loses_twin_answers:
            self.lost += 1
        else:
            self._answer_twin(*arguments)

    def take(self) -> tuple[int, int, list[str]]:
        """Return how many deliveries and answers there were so far, and what was not told yet of what is wrong."""
        with self._lock:
            wrong = [
                f"a request that was delivered {self._deliveries[name]} times was answered {count} times"
                for name, count in self._answers.items()
                if count > self._deliveries[name] and name not in self._told
            ]
            self._told.update(name for name, count in self._answers.items() if count > self._deliveries[name])
            return self._deliveries.total(), self._answers.total(), wrong


def _request_id(topic: str) -> str:
    return parse_qs(topic.partition("?")[2]).get("$rid", [""])[0]
