"""`check`: a diagnosis whose steps are shown as they are done."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from iot.sftp.client import SFTPError, diagnose
from iot.sftp.command_line._output import document, failed, say, step_in_words
from iot.sftp.command_line._running_module import steps_of_module, traces_of_module
from iot.sftp.command_line._server import UsageError, is_named, settings_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from iot.sftp.client import Step


def check(arguments: argparse.Namespace, variables: Mapping[str, str]) -> int:
    """Diagnose the connection to the named server, or else that of the running module; return the exit status.

    Raises:
        UsageError: no server is named, and no module runs here; or the settings are invalid.
    """
    owners = {} if is_named(arguments, variables) else traces_of_module(variables)
    if not owners:
        return show(diagnose(settings_of(arguments, variables), write_to=arguments.write), json=arguments.json)
    if arguments.write is not None:
        message = "--write needs --host: the running module does not write to its server for a check"
        raise UsageError(message)
    return show(steps_of_module(owners, arguments.timeout or None), json=arguments.json)


def show(steps: Iterable[Step], *, json: bool) -> int:
    """Show the steps; return the exit status: 0 if all passed."""
    done: list[Step] = []
    try:
        for step in steps:
            done.append(step)
            if not json:
                print(*step_in_words(step), sep="\n", flush=True)
    except SFTPError as error:  # the running module ended the diagnosis
        if json:
            document(**failed(error), steps=[asdict(step) for step in done])
        say(f"iot-sftp: {error} [{error.code}]")
        return 1
    failure = next((step for step in done if not step.passed), None)
    if json:
        reason = {} if failure is None else {"code": failure.code, "message": failure.found}
        document(ok=failure is None, **reason, steps=[asdict(step) for step in done])
    return 0 if failure is None else 1
