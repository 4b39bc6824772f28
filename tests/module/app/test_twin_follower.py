"""The twin is fetched until it is there and as new as it was announced."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

from azure.iot.device import exceptions

from iot.sftp.module._app.twin_follower import STALE_ATTEMPTS, TwinFollower


def twin_of(version: Any) -> dict[str, Any]:
    return {"desired": {"$version": version}, "reported": {"$version": 1}}


def follow(answers: Iterator[Any], *, announced: Any = None) -> list[Any]:
    """Fetch the twin until a hub with these answers is away; return the versions that were applied."""

    async def scenario() -> list[Any]:
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

        def apply(desired: Any, _reported: Any) -> None:
            applied.append(desired["$version"])

        follower = TwinFollower(get_twin, apply, backoff=lambda: itertools.repeat(0.0))
        task = asyncio.create_task(follower.run())
        follower.announce({"$version": announced})
        while not ended.is_set():
            await asyncio.sleep(0.001)
            follower.announce("not even an object")  # a signal like any other
        task.cancel()
        return applied

    return asyncio.run(scenario())


def test_a_twin_that_cannot_be_fetched_is_fetched_again() -> None:
    assert follow(iter([TimeoutError("no answer within 15 s"), {"no": "twin"}, twin_of(1)])) == [1]


def test_a_twin_that_is_older_than_announced_is_fetched_again() -> None:
    assert follow(iter([twin_of(1), twin_of(1), twin_of(2)]), announced=2) == [1, 1, 2]


def test_a_version_that_never_comes_is_given_up() -> None:
    assert follow(iter([twin_of(1)] * STALE_ATTEMPTS), announced=99) == [1] * STALE_ATTEMPTS
