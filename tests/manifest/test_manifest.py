"""`make manifest`: templates expanded as the Azure tools do it, and everything that is wrong with one named."""

from __future__ import annotations

import copy
import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from localedge._deployment import read_deployment
from manifest import ManifestError, expanded, images_of, problems_of, secrets_in
from manifest.__main__ import main

ROOT = Path(__file__).parents[2]
TEMPLATES = [ROOT / "deployment.template.json", *sorted((ROOT / "deployments").glob("*.template.json"))]
VALUES = {
    "CONTAINER_REGISTRY_SERVER": "registry.example.com",
    "SFTP_HOST": "sftp.example.com",
    "SFTP_USER": "device-42",
    "SFTP_PASSWORD": "correct horse",
}
Document = dict[str, Any]


def run(*arguments: str | Path, **variables: str) -> tuple[int, str]:
    """Run the tool with nothing in its environment but these variables.

    It runs in this process, which takes a hundredth of the time; tests/frame/test_documentation.py starts it as a
    process of its own.
    """
    with (
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
        patch.object(sys, "argv", ["manifest", *map(str, arguments)]),
        patch.dict(os.environ, variables, clear=True),
    ):
        status = main()
    return status, out.getvalue() + err.getvalue()


def read(file: Path) -> Document:
    document = json.loads(file.read_text())
    assert isinstance(document, dict)
    return document


@pytest.fixture
def template() -> Document:
    """The project's own template, for a test to spoil."""
    return read(TEMPLATES[0])


def agent(template: Document) -> Document:
    desired: Document = template["modulesContent"]["$edgeAgent"]["properties.desired"]
    return desired


def module(template: Document) -> Document:
    settings: Document = agent(template)["modules"]["sftp"]
    return settings


def problems(template: Document) -> list[str]:
    return list(problems_of(expanded(template, images_of(ROOT, "amd64", VALUES), VALUES)))


# What comes out


@pytest.mark.parametrize("platform", ["amd64", "arm32v7", "arm64v8"])
@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name.partition(".")[0])
def test_every_template_becomes_a_manifest_for_every_platform(file: Path, platform: str, tmp_path: Path) -> None:
    status, said = run("--platform", platform, "--output", tmp_path, file, **VALUES)
    manifest = tmp_path / file.name.replace("template", platform)

    assert (status, said.partition(":")[0]) == (0, str(manifest))
    text = manifest.read_text()
    assert f"registry.example.com/iot-sftp-client:1.0.0-{platform}" in text
    assert "${" not in text
    assert "$schema-template" not in text
    assert manifest.stat().st_mode & 0o777 == 0o600  # it holds the password


def test_create_options_are_a_string_in_parts_of_512_characters(template: Document) -> None:
    options = module(template)["settings"]["createOptions"]
    options["Env"] = ["LONG=" + "ä" * 1200]
    settings = module(expanded(template, images_of(ROOT, "amd64", VALUES), VALUES))["settings"]
    parts = [settings[name] for name in sorted(settings) if name.startswith("createOptions")]

    assert [name for name in sorted(settings) if name != "image"][:2] == ["createOptions", "createOptions01"]
    assert [len(part) for part in parts[:-1]] == [512] * (len(parts) - 1)
    assert len(parts[-1]) <= 512
    assert json.loads("".join(parts)) == options


def test_create_options_that_no_eight_parts_hold_are_refused(template: Document) -> None:
    module(template)["settings"]["createOptions"]["Env"] = ["LONG=" + "x" * 4096]
    with pytest.raises(ManifestError, match=r"modules\.sftp\.settings\.createOptions: \d+ characters; 4096 fit"):
        expanded(template, images_of(ROOT, "amd64", VALUES), VALUES)


def test_a_value_may_hold_what_json_has_to_escape(template: Document) -> None:
    values = {**VALUES, "SFTP_PASSWORD": 'a "quote", a \\ and ${SFTP_HOST}'}
    manifest = expanded(template, images_of(ROOT, "amd64", VALUES), values)
    assert manifest["modulesContent"]["sftp"]["properties.desired"]["sftp"]["password"] == values["SFTP_PASSWORD"]


def test_an_image_of_another_platform_can_be_named(template: Document) -> None:
    module(template)["settings"]["image"] = "${MODULES.sftp.arm64v8}"
    manifest = expanded(template, images_of(ROOT, "amd64", VALUES), VALUES)
    assert module(manifest)["settings"]["image"] == "registry.example.com/iot-sftp-client:1.0.0-arm64v8"


def test_the_values_may_stand_in_a_file_as_the_azure_tools_have_it(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "modules/sftp").mkdir(parents=True)
    (project / "modules/sftp/module.json").write_text((ROOT / "modules/sftp/module.json").read_text())
    (project / "deployment.template.json").write_text(TEMPLATES[0].read_text())
    (project / ".env").write_text("# ours\n" + "".join(f'{name}="{value}"\n' for name, value in VALUES.items()))

    status, said = run("--root", project, "--platform", "amd64", SFTP_HOST="from.the.environment")

    assert (status, said.partition(":")[0]) == (0, str(project / "config/deployment.amd64.json"))
    desired = read(project / "config/deployment.amd64.json")["modulesContent"]["sftp"]["properties.desired"]["sftp"]
    assert (desired["host"], desired["password"]) == ("from.the.environment", VALUES["SFTP_PASSWORD"])


def test_the_edge_agent_reads_a_manifest_as_it_reads_its_template(tmp_path: Path) -> None:
    for file in TEMPLATES:
        run("--platform", "arm32v7", "--output", tmp_path, file, **VALUES)
        manifest = tmp_path / file.name.replace("template", "arm32v7")
        assert read_deployment(manifest, "sftp", {}) == read_deployment(file, "sftp", VALUES)


# What is refused


def test_a_placeholder_without_a_value_is_named_with_its_place(tmp_path: Path) -> None:
    values = {name: value for name, value in VALUES.items() if name not in {"SFTP_HOST", "SFTP_USER"}}
    status, said = run("--platform", "amd64", "--output", tmp_path / "config", TEMPLATES[0], **values)

    assert status == 1
    place = "modulesContent.sftp.properties.desired.sftp"
    assert f"{place}.host: ${{SFTP_HOST}} has no value. Set the environment variable SFTP_HOST" in said
    assert f"{place}.user: ${{SFTP_USER}} has no value" in said
    assert not (tmp_path / "config").exists()


def test_a_platform_that_there_is_no_image_for_is_named() -> None:
    status, said = run("--platform", "riscv", **VALUES)
    assert (status, "there is no platform 'riscv'. PLATFORM is one of amd64, arm32v7, arm64v8" in said) == (1, True)


def test_a_registry_that_is_not_said_is_named() -> None:
    status, said = run("--platform", "amd64")
    assert status == 1
    assert "${CONTAINER_REGISTRY_SERVER} has no value" in said


def test_an_image_that_is_none_of_the_projects_modules_is_named(template: Document) -> None:
    module(template)["settings"]["image"] = "${MODULES.other}"
    with pytest.raises(ManifestError, match=r"\$\{MODULES.other\} is no image: there is no modules/other/module.json"):
        expanded(template, images_of(ROOT, "amd64", VALUES), VALUES)


@pytest.mark.parametrize("text, message", [("{", "is not JSON"), ("[]", "must be a JSON object")])
def test_a_file_that_is_no_template_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.template.json").write_text(text)
    status, said = run("--platform", "amd64", tmp_path / "t.template.json", **VALUES)
    assert (status, message in said) == (1, True)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    status, said = run("--platform", "amd64", tmp_path / "none.json", **VALUES)
    assert (status, "cannot be read: No such file" in said) == (1, True)


def spoil(change: Callable[[Document], object]) -> Document:
    spoilt = copy.deepcopy(read(TEMPLATES[0]))
    change(spoilt)
    return spoilt


UNKNOWN_KEYS: list[tuple[Callable[[Document], object], str]] = [
    (lambda t: t.update(modulecontent={}), "modulecontent: unknown key"),
    (lambda t: agent(t).update(module={}), "$edgeAgent.properties.desired.module: unknown key"),
    (lambda t: module(t).update(restart="always"), "modules.sftp.restart: unknown key"),
    (lambda t: module(t)["settings"].update(createoption={}), "modules.sftp.settings.createoption: unknown key"),
    (
        lambda t: module(t)["settings"]["createOptions"]["HostConfig"].update(ReadOnlyRootfs=True),
        "modules.sftp.settings.createOptions.HostConfig.ReadOnlyRootfs: unknown key",
    ),
    (lambda t: module(t)["env"].update(SFTP_ROOT={"value": "/x"}), "modules.sftp.env.SFTP_ROOT: unknown key"),
    (lambda t: t["modulesContent"]["$edgeHub"]["properties.desired"].update(route={}), "desired.route: unknown key"),
    (
        lambda t: t["modulesContent"]["sftp"]["properties.desired"]["sftp"].update(hostname="h"),
        "sftp.properties.desired: sftp: 'hostname'",
    ),
    (lambda t: t["modulesContent"]["sftp"]["properties.desired"].update(stfp={}), "stfp: unknown section"),
    (
        lambda t: t["modulesContent"]["sftp"].update({"properties.reported": {}}),
        "sftp.properties.reported: unknown key",
    ),
    (lambda t: t["modulesContent"].update(other={"properties.desired": {}}), "deploys no module of this name"),
]


@pytest.mark.parametrize("change, message", UNKNOWN_KEYS, ids=[message for _, message in UNKNOWN_KEYS])
def test_an_unknown_key_is_named_with_its_place(change: Callable[[Document], object], message: str) -> None:
    (problem,) = problems(spoil(change))
    assert message in problem


WRONG_VALUES: list[tuple[Callable[[Document], object], str]] = [
    (lambda t: t.pop("modulesContent"), "modulesContent is missing"),
    (lambda t: agent(t).update(schemaVersion="1.0"), "schemaVersion must be '1.1'"),
    (lambda t: agent(t).pop("runtime"), "runtime is missing"),
    (lambda t: module(t).update(restartPolicy="sometimes"), "restartPolicy is 'sometimes'"),
    (lambda t: module(t).pop("status"), "modules.sftp.status is missing"),
    (lambda t: module(t).update(startupOrder=-1), "startupOrder must be a whole number"),
    (lambda t: module(t)["env"].update(LOG_LEVEL="info"), 'env.LOG_LEVEL must be {"value"'),
    (lambda t: module(t)["settings"].update(image=""), "settings.image is no name"),
    (lambda t: module(t)["settings"].update(createOptions="{"), "createOptions is not JSON"),
    (lambda t: module(t)["settings"].update(createOptions="{}", createOptions02="x"), "one between them is missing"),
    (
        lambda t: module(t)["settings"]["createOptions"]["HostConfig"].update(Binds=["/srv/sftp"]),
        "'/srv/sftp' is not SOURCE:/PLACE",
    ),
    (
        lambda t: t["modulesContent"]["$edgeHub"]["properties.desired"]["routes"].update(x={"route": "INTO x"}),
        "x.route is not FROM",
    ),
    (
        lambda t: t["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]["sftpTasks"].update(priority=10),
        "priority must be 0 (first) to 9",
    ),
    (
        lambda t: t["modulesContent"]["$edgeHub"]["properties.desired"].pop("storeAndForwardConfiguration"),
        "storeAndForwardConfiguration.timeToLiveSecs is missing",
    ),
    (lambda t: t["modulesContent"]["sftp"]["properties.desired"]["sftp"].update(port="22"), "'port' must be a whole"),
    (
        lambda t: t["modulesContent"]["sftp"]["properties.desired"]["sftp"].update(root="/x" * 3000),
        "the limit is 4096",
    ),
]


@pytest.mark.parametrize("change, message", WRONG_VALUES, ids=[message for _, message in WRONG_VALUES])
def test_a_value_that_would_not_work_is_named_with_its_place(
    change: Callable[[Document], object], message: str
) -> None:
    assert [problem for problem in problems(spoil(change)) if message in problem]


def routes(template: Document) -> Document:
    found: Document = template["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]
    return found


def desired(template: Document) -> Document:
    found: Document = template["modulesContent"]["sftp"]["properties.desired"]
    return found


CALLS = 'FROM /messages/modules/camera/outputs/calls INTO BrokeredEndpoint("/modules/sftp/inputs/calls")'
EVERYTHING = "FROM /messages/* INTO $upstream"
ANSWERS = 'FROM /messages/modules/sftp/outputs/answers INTO BrokeredEndpoint("/modules/camera/inputs/answers")'
UNFIT: list[tuple[Callable[[Document], object], str]] = [
    (lambda t: routes(t).pop("sftpTasks"), "events are on, and no route takes /messages/modules/sftp/outputs/tasks"),
    (
        lambda t: (routes(t).pop("sftpFiles"), desired(t).update(events={"files": True})),
        "events.files is on, and no route takes /messages/modules/sftp/outputs/files",
    ),
    (
        lambda t: routes(t).update(x=CALLS.replace("camera", "sftp")),
        "the module sftp has no output 'calls'; it has answers, tasks, files",
    ),
    (lambda t: routes(t).update(x=CALLS), "routes.x: there is no module 'camera'"),
    (
        lambda t: (agent(t)["modules"].update(camera=module(t)), routes(t).update(x=CALLS)),
        "a route leads to its input calls, and no route takes /messages/modules/sftp/outputs/answers",
    ),
    (
        lambda t: routes(t).update(x='FROM /messages/* INTO BrokeredEndpoint("/modules/sftp/inputs/call")'),
        "the module sftp has no input 'call'; it has calls",
    ),
    (
        lambda t: routes(t).update(x='FROM /messages/* INTO BrokeredEndpoint("/sftp/calls")'),
        "x.route must lead INTO BrokeredEndpoint",
    ),
]


@pytest.mark.parametrize("change, message", UNFIT, ids=[message for _, message in UNFIT])
def test_routes_that_do_not_fit_modules_and_events_are_named(
    change: Callable[[Document], object], message: str
) -> None:
    found = problems(spoil(change))
    assert [problem for problem in found if message in problem], found


@pytest.mark.parametrize(
    "change",
    [
        lambda t: (
            t["modulesContent"]["$edgeHub"]["properties.desired"].update(routes={}) or desired(t).update(events=False)
        ),
        lambda t: t["modulesContent"]["$edgeHub"]["properties.desired"].update(routes={"all": EVERYTHING}),
        lambda t: desired(t).update(events={"files": True}),
        lambda t: (agent(t)["modules"].update(camera=module(t)), routes(t).update(x=CALLS, y=ANSWERS)),
    ],
)
def test_routes_that_fit_are_accepted(change: Callable[[Document], object]) -> None:
    assert problems(spoil(change)) == []


def test_the_modules_of_a_layer_may_be_in_other_layers() -> None:
    document = read(ROOT / "deployments/layered.template.json")
    hub = document["modulesContent"]["$edgeHub"]
    hub["properties.desired.routes.cameraCalls"] = {"route": CALLS}
    assert problems(document) == []
    hub["properties.desired.routes.cameraCalls"] = {"route": CALLS.replace("inputs/calls", "inputs/call")}
    (found,) = problems(document)
    assert found == "$edgeHub.properties.desired.routes.cameraCalls: the module sftp has no input 'call'; it has calls"


def test_the_deployment_of_the_example_is_a_layer(tmp_path: Path) -> None:
    template = ROOT / "examples/camera/deployment.template.json"
    status, said = run(
        "--platform", "amd64", "--output", tmp_path, template, **VALUES, CAMERA_IMAGE="registry.example.com/camera:1"
    )
    assert (status, said.partition(":")[0]) == (0, str(tmp_path / "deployment.amd64.json"))


def test_a_layered_deployment_changes_nothing_but_modules_and_routes() -> None:
    document = read(ROOT / "deployments/layered.template.json")
    document["modulesContent"]["$edgeAgent"]["properties.desired.runtime"] = {}
    document["modulesContent"]["$edgeHub"]["properties.desired.storeAndForwardConfiguration"] = {"timeToLiveSecs": 1}
    found = problems(document)
    assert len(found) == 2
    assert all("changes nothing else" in problem for problem in found)


def test_a_placeholder_that_the_module_does_not_know_is_named() -> None:
    document = read(ROOT / "deployments/layered.template.json")
    desired = document["modulesContent"]["sftp"]["properties.desired"]
    desired["variables"] = {"sites": "north"}
    (found,) = problems(document)
    assert "sftp: 'root' has the unknown placeholder {site} at character 8; known are: {deviceId}, " in found
    desired["rules"][0]["dest"] = "{lin}"
    assert any("rules: outbox: 'dest' has the unknown placeholder {lin}" in problem for problem in problems(document))


def test_a_layer_may_use_the_variables_of_another_one() -> None:
    document = read(ROOT / "deployments/layered.template.json")
    twin = document["modulesContent"]["sftp"]
    sftp = twin.pop("properties.desired")["sftp"]
    twin["properties.desired.sftp"] = sftp
    assert problems(document) == []
    twin["properties.desired.variables"] = {"site": "a/b"}
    assert any("variables: 'site' must not contain '/'" in problem for problem in problems(document))


KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc"
SECRETS: list[tuple[Callable[[Document], object], str]] = [
    (
        lambda t: t["modulesContent"]["sftp"]["properties.desired"]["sftp"].update(password="hunter2"),
        "sftp.properties.desired.sftp.password",
    ),
    (
        lambda t: t["modulesContent"]["sftp"]["properties.desired"]["sftp"].update(privateKey=[KEY, "hunter2"]),
        "sftp.properties.desired.sftp.privateKey",
    ),
    (
        lambda t: agent(t)["runtime"]["settings"]["registryCredentials"].update(
            r={"username": "u", "password": "hunter2", "address": "a"}
        ),
        "registryCredentials.r.password",
    ),
    (lambda t: module(t)["env"].update(SFTP_PASSWORD={"value": "hunter2"}), "env.SFTP_PASSWORD"),
    (
        lambda t: module(t)["settings"]["createOptions"].update(Env=["SFTP_PASSPHRASE=hunter2"]),
        "createOptions.Env[0].SFTP_PASSPHRASE",
    ),
    (lambda t: module(t)["settings"].update(createOptions='{"Env": ["API_TOKEN=hunter2"]}'), "Env[0].API_TOKEN"),
    (lambda t: module(t)["env"].update(CONNECTION={"value": "HostName=x;SharedAccessKey=hunter2"}), "env.CONNECTION"),
]


@pytest.mark.parametrize("change, place", SECRETS, ids=[place for _, place in SECRETS])
def test_a_secret_in_the_file_is_named_and_not_repeated(
    change: Callable[[Document], object], place: str, tmp_path: Path
) -> None:
    file = tmp_path / "spoilt.template.json"
    file.write_text(json.dumps(spoil(change)))
    status, said = run("--platform", "amd64", "--output", tmp_path / "config", file, **VALUES)

    assert status == 1
    assert place in said
    assert "hunter2" not in said
    assert not (tmp_path / "config").exists()


def test_where_a_secret_lies_and_a_public_key_are_no_secrets(template: Document) -> None:
    section = template["modulesContent"]["sftp"]["properties.desired"]["sftp"]
    section.update(password={"file": "/run/secrets/x"}, privateKey={"env": "KEY"}, hostKeys=["ssh-ed25519 AAAA"])
    assert list(secrets_in(template)) == []


def test_the_schemas_are_used_where_they_are(tmp_path: Path) -> None:
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    schema = {"required": ["$edgeHub"], "properties": {"$edgeHub": {"required": ["properties.wanted"]}}}
    (schemas / "hub.json").write_text(json.dumps(schema))
    arguments = ("--platform", "amd64", "--output", tmp_path, "--schemas", schemas)

    status, said = run(*arguments, TEMPLATES[0], **VALUES)
    assert (status, "'properties.wanted' is a required property (hub.json)" in said) == (1, True)
    # A layered deployment holds no whole edge hub that the schema could be about.
    assert run(*arguments, ROOT / "deployments/layered.template.json", **VALUES)[0] == 0
