"""Describe the slots and queues for `get_status`: of all servers together, and of each, if there are several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from iot.sftp.module._work.slots import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from iot.sftp.module._work.server_slots import ServerSlots


def queue_document(
    slots: ServerSlots, tasks: Mapping[str, tuple[int, float]], servers: Sequence[str]
) -> dict[str, Any]:
    """Return how many transfers may run, run and wait.

    Parameters:
        slots: those of each server.
        tasks: how many of each server wait, and the seconds since the first of them was accepted.
        servers: the names of those that there are.
    """
    busy = (name for name, of_server in slots.by_server().items() if of_server.running)  # removed ones among them
    names = dict.fromkeys((*servers, *busy, *tasks))
    rows = {name: _row(slots, name, tasks.get(name, (0, 0.0))) for name in names}
    total = {key: sum(row[key] for row in rows.values()) for key in ("places", "running", *WAITING)}
    oldest = max((row["oldest"] for row in rows.values()), default=0.0)
    return {**total, "oldest": oldest} | ({"servers": rows} if len(rows) > 1 else {})


WAITING = ("calls_waiting", "tasks_waiting")


def _row(slots: ServerSlots, server: str, tasks: tuple[int, float]) -> dict[str, Any]:
    of_server, (waiting, task_age) = slots.of(server), tasks
    calls, call_age = of_server.waiting(Kind.CALL)
    counts = {"places": of_server.width, "running": of_server.running, "calls_waiting": calls}
    return {**counts, "tasks_waiting": waiting, "oldest": round(max(call_age, task_age), 1)}
