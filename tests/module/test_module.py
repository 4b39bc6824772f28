"""The twin is fetched until it is there and as new as it was announced, and no document ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import exceptions

from iot.sftp.module._base import timeouts
from iot.sftp.module._base.environment import Environment
from iot.sftp.module._module import STALE_TRIES, Module


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "PAUSE_FIRST", 0.01)
    monkeypatch.setattr(timeouts, "PAUSE_LONGEST", 0.01)


def twin_of(version: Any) -> dict[str, Any]:
    return {"desired": {"$version": version}, "reported": {"$version": 1}}


def follow(directory: Path, answers: Iterator[Any], *, announced: Any = None) -> tuple[list[Any], Module]:
    """Let a module fetch its twin, with these answers of a hub; return what it tried to put into force."""

    async def scenario() -> tuple[list[Any], Module]:
        module = Module(Environment(directory, directory, "info"), lambda: None)
        applied: list[Any] = []
        ended = asyncio.Event()

        async def get_twin() -> dict[str, Any]:
            answer = next(answers, None)
            if answer is None:
                ended.set()
                raise exceptions.NoConnectionError("the hub is away")
            if isinstance(answer, Exception):
                raise answer
            return dict(answer)

        def apply(document: Any) -> None:
            applied.append(document["$version"])
            if document["$version"] == "a defect":
                raise RuntimeError("a defect")

        module._hub.get_twin = get_twin  # type: ignore[method-assign]
        module._configuration.apply = apply  # type: ignore[method-assign]
        task = asyncio.create_task(module._follow_twin())
        module._desired({"$version": announced})
        while not ended.is_set():
            await asyncio.sleep(0.02)
            module._desired("not even an object")  # a signal like any other
        task.cancel()
        return applied, module

    return asyncio.run(scenario())


def test_a_twin_that_cannot_be_fetched_is_asked_for_again(tmp_path: Path) -> None:
    answers: list[Any] = [TimeoutError("no answer within 15 s"), {"no": "twin"}, twin_of(1)]
    assert follow(tmp_path, iter(answers))[0] == [1]


def test_a_twin_that_is_older_than_announced_is_asked_for_again(tmp_path: Path) -> None:
    assert follow(tmp_path, iter([twin_of(1), twin_of(1), twin_of(2)]), announced=2)[0] == [1, 1, 2]


def test_a_version_that_never_comes_is_not_asked_for_for_ever(tmp_path: Path) -> None:
    assert follow(tmp_path, iter([twin_of(1)] * STALE_TRIES), announced=99)[0] == [1] * STALE_TRIES


def test_a_document_that_meets_a_defect_is_one_line_and_not_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert follow(tmp_path, iter([twin_of("a defect"), twin_of(2)]))[0] == ["a defect", 2]
    assert "because of a defect" in caplog.text
