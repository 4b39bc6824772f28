"""The commands: `run` starts a runtime; `invoke`, `twin` and `messages` talk to the one that runs."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from localedge._edge import LocalEdge
from localedge._errors import LocalEdgeError
from localedge._fleet import LocalFleet
from localedge._state_file import RunningEdge, read_state, write_state

application = typer.Typer(
    name="localedge",
    help="An IoT Edge runtime for one machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_TEMPLATE = Path("deployment.template.json")
_LAYERED = Path("deployments/layered.template.json")
_SITES = ("south", "north")
_STATUS_OK = range(200, 300)

_output = Console(soft_wrap=True)
_notes = Console(stderr=True, soft_wrap=True)

_Directory = Annotated[
    Path | None, typer.Option(help="Where the files of the runtime are kept, and where the other commands find it.")
]
_Device = Annotated[str | None, typer.Option(help="The device, if there are several; by default the first one.")]
_Module = Annotated[str, typer.Argument(help="The module's name.")]


def main() -> None:
    """Run the command line; an error is one line on stderr, and exit status 1."""
    try:
        application()
    except LocalEdgeError as error:
        _notes.print(str(error), style="red", markup=False)
        raise SystemExit(1) from None


@application.command()
def run(
    *,
    template: Annotated[Path, typer.Option(help="The deployment template.")] = _TEMPLATE,
    address: Annotated[str, typer.Option(help="The loopback address to use.")] = "127.0.0.1",
    service_port: Annotated[int, typer.Option(help="The port of the service API; 0 for any free one.")] = 0,
    module: Annotated[str, typer.Option(help="The module to start.")] = "sftp",
    directory: _Directory = None,
    sftp_server: Annotated[
        bool | None, typer.Option(help="Run an SFTP server, too. By default if SFTP_HOST is not set.")
    ] = None,
) -> None:
    """Start the edge runtime, an SFTP server and the module; end with Ctrl-C."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    edge = LocalEdge(
        template,
        module=module,
        address=address,
        service_port=service_port,
        directory=directory,
        sftp_server="SFTP_HOST" not in os.environ if sftp_server is None else sftp_server,
        echo=True,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), edge:
        state = RunningEdge(edge.connection_string, edge.authority_file.read_text(), edge.device)
        state_file = write_state(state, directory)
        try:
            _explain(edge, module, directory)
            threading.Event().wait()
        finally:
            state_file.unlink(missing_ok=True)
            _notes.print("Stopping.")


@application.command()
def fleet(
    *,
    devices: Annotated[int, typer.Option(help="How many devices: device-1, device-2 …")] = 3,
    template: Annotated[Path, typer.Option(help="The deployment template of all of them.")] = _LAYERED,
    address: Annotated[str, typer.Option(help="The loopback address to use.")] = "127.0.0.1",
    directory: _Directory = None,
) -> None:
    """Start several devices at the sites north and south, with one SFTP server; end with Ctrl-C."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    tags = {f"device-{number}": {"site": _SITES[number % len(_SITES)]} for number in range(1, devices + 1)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), LocalFleet(tags, template, address=address) as running:
        state = RunningEdge(running.connection_string, running.authority_file.read_text(), running.devices[0])
        state_file = write_state(state, directory)
        try:
            for name in running.devices:
                site = tags[name]["site"]
                _notes.print(f"{name} ({site}): {running.local_root(name)}", markup=False, highlight=False)
            _notes.print(f"SFTP server: {running.sftp_root}", markup=False, highlight=False)
            threading.Event().wait()
        finally:
            state_file.unlink(missing_ok=True)
            _notes.print("Stopping.")


def _explain(edge: LocalEdge, module: str, directory: Path | None) -> None:
    facts = {
        "service API": edge.connection_string,
        "authority": edge.authority_file,
        "module's files": edge.local_root,
        "module's log": edge.log_file,
    }
    if edge.has_sftp_server:
        server = edge.sftp_server
        facts["SFTP server"] = f"{server.user}@{server.address}, port {server.port}, password {server.password}"
        facts["its files"] = server.root
    for name, value in facts.items():
        _notes.print(f"{name + ':':16}{value}", markup=False, highlight=False)
    option = "" if directory is None else f" --directory {directory}"
    call = f'localedge invoke {module} list_files \'{{"path": "."}}\'{option}'
    _notes.print(f"Now, in another terminal:  {call}", markup=False)


@application.command()
def invoke(
    module: _Module,
    method: Annotated[str, typer.Argument(help="The direct method's name.")],
    payload: Annotated[str, typer.Argument(help="The payload, as JSON.")] = "null",
    *,
    timeout: Annotated[int, typer.Option(help="Seconds to wait for the answer, 5 to 300.")] = 30,
    device: _Device = None,
    directory: _Directory = None,
) -> None:
    """Call a direct method. The answer goes to stdout, its status to stderr; exit status 0 if that is 2xx."""
    data = _json(payload)
    started = time.monotonic()
    status, answer = read_state(directory).client(device).invoke(module, method, data, timeout=timeout)
    _output.print_json(data=answer)
    succeeded = status in _STATUS_OK
    elapsed = 1000 * (time.monotonic() - started)
    _notes.print(f"status {status}, {elapsed:.0f} ms", style=None if succeeded else "red")
    raise typer.Exit(0 if succeeded else 1)


@application.command()
def twin(
    module: _Module = "sftp",
    patch: Annotated[str | None, typer.Option(help="A merge patch for the desired properties, as JSON.")] = None,
    device: _Device = None,
    directory: _Directory = None,
) -> None:
    """Show a module's twin, after changing its desired properties if asked to."""
    client = read_state(directory).client(device)
    document = client.twin(module) if patch is None else client.patch_desired(module, _json(patch))
    _output.print_json(data=document)


@application.command()
def job(
    condition: Annotated[str, typer.Argument(help="Of the modules: tags.site = 'north'. Empty for all.")],
    method: Annotated[str, typer.Argument(help="The direct method's name.")],
    payload: Annotated[str, typer.Argument(help="The payload, as JSON.")] = "null",
    module: Annotated[str, typer.Option(help="The module's name.")] = "sftp",
    directory: _Directory = None,
) -> None:
    """Call a direct method on every device that a condition holds of, as one job; show what each has answered."""
    outcomes = read_state(directory).client().run_job(condition, module, method, _json(payload))
    answers: dict[str, dict[str, Any]] = {
        outcome["deviceId"]: outcome["outcome"]["deviceMethodResponse"] if "outcome" in outcome else outcome["error"]
        for outcome in outcomes
    }
    _output.print_json(data=answers, sort_keys=True)
    raise typer.Exit(0 if all(answer.get("status") in _STATUS_OK for answer in answers.values()) else 1)


@application.command()
def messages(directory: _Directory = None) -> None:
    """Show the messages that modules have sent."""
    _output.print_json(data=read_state(directory).client().messages())


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise LocalEdgeError(f"Not JSON: {text!r}: {error}.") from None
