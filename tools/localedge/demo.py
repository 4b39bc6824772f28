"""What `make demo` runs: the whole way from a cloud-side call to a file on an SFTP server, on this machine.

It starts the runtime from the deployment template with an SFTP server of its own, calls every method of the module
through the service API, compares the files byte for byte, and shows each call and its answer; then it uploads a larger
file as a task, and shows how far it is. The files stay in `demo-files/`. The exit status is 0 only if every answer was
the expected one.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from localedge._edge import LocalEdge
from localedge._errors import HubError, LocalEdgeError
from localedge._service_client import ServiceClient

_MODULE, _DEVICE = "sftp", "local-device"
_REPORT_LINES = 50_000
_IMAGE_SIZE, _IMAGE_RATE = 32 * 1024 * 1024, 12_000_000  # bytes, bytes per second
_ACCEPTED = 202
_SECOND = "mes"  # the name of the second server
_FOLDERS = ["upload_files", "download_files"]  # the newest first
_CONNECT_LIMIT = 30
_TABLE_WIDTH = 140
_PICTURE_WIDTH = 132
_ANSWER_LENGTH = 160


class Step(NamedTuple):
    """A call, and what its answer has to be."""

    method: str
    payload: dict[str, Any] | None
    status: int
    expected: Callable[[Any], bool]


class Outcome(NamedTuple):
    """A call that was made."""

    step: Step
    status: int
    answer: Any
    milliseconds: float

    @property
    def is_expected(self) -> bool:
        """Whether the answer was the expected one."""
        return self.status == self.step.status and self.step.expected(self.answer)


def equals(value: object) -> Callable[[Any], bool]:
    """Expect exactly this, of this type: 1 is not `true`."""
    return lambda answer: type(answer) is type(value) and answer == value


def refused(code: str) -> Callable[[Any], bool]:
    """Expect a refusal with this code, and a message."""
    return lambda answer: isinstance(answer, dict) and answer.get("code") == code and bool(answer.get("message"))


def _authenticated(answer: object) -> bool:
    return isinstance(answer, dict) and answer.get("authenticated") is True


def _is_task(answer: object) -> bool:
    return isinstance(answer, dict) and set(answer) == {"task_id"}


def _is_listing_of(*paths: str) -> Callable[[Any], bool]:
    """Expect a listing of files, and of directories whose paths end with a slash here."""
    expected = [(path.rstrip("/"), "directory" if path.endswith("/") else "file") for path in paths]
    return lambda answer: [(entry["path"], entry["kind"]) for entry in answer] == expected


STEPS = (
    Step("test_connection", None, 200, _authenticated),
    Step("is_connected", None, 200, equals(value=True)),
    Step("exists", {"path": "hello.txt"}, 200, equals(value=True)),
    Step("exists", {"path": "nothing-here.txt"}, 200, equals(value=False)),
    Step("upload_file", {"source": "report.csv", "dest": "reports/2026/report.csv"}, 200, equals(value=True)),
    Step("list_files", {"path": "reports/2026"}, 200, equals(["reports/2026/report.csv"])),
    Step("list_files", {"path": "."}, 200, equals(["hello.txt", "readme.txt"])),
    Step(
        "list_files",
        {"path": "measurements", "file_pattern": "01-02"},
        200,
        equals(["measurements/2026-01-02.csv"]),
    ),
    Step("download_file", {"source": "measurements/2026-01-02.csv", "dest": "downloads/"}, 200, equals(value=True)),
    Step("move_file", {"source": "reports/2026/report.csv", "dest": "archive/report.csv"}, 200, equals(value=True)),
    Step("download_file", {"source": "archive/report.csv", "dest": "report-returned.csv"}, 200, equals(value=True)),
    Step("download_file", {"source": "archive/report.csv", "dest": "report-copy.csv"}, 200, equals(value=True)),
    Step("delete_file", {"path": "hello.txt"}, 200, equals(value=True)),
    Step("exists", {"path": "hello.txt"}, 200, equals(value=False)),
    Step("download_file", {"source": "nothing-here.txt", "dest": "downloads/"}, 404, refused("not_found")),
    Step("upload_file", {"source": "../outside.txt", "dest": "x"}, 400, refused("path_not_allowed")),
    Step("delete_file", {"file": "hello.txt"}, 400, refused("invalid_request")),
    Step("copy_file", None, 404, refused("unknown_method")),
    Step("create_directory", {"path": "orders/2026"}, 200, equals(value=True)),
    Step("move_directory", {"source": "orders", "dest": "archive/orders"}, 200, equals(value=True)),
    Step("list_directory", {"path": "archive"}, 200, _is_listing_of("archive/orders/", "archive/report.csv")),
    Step("stat", {"path": "archive/report.csv"}, 200, lambda answer: bool(answer["kind"] == "file")),
    Step("stat", {"path": "orders"}, 200, equals(None)),
    Step("delete_directory", {"path": "archive/orders"}, 409, refused("not_empty")),
    Step("delete_directory", {"path": "archive/orders", "recursive": True}, 200, equals(value=True)),
    Step("write_file", {"path": "orders/next.json", "content": "[4711]"}, 200, equals(value=True)),
    Step("read_file", {"path": "orders/next.json"}, 200, lambda answer: bool(answer["content"] == "[4711]")),
    Step("upload_file", {"source": "report.csv", "dest": "fleet/{deviceId}/", "expand": True}, 200, equals(value=True)),
    Step("list_files", {"path": "fleet/{deviceId}", "expand": True}, 200, equals([f"fleet/{_DEVICE}/report.csv"])),
    Step("upload_file", {"source": "report.csv", "dest": "day/", "server": _SECOND}, 200, equals(value=True)),
    Step("list_files", {"path": "day", "server": _SECOND}, 200, equals(["day/report.csv"])),
    Step("exists", {"path": "day/report.csv"}, 200, equals(value=False)),
    Step("exists", {"path": "day/report.csv", "server": "none"}, 400, refused("invalid_request")),
    Step("list_local_directory", {"path": "downloads"}, 200, _is_listing_of("downloads/2026-01-02.csv")),
    Step("delete_local_file", {"path": "report-copy.csv"}, 200, equals(value=True)),
    Step("download_files", {"source": "measurements", "dest": "all", "file_pattern": ".csv"}, 202, _is_task),
    Step("upload_files", {"source": "downloads", "dest": "copies", "if_exists": "skip_same"}, 202, _is_task),
    Step("list_tasks", {"limit": 5}, 200, lambda answer: [task["method"] for task in answer] == _FOLDERS),
    Step("get_task_status", {"task_id": "nothing"}, 200, lambda answer: bool(answer["status"] == "Unknown")),
    Step("cancel_task", {"task_id": "nothing"}, 200, equals(value=False)),
    Step("rotate_key", None, 400, lambda answer: bool(answer["code"] == "invalid_request")),
    Step("get_status", None, 200, lambda answer: bool(answer["reported"]["connection"]["state"] == "connected")),
    Step("disconnect", None, 200, equals(None)),
    Step("is_connected", None, 200, equals(value=False)),
)
"""Every method, in an order in which each finds what it needs."""


def main(
    template: Annotated[Path, typer.Option(help="The deployment template.")] = Path("deployment.template.json"),
    directory: Annotated[Path, typer.Option(help="Where the files stay; emptied first.")] = Path("demo-files"),
    address: Annotated[str, typer.Option(help="The loopback address to use.")] = "127.0.0.1",
    picture: Annotated[Path | None, typer.Option(help="An SVG file for a picture of what was shown.")] = None,
) -> None:
    """Call every method of the module on real parts, and show the answers."""
    console = Console()
    if picture is not None:
        console = Console(width=_PICTURE_WIDTH, record=True, force_terminal=False)
    elif not console.is_terminal:
        console = Console(width=_TABLE_WIDTH)
    try:
        succeeded = demonstrate(console, template, directory, address)
    except (LocalEdgeError, TimeoutError) as error:
        console.print(f"[red]The demo could not be run:[/red] {escape(str(error))}")
        succeeded = False
    if picture is not None:
        drawn = console.export_svg(title="make demo", unique_id="demo")
        # A picture in a page loads nothing: its reader's own font has to do
        picture.write_text(re.sub(r"@font-face {.*?}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")
    raise typer.Exit(0 if succeeded else 1)


def demonstrate(console: Console, template: Path, directory: Path, address: str) -> bool:
    """Run the demo; return whether everything was as expected."""
    started = time.monotonic()
    _empty(directory)
    with LocalEdge(template, device=_DEVICE, directory=directory, address=address, sftp_server=True) as edge:
        _write_report(edge.local_root / "report.csv")
        console.print(
            f"Edge hub on {edge.address}:8883, SFTP server on port {edge.sftp_server.port}; the module starts …"
        )
        edge.wait_until_connected(_CONNECT_LIMIT)
        second = edge.add_sftp_server(_SECOND)
        edge.wait_for_reported(
            lambda reported: bool(reported["servers"][_SECOND]["connection"]["state"] == "connected")
        )
        console.print(f"A second SFTP server, {_SECOND}, is on port {second.port}.")
        client = ServiceClient(edge.connection_string, edge.authority_file.read_text(), edge.device)
        _wait_for_server(client)
        console.print(f"Ready after {time.monotonic() - started:.1f} s.")
        outcomes = [_call(client, step) for step in STEPS]
        console.print(_table(outcomes))
        differences = [*_differences(edge, second.root), *_upload_in_background(console, edge, client)]
    for difference in differences:
        console.print(f"[red]{escape(difference)}[/red]")
    failed = sum(not outcome.is_expected for outcome in outcomes)
    console.print(_summary(len(outcomes), failed, differences))
    console.print(
        f"The files are in {directory}/: local/ is the module's side, sftp/ and sftp-{_SECOND}/ are the servers'."
    )
    return not failed and not differences


def _empty(directory: Path) -> None:
    """Remove what an earlier demo has left, and nothing else."""
    for name in ("local", "state", "sftp", f"sftp-{_SECOND}"):
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / "module.log").unlink(missing_ok=True)


def _write_report(file: Path) -> None:
    lines = (f"{number},{number * number % 9973}\n" for number in range(_REPORT_LINES))
    file.write_text("".join(["number,value\n", *lines]), encoding="utf-8")


def _wait_for_server(client: ServiceClient) -> None:
    """Wait until the module's first session stands: it opens one as soon as it has its settings."""
    deadline = time.monotonic() + _CONNECT_LIMIT
    while client.invoke(_MODULE, "is_connected") != (200, True):
        if time.monotonic() > deadline:
            reported = client.twin(_MODULE)["properties"]["reported"].get("connection")
            raise TimeoutError(f"the module has no session with the SFTP server; it reports {reported}")
        time.sleep(0.2)


def _call(client: ServiceClient, step: Step) -> Outcome:
    started = time.perf_counter()
    try:
        status, answer = client.invoke(_MODULE, step.method, step.payload)
    except HubError as error:
        status, answer = error.status, f"not from the module: {error.message}"
    return Outcome(step, status, answer, 1000 * (time.perf_counter() - started))


def _upload_in_background(console: Console, edge: LocalEdge, client: ServiceClient) -> list[str]:
    """Upload a file as a task, show how far it is until the module tells of its end; return what was not expected."""
    image = edge.local_root / "image.bin"
    image.write_bytes(bytes(range(256)) * (_IMAGE_SIZE // 256))
    edge.patch_desired({"transfers": {"bandwidthLimit": _IMAGE_RATE}})  # for there to be something to see
    edge.wait_for_reported(lambda reported: bool(reported["transfers"]["value"]["bandwidthLimit"] == _IMAGE_RATE))
    payload = {"source": "image.bin", "dest": "images/image.bin", "background": True}
    status, answer = client.invoke(_MODULE, "upload_file", payload)
    if status != _ACCEPTED:
        return [f"the upload in the background was answered with {status} {answer}"]
    console.print(f"upload_file {escape(json.dumps(payload))}: 202 {escape(json.dumps(answer))}; get_task_status says:")
    ended = _show_progress(console, client, answer["task_id"])
    message = edge.wait_for_message(lambda message: json.loads(message.body)["task_id"] == answer["task_id"])
    console.print(f"The module's message on its output {message.output}: {escape(message.body.decode())}")
    if (
        ended["status"] != "Completed"
        or (edge.sftp_server.root / "images/image.bin").read_bytes() != image.read_bytes()
    ):
        return [f"the upload in the background ended as {ended}"]
    return []


def _show_progress(console: Console, client: ServiceClient, task_id: str) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("NotStarted", total=None)
        while True:
            _, shown = client.invoke(_MODULE, "get_task_status", {"task_id": task_id})
            progress.update(bar, description=shown["status"], completed=shown["bytes"], total=shown["total_bytes"])
            if shown["status"] not in {"NotStarted", "Running"}:
                return dict(shown)
            time.sleep(0.1)


def _differences(edge: LocalEdge, second: Path) -> list[str]:
    """Compare the files that went through with their originals."""
    server, local = edge.sftp_server.root, edge.local_root
    pairs = (
        (local / "report.csv", server / "archive/report.csv"),
        (local / "report.csv", second / "day/report.csv"),
        (local / "report.csv", local / "report-returned.csv"),
        (server / "measurements/2026-01-02.csv", local / "downloads/2026-01-02.csv"),
    )
    return [
        f"{copy} is not the same as {original}"
        for original, copy in pairs
        if not copy.is_file() or copy.read_bytes() != original.read_bytes()
    ]


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="Direct methods of the module, called through the service API")
    for heading in ("", "method", "payload", "status", "answer", "ms"):
        table.add_column(heading, justify="right" if heading in {"status", "ms"} else "left", overflow="fold")
    for outcome in outcomes:
        answer = json.dumps(outcome.answer, ensure_ascii=False)
        if len(answer) > _ANSWER_LENGTH:
            answer = f"{answer[:_ANSWER_LENGTH]} …"
        table.add_row(
            "[green]ok[/green]" if outcome.is_expected else "[red]NO[/red]",
            outcome.step.method,
            "" if outcome.step.payload is None else escape(json.dumps(outcome.step.payload)),
            str(outcome.status),
            escape(answer),
            f"{outcome.milliseconds:.0f}",
        )
    return table


def _summary(calls: int, failed: int, differences: list[str]) -> str:
    if failed or differences:
        return f"[red]{failed} of {calls} calls were not answered as expected, {len(differences)} files differ.[/red]"
    return f"[green]All {calls} calls were answered as expected, and all files are the same on both sides.[/green]"


if __name__ == "__main__":
    typer.run(main)
