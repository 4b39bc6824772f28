"""`check`: the steps of a diagnosis, shown as they are done."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from iot.sftp.client import diagnose
from iot.sftp.command_line._output import document, step_in_words

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from iot.sftp.client import ServerSettings, Step


def check(settings: ServerSettings, arguments: argparse.Namespace) -> int:
    """Diagnose the connection to a server; return the exit status."""
    return show(diagnose(settings, write_to=arguments.write), json=arguments.json)


def show(steps: Iterable[Step], *, json: bool) -> int:
    """Show the steps; return the exit status: 0 if all were passed."""
    done: list[Step] = []
    for step in steps:
        done.append(step)
        if not json:
            print(*step_in_words(step), sep="\n", flush=True)
    failure = next((step for step in done if not step.passed), None)
    if json:
        told = {} if failure is None else {"code": failure.code, "message": failure.found}
        document(ok=failure is None, **told, steps=[asdict(step) for step in done])
    return 0 if failure is None else 1
