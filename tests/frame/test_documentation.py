"""Every command that the documentation shows is run by a test, or is listed here with the reason why none can."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.servers import Server

from iot.sftp.client import VERSION, IoTSFTPClient
from iot.sftp.module._documents.twin import read_desired
from iot.sftp.module._methods.parsing import parse_call
from iot.sftp.module._methods.table import METHODS
from manifest.__main__ import main as make_manifest

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "tools").glob("*/README.md")),
]

RUN_BY = {
    "make demo": "tests/edge/test_demo.py",
    "make manifest": "tests/frame/test_documentation.py",
    "make reference": "tests/frame/test_reference.py",
    "make quick": "tests/frame/test_quick.py",
    "make bench": "tests/benchmarks/test_benchmarks.py",
    "make footprint": "tests/benchmarks/test_footprint.py",
    "make test-faults": "tests/faults/test_faults.py",
    "make soak": "tests/faults/test_soak.py",
    "python -m tests.model": "tests/model/test_model.py",
    "make lost-hub": "tests/module/hub/test_watchdog_end_to_end.py",
    "make dashboard": "tests/frame/test_dashboard.py",
    "make mutants": "tests/frame/test_commands.py",
    "make release": "tests/frame/test_release_rehearsal.py",
    "make": "tests/frame/test_commands.py",
    "python -m localedge.demo": "tests/edge/test_demo.py",
    "localedge": "tests/edge/test_tutorial.py",
    "source .venv/bin/activate": "tests/edge/test_tutorial.py",
    "mkdir demo-files/tutorial": "tests/edge/test_tutorial.py",
    "echo temperature;21.5 > demo-files/tutorial": "tests/edge/test_tutorial.py",
    "sleep": "tests/edge/test_tutorial.py",
    "ls demo-files/tutorial": "tests/edge/test_tutorial.py",
    "cat demo-files/tutorial": "tests/edge/test_tutorial.py",
    "python -m localedge run": "tests/edge/test_command_line.py",
    "python -m localedge invoke": "tests/edge/test_command_line.py",
    "python -m localedge twin": "tests/edge/test_command_line.py",
    "python -m localedge messages": "tests/edge/test_command_line.py",
    "python -m localedge fleet": "tests/edge/test_fleet.py",
    "python -m localedge job": "tests/edge/test_fleet.py",
    "python examples/call_one_device.py": "tests/examples/test_calling.py",
    "python examples/call_fleet.py": "tests/examples/test_calling.py",
    "python examples/authorized_keys.py": "tests/examples/test_calling.py",
    "iot-sftp": "tests/command_line/test_documentation.py",
    "eval $(iot-sftp completion": "tests/command_line/test_documentation.py",
}
"""Commands, by how they begin, and the test that runs them or what they run."""

NOT_RUN = {
    "az iot hub invoke-module-method": "needs a hub in Azure; its method and payload are checked below",
    "az iot hub module-twin": "needs a hub in Azure; what it sets is checked below",
    "az iot hub query": "needs a hub in Azure",
    "az iot hub job": "needs a hub in Azure; its payload is checked below",
    "az group": "needs a subscription in Azure",
    "az iot hub create": "needs a subscription in Azure",
    "az iot hub device-identity": "needs a hub in Azure",
    "az iot edge": "needs a hub in Azure; manifests are checked by tests/manifest",
    "ssh-keygen -R": "changes what the user who runs the tests trusts",
    "docker": "needs a container engine",
    "sudo docker": "needs a container engine",
    "sudo make images": "needs root, and a container engine or a mirror of Debian; minutes",
    "sudo iotedge": "needs an IoT Edge device",
    "sudo install": "changes the machine, as root",
    "echo temperature;21.5 | sudo install": "is about a folder of a device",
    "git commit": "is about a release",
    "sudo ls": "is about a folder of a device",
    "sudo du": "is about a folder of a device",
    "df": "is about a folder of a device",
    "timedatectl": "is about the clock of a device",
    "for key in /etc/ssh": "is about the keys of an SFTP server",
    "make docs": "needs a package index the first time; CI runs it",
    "make docs-test": "needs a package index the first time, and a browser; CI runs it",
    "make test": "is what runs this",
    "make lint": "is what make test begins with",
    "make surface": "writes what tests/frame/test_public_surface.py compares",
    "pip install": "needs a package index",
    "make requirements": "needs a package index; what it wrote is held by tests/frame/test_distribution.py",
    "export": "sets variables for the commands beside it",
}
"""Commands, by how they begin, and why no test runs them."""


class Command(NamedTuple):
    """A command of a page, as the shell sees its words."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)[:100]}"


def commands_of(page: Path) -> Iterator[Command]:
    """Give the commands of all blocks that are marked as `sh`, each joined from its lines."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE):
        text = ""
        for line in block.splitlines():
            text += line.strip() if not text else f"\n{line.strip()}"
            if text.endswith("\\"):
                text = text[:-1]
                continue
            try:
                words = tuple(shlex.split(text, comments=True))
            except ValueError:  # a quotation that goes on
                continue
            if words:
                yield Command(page.relative_to(ROOT).as_posix(), words)
            text = ""
        assert not text, f"{page}: {text}"


COMMANDS = [command for page in PAGES for command in commands_of(page)]
WITH_AZ = [command for command in COMMANDS if command.words[0] == "az"]


def option(command: Command, name: str) -> str | None:
    """Return the word that follows an option, if it is there."""
    return command.words[command.words.index(name) + 1] if name in command.words else None


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_is_run_by_a_test_or_listed_with_the_reason_why_not(command: Command) -> None:
    line = f"{' '.join(command.words)} "
    known = [start for start in (*RUN_BY, *NOT_RUN) if line.startswith((f"{start} ", f"{start}/"))]

    assert known != ["make"] or line == "make ", "a word for make is listed by itself"
    assert known, "run it in a test, or say in NOT_RUN why that cannot be"


def test_nothing_is_listed_that_no_page_shows() -> None:
    shown = [" ".join(command.words) for command in COMMANDS]

    for start in (*RUN_BY, *NOT_RUN):
        assert any(line.startswith(start) for line in shown), start


@pytest.mark.parametrize("file", sorted(set(RUN_BY.values())))
def test_the_tests_that_run_commands_are_there(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.parametrize("command", [one for one in COMMANDS if "make" in one.words[:2]], ids=str)
def test_every_word_and_variable_for_make_is_one_of_the_makefile(command: Command) -> None:
    words = command.words[command.words.index("make") + 1 :]
    makefile = (ROOT / "Makefile").read_text()

    for word in words:
        name, is_variable, _ = word.partition("=")
        known = rf"\$[({{]{name}\b|^{name} \?=" if is_variable else rf"^{name}:"
        assert re.search(known, makefile, re.MULTILINE), word


MANIFESTS = [one for one in COMMANDS if one.words[:2] == ("make", "manifest")]


@pytest.mark.parametrize("command", MANIFESTS, ids=str)
def test_every_manifest_that_a_page_makes_is_made(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = dict(word.split("=", 1) for word in command.words[2:])
    templates = variables.get("TEMPLATES", "deployment.template.json").split()
    values = {"SFTP_HOST": "sftp.example.com", "SFTP_USER": "device-42", "SFTP_PASSWORD": "secret"}
    for variable, value in (values | {"CONTAINER_REGISTRY_SERVER": "registry.example.com"}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(ROOT)
    arguments = ["--platform", variables["PLATFORM"], "--output", str(tmp_path / "config"), *templates]

    if command is MANIFESTS[0]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-m", "manifest", *arguments], env=environment, check=True)
    else:  # in this process, which takes a hundredth of the time
        monkeypatch.setattr(sys, "argv", ["manifest", *arguments])
        assert make_manifest() == 0

    shown = {Path(content).name for one in COMMANDS if (content := option(one, "--content"))}
    made = {path.name for path in (tmp_path / "config").iterdir()}
    assert len(made) == len(templates)
    assert made & shown or len(templates) > 1


@pytest.mark.parametrize(
    "command", [one for one in WITH_AZ if option(one, "--method-name") and "$edgeAgent" not in one.words], ids=str
)
def test_every_call_by_az_is_one_that_the_module_takes(command: Command) -> None:
    method, payload = option(command, "--method-name"), option(command, "--method-payload")

    assert method is not None
    assert method in METHODS
    assert parse_call(method, None if payload is None else json.loads(payload)).name == method


@pytest.mark.parametrize("command", [one for one in WITH_AZ if "$edgeAgent" in one.words], ids=str)
def test_every_call_of_the_edge_agent_has_a_payload_as_it_takes_them(command: Command) -> None:
    if option(command, "--method-name") is None:
        assert command.words[:5] == ("az", "iot", "hub", "module-twin", "show")
        return
    payload = json.loads(option(command, "--method-payload") or "")
    assert payload.pop("schemaVersion") == "1.0"
    if option(command, "--method-name") == "RestartModule":
        assert payload == {"id": "sftp"}
        return
    assert option(command, "--method-name") == "GetModuleLogs"
    assert set(payload) == {"items", "encoding", "contentType"}
    for item in payload["items"]:
        assert re.fullmatch(item["id"], "sftp")
        assert set(item["filter"]) <= {"tail", "since", "until", "loglevel", "regex"}
        re.compile(item["filter"].get("regex", ""))


@pytest.mark.parametrize("command", [one for one in WITH_AZ if option(one, "--desired")], ids=str)
def test_every_change_of_the_twin_by_az_is_valid(command: Command) -> None:
    text = (option(command, "--desired") or "").replace("SHA256:FINGERPRINT", "SHA256:" + "A" * 43)
    patch = json.loads(text)
    # A patch changes what is there; a null takes a key away
    base = {"host": "sftp.example.com", "user": "device-42", "password": "secret"}
    server = {key: value for key, value in {**base, **patch.get("sftp", {})}.items() if value is not None}
    desired = read_desired({**{key: value for key, value in patch.items() if value is not None}, "sftp": server})

    assert (desired.sftp.error, desired.transfers.error, desired.log_level.error, desired.unknown) == (
        None,
        None,
        None,
        (),
    )


def test_the_example_of_the_library_works_as_it_is_written(openssh_server: Server, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    remote, local = openssh_server.directory / tmp_path.name, tmp_path / "spool"
    (remote / "orders").mkdir(parents=True)
    (remote / "orders" / "4711.xml").write_text("<order/>")
    local.mkdir()
    (local / "report.csv").write_text("a;b\n")
    credential = f'None, private_key="{openssh_server.key_file}", root="{tmp_path.name}"'
    for shown, ours in (
        ('"sftp.example.com", 22, "device-42"', f'"127.0.0.1", {openssh_server.port}, "{openssh_server.user}"'),
        ('"the password"', credential),
        ("/var/spool", str(local)),
    ):
        assert shown in example
        example = example.replace(shown, ours)

    subprocess.run([sys.executable, "-c", example], check=True, timeout=60)

    assert (remote / "reports/2026/report.csv").read_text() == "a;b\n"
    assert (local / "orders/4711.xml").read_text() == "<order/>"
    assert (remote / "orders/done/4711.xml").is_file()


def test_the_examples_of_the_page_of_the_library_work_as_they_are_written(
    openssh_server: Server, tmp_path: Path
) -> None:
    page = (ROOT / "docs/library.md").read_text()
    version, files, failure, exceptions, folders = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    remote = openssh_server.directory / tmp_path.name
    (remote / "reports").mkdir(parents=True)
    (remote / "reports/day.csv").write_text("a;b\n")
    (tmp_path / "reports/2026").mkdir(parents=True)
    (tmp_path / "reports/2026/day.csv").write_text("c;d\n")
    (tmp_path / "recording.bin").write_bytes(b"0" * 100)
    ours = (
        ("sftp.example.com", "127.0.0.1"),
        ("22", str(openssh_server.port)),
        ("device-42", openssh_server.user),
        ('sftp_pass="the password"', f'private_key="{openssh_server.key_file}", root="{tmp_path.name}"'),
        ('password=Secret("the password")', f'private_key=Secret.from_file("{openssh_server.key_file}")'),
        (
            'password=Secret.from_environment("SFTP_PASSWORD")',
            f'private_key=Secret.from_file("{openssh_server.key_file}")',
        ),
        ('"archive/', f'"{remote}/archive/'),
        ("/var/spool/recording.bin", f"{tmp_path}/recording.bin"),
    )
    files += failure
    for shown, real in ours:
        assert shown in files + exceptions + folders
        exceptions, folders = exceptions.replace(shown, real), folders.replace(shown, real)
        files = files if shown == '"archive/' else files.replace(shown, real)  # it has a root

    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
        )
        for code in (version, files, exceptions, folders)
    ]

    assert outputs[0].stdout == f"hello world from iot-sftp-client version: {VERSION}\n"
    assert (remote / "archive/2026/day.csv").read_text() == "a;b\n"
    assert "not_found" in outputs[1].stdout
    assert outputs[2].stdout.startswith("not_found ")
    assert "1 of 1 files, 4 bytes" in outputs[3].stdout
    assert (remote / "archive/reports/2026/day.csv").read_text() == "c;d\n"
    assert (remote / "archive/recording.bin").stat().st_size == 100


def test_the_page_of_the_library_has_every_method_and_every_argument_of_the_client() -> None:
    text = (ROOT / "docs/library.md").read_text()
    for name, method in inspect.getmembers(IoTSFTPClient, inspect.isfunction):
        if not name.startswith("_"):
            _, *parameters = inspect.signature(method).parameters.values()
            shown = [one.name if one.default is one.empty else f"{one.name}={one.default!r}" for one in parameters]
            assert f"| `{name}({', '.join(shown)})` |" in text
    for one in inspect.signature(IoTSFTPClient).parameters.values():
        assert one.kind is not one.KEYWORD_ONLY or f"`{one.name}`" in text


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)

    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = page if not name else (page.parent / name)
        assert file.exists(), target
        assert ROOT in (file.resolve(), *file.resolve().parents), target
        assert not anchor or anchor in anchors_of(file), target


def test_every_page_is_in_the_index_and_in_the_navigation_of_the_site() -> None:
    assert "(docs/index.md)" in (ROOT / "README.md").read_text()
    index, navigation = (ROOT / "docs/index.md").read_text(), (ROOT / "mkdocs.yml").read_text()

    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or re.search(rf"\({page.name}[#)]", index), page.name
        assert re.search(rf": {page.name}$", navigation, re.MULTILINE), page.name


def test_every_variable_is_on_the_page_of_the_environment() -> None:
    page = (ROOT / "docs/environment.md").read_text()
    source = (ROOT / "modules/sftp/iot/sftp/module/_base/environment.py").read_text()

    for name in re.findall(r'"((?:SFTP|IOTEDGE|LOG)_[A-Z_]+)"', source):
        assert f"`{name}`" in page, name
    for name in re.findall(r"`(IOT_SFTP_\w+)`", (ROOT / "docs/command-line.md").read_text()):
        assert f"| `{name}` |" in page, name
