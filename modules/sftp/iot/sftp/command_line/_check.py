"""`check`: a diagnosis whose steps are shown as they are done."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from iot.sftp.client import SFTPError, diagnose
from iot.sftp.command_line._output import document, failed, say, step_in_words
from iot.sftp.command_line._running_module import servers_of_module, steps_of_module, traces_of_module
from iot.sftp.command_line._server import UsageError, is_named, settings_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from iot.sftp.client import Step


def check(arguments: argparse.Namespace, variables: Mapping[str, str]) -> int:
    """Diagnose the connection to the named server, or else those of the running module; return the exit status.

    Raises:
        UsageError: no server is named, and no module runs here; or the settings are invalid.
    """
    owners = {} if is_named(arguments, variables) else traces_of_module(variables)
    if not owners:
        if arguments.name is not None:
            message = "--name is for a server of a running module, and none runs here: use --host"
            raise UsageError(message)
        return show(diagnose(settings_of(arguments, variables), write_to=arguments.write), json=arguments.json)
    if arguments.write is not None:
        message = "--write needs --host: the running module does not write to its server for a check"
        raise UsageError(message)
    return _check_servers_of_module(owners, arguments)


def show(steps: Iterable[Step], *, json: bool) -> int:
    """Show the steps; return the exit status: 0 if all passed."""
    found = _shown(steps, json=json)
    if json:
        document(**found)
    return 0 if found["ok"] else 1


def _check_servers_of_module(owners: Mapping[Path, int | None], arguments: argparse.Namespace) -> int:
    """Diagnose the servers of the running module, one after the other: one alone is shown as a named one is."""
    timeout = arguments.timeout or None
    try:
        names = [arguments.name] if arguments.name is not None else servers_of_module(owners, timeout)
    except SFTPError as error:
        found = _refused(error, [])
        if arguments.json:
            document(**found)
        return 1
    if len(names) == 1:
        return show(steps_of_module(owners, timeout, name=names[0]), json=arguments.json)
    servers: dict[str, dict[str, Any]] = {}
    for name in names:
        if not arguments.json:
            print(f"{name}:", flush=True)
        servers[name] = _shown(steps_of_module(owners, timeout, name=name), json=arguments.json)
    is_well = all(server["ok"] for server in servers.values())
    if arguments.json:
        document(ok=is_well, servers=servers)
    return 0 if is_well else 1


def _shown(steps: Iterable[Step], *, json: bool) -> dict[str, Any]:
    """Show the steps as they are done, unless JSON is asked for; return the document about them."""
    done: list[Step] = []
    try:
        for step in steps:
            done.append(step)
            if not json:
                print(*step_in_words(step), sep="\n", flush=True)
    except SFTPError as error:  # the running module ended the diagnosis
        return _refused(error, done)
    failure = next((step for step in done if not step.passed), None)
    reason = {} if failure is None else {"code": failure.code, "message": failure.found}
    return {"ok": failure is None, **reason, "steps": [asdict(step) for step in done]}


def _refused(error: SFTPError, done: list[Step]) -> dict[str, Any]:
    """Say why the running module does no further step; return the document about that."""
    say(f"iot-sftp: {error} [{error.code}]")
    return {**failed(error), "steps": [asdict(step) for step in done]}
