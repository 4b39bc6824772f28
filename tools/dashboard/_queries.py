"""As much of the query language of Prometheus as the dashboard uses, on scrapes that are kept in memory."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

RANGES = {"$__rate_interval": 20.0, "$__range": math.inf}
"""Seconds that Grafana's variables stand for here."""

Labels = tuple[tuple[str, str], ...]
Vector = Mapping[Labels, float]


class UnknownQueryError(Exception):
    """A query that uses more of the language than this understands."""


class Scrape(NamedTuple):
    """All samples of one moment: by name, and by labels."""

    moment: float
    samples: Mapping[str, Mapping[Labels, float]]


class Series(NamedTuple):
    """A line of a panel."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class Query(NamedTuple):
    """A query that was read: gives a vector for the moment of a scrape, with those before it."""

    run: Callable[[Sequence[Scrape]], Vector]


def read_scrape(moment: float, text: str) -> Scrape:
    """Read what an exporter told."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return Scrape(moment, samples)


def evaluate(query: Query, scrapes: Sequence[Scrape]) -> list[Series]:
    """Return the lines that a query gives over all scrapes."""
    lines: dict[Labels, list[tuple[float, float]]] = {}
    for end in range(1, len(scrapes) + 1):
        for labels, value in query.run(scrapes[:end]).items():
            if math.isfinite(value):
                lines.setdefault(labels, []).append((scrapes[end - 1].moment, value))
    return [Series(dict(labels), points) for labels, points in sorted(lines.items())]


def parse(text: str) -> Query:
    """Read a query.

    Raises:
        UnknownQueryError: it is not understood.
    """
    parser = _Parser(text)
    query = parser.quotient()
    parser.expect("")
    return query


_TOKEN = re.compile(r'\s*([a-zA-Z_:$][\w:$]*|"[^"]*"|=~|!=|!~|[/(){}\[\],=])')
_AGGREGATIONS: Mapping[str, Callable[[Sequence[float]], float]] = {"sum": sum, "max": max}


class _Parser:
    """Reads a query from the left to the right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise UnknownQueryError(text)
            self._tokens.append(match[1])
            position = match.end()
        self._tokens += ["", ""]  # the end, and what is looked at behind it

    def expect(self, token: str) -> None:
        if self._tokens.pop(0) != token:
            raise UnknownQueryError(self._text)

    def quotient(self) -> Query:
        above = self._term()
        if self._tokens[0] != "/":
            return above
        self.expect("/")
        below = self._term()

        def run(scrapes: Sequence[Scrape]) -> Vector:
            divisors = below.run(scrapes)
            return {
                labels: value / divisors[labels] for labels, value in above.run(scrapes).items() if divisors[labels]
            }

        return Query(run)

    def _term(self) -> Query:
        token = self._tokens.pop(0)
        if token in _AGGREGATIONS:
            return self._aggregation(_AGGREGATIONS[token])
        if token in {"rate", "increase"}:
            return self._over_time(token)
        if re.fullmatch(r"[a-zA-Z_:][\w:]*", token) and self._tokens[0] != "(":
            return self._selector(token)
        raise UnknownQueryError(self._text)

    def _aggregation(self, gather: Callable[[Sequence[float]], float]) -> Query:
        names = set(self._names()) if self._tokens[0] == "by" else set()
        self.expect("(")
        inner = self._term()
        self.expect(")")

        def run(scrapes: Sequence[Scrape]) -> Vector:
            groups: dict[Labels, list[float]] = {}
            for labels, value in inner.run(scrapes).items():
                groups.setdefault(tuple(pair for pair in labels if pair[0] in names), []).append(value)
            return {labels: gather(values) for labels, values in groups.items()}

        return Query(run)

    def _names(self) -> Iterator[str]:
        self.expect("by")
        self.expect("(")
        while (name := self._tokens.pop(0)) != ")":
            if name != ",":
                yield name

    def _over_time(self, function: str) -> Query:
        self.expect("(")
        inner = self._selector(self._tokens.pop(0))
        self.expect("[")
        variable = self._tokens.pop(0)
        self.expect("]")
        self.expect(")")
        if variable not in RANGES:
            raise UnknownQueryError(self._text)
        seconds = RANGES[variable]

        def run(scrapes: Sequence[Scrape]) -> Vector:
            moment = scrapes[-1].moment
            window = [scrape for scrape in scrapes if scrape.moment >= moment - seconds]
            seen: dict[Labels, list[float]] = {}
            for scrape in window:
                for labels, value in inner.run([scrape]).items():
                    seen.setdefault(labels, []).append(value)
            passed = moment - window[0].moment if function == "rate" else 1.0
            risen = {labels: _rise(values, whole=len(values) == len(window)) for labels, values in seen.items()}
            return {labels: value / passed for labels, value in risen.items()} if passed else {}

        return Query(run)

    def _selector(self, name: str) -> Query:
        matchers = list(self._matchers()) if self._tokens[0] == "{" else []

        def run(scrapes: Sequence[Scrape]) -> Vector:
            samples = scrapes[-1].samples.get(name, {})
            return {labels: value for labels, value in samples.items() if _matches(dict(labels), matchers)}

        return Query(run)

    def _matchers(self) -> Iterator[tuple[str, str, str]]:
        self.expect("{")
        while self._tokens[0] != "}":
            label, operator, value = (self._tokens.pop(0) for _ in range(3))
            if operator not in {"=", "!=", "=~", "!~"}:
                raise UnknownQueryError(self._text)
            if "$" not in value:  # a variable of the dashboard: all devices
                yield label, operator, value.strip('"')
            if self._tokens[0] == ",":
                self.expect(",")
        self.expect("}")


def _rise(values: Sequence[float], *, whole: bool) -> float:
    """Return by how much a counter rose; one that was not there before rose from 0."""
    return (0.0 if whole else values[0]) + sum(max(0.0, after - before) for before, after in pairwise(values))


def _matches(labels: Mapping[str, str], matchers: Sequence[tuple[str, str, str]]) -> bool:
    for label, operator, value in matchers:
        there = labels.get(label, "")
        same = bool(re.fullmatch(value, there)) if "~" in operator else there == value
        if same == operator.startswith("!"):
            return False
    return True
