"""What a device is told to run: the template, expanded as the Azure tools do it, and the module's own description."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted((ROOT.parent / "shared" / "schemas").glob("*.json"))
PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
SETTINGS = {"host", "port", "user", "password", "privateKey", "passphrase", "hostKeys", "root"}
SETTINGS |= {"connectTimeout", "stallTimeout", "keepAlive"}
VARIABLES = {"SFTP_LOCAL_ROOT", "SFTP_STATE_DIR", "SFTP_METRICS_PORT", "LOG_LEVEL"}
SECRETS = {"password", "privateKey", "passphrase"}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    document = json.loads((ROOT / "deployment.template.json").read_text())
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def agent(template: dict[str, Any]) -> Any:
    return template["modulesContent"]["$edgeAgent"]["properties.desired"]


@pytest.fixture(scope="module")
def module(agent: Any) -> Any:
    return agent["modules"]["sftp"]


@pytest.fixture(scope="module")
def settings(template: dict[str, Any]) -> Any:
    return template["modulesContent"]["sftp"]["properties.desired"]["sftp"]


def expanded(value: Any) -> Any:
    """Return a part of the template as the Azure tools write it into a manifest: values for names, options as text."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda match: f"a value of {match.group(1)}", value)
    if isinstance(value, list):
        return [expanded(item) for item in value]
    if not isinstance(value, dict):
        return value
    parts = {key: expanded(item) for key, item in value.items() if key != "createOptions"}
    text = json.dumps(value["createOptions"], separators=(",", ":")) if "createOptions" in value else ""
    for number, start in enumerate(range(0, len(text), 512)):
        parts[f"createOptions{number:02}" if number else "createOptions"] = text[start : start + 512]
    return parts


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def test_the_expanded_template_keeps_the_schemas_of_edge_agent_and_edge_hub(template: dict[str, Any]) -> None:
    # The schemas are not ours to ship; they are used where they lie beside the project.
    manifest = expanded(template)["modulesContent"]
    for path in SCHEMAS:
        schema = json.loads(path.read_text())
        subject = {name: manifest[name] for name in schema["required"]}
        jsonschema.validate(subject, schema, cls=jsonschema.Draft4Validator)

    assert "createOptions" in manifest["$edgeAgent"]["properties.desired"]["modules"]["sftp"]["settings"]
    assert not [text for text in strings(manifest) if "${" in text]


def test_no_part_of_the_manifest_is_longer_than_a_twin_allows(template: dict[str, Any]) -> None:
    options = expanded(template)["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["sftp"]["settings"]

    assert all(len(text) <= 512 for name, text in options.items() if name.startswith("createOptions"))
    assert "".join(options[name] for name in sorted(options) if name.startswith("createOptions")).endswith("}")


def test_the_template_holds_no_secret(settings: dict[str, Any], module: dict[str, Any]) -> None:
    for name in SECRETS & settings.keys():
        value = settings[name]
        assert PLACEHOLDER.fullmatch(value) if isinstance(value, str) else value.keys() in ({"file"}, {"env"})
    assert not [name for name in module["env"] if re.search(r"pass|secret|key|token", name, re.IGNORECASE)]


def test_every_placeholder_is_one_that_the_documents_name(template: dict[str, Any]) -> None:
    names = {name for text in strings(template) for name in PLACEHOLDER.findall(text)}

    assert names == {"MODULES.sftp", "SFTP_HOST", "SFTP_USER", "SFTP_PASSWORD"}


def test_the_settings_and_the_variables_are_ones_that_the_module_knows(
    settings: dict[str, Any], module: dict[str, Any]
) -> None:
    assert settings.keys() <= SETTINGS
    assert {"host", "user", "password"} <= settings.keys()
    assert type(settings["port"]) is int
    assert module["env"].keys() <= VARIABLES


def test_the_module_is_kept_running_within_bounds(module: dict[str, Any], agent: dict[str, Any]) -> None:
    host = module["settings"]["createOptions"]["HostConfig"]

    assert module["restartPolicy"] == "always"
    assert module["startupOrder"] > agent["systemModules"]["edgeHub"]["startupOrder"]
    assert host["ReadonlyRootfs"] is True
    assert "/tmp" in host["Tmpfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["Memory"] >= 128 * 1024 * 1024
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}


def test_what_the_module_writes_is_mounted_where_the_variables_say(module: dict[str, Any]) -> None:
    mounted = {bind.split(":")[1] for bind in module["settings"]["createOptions"]["HostConfig"]["Binds"]}

    assert mounted == {module["env"]["SFTP_LOCAL_ROOT"]["value"], module["env"]["SFTP_STATE_DIR"]["value"]}


def test_what_is_told_goes_upstream_and_is_kept_while_there_is_no_way(template: dict[str, Any]) -> None:
    hub = template["modulesContent"]["$edgeHub"]["properties.desired"]
    outputs = {"tasks", "files"}

    assert {route["route"] for route in hub["routes"].values()} == {
        f"FROM /messages/modules/sftp/outputs/{output} INTO $upstream" for output in outputs
    }
    for route in hub["routes"].values():
        assert 0 <= route["priority"] <= 9
        assert route["timeToLiveSecs"] > hub["storeAndForwardConfiguration"]["timeToLiveSecs"]


def test_every_platform_has_its_dockerfile_and_all_see_the_whole_project() -> None:
    file = ROOT / "modules/sftp/module.json"
    image = json.loads(file.read_text())["image"]

    assert (file.parent / image["contextPath"]).resolve() == ROOT.resolve()
    assert image["tag"]["platforms"].keys() == {path.suffix[1:] for path in ROOT.glob("Dockerfile.*")}
    for platform, path in image["tag"]["platforms"].items():
        assert (file.parent / path).resolve() == (ROOT / f"Dockerfile.{platform}").resolve()


@pytest.mark.parametrize("path", sorted(ROOT.glob("Dockerfile.*")), ids=lambda path: path.suffix[1:])
def test_an_image_is_built_from_pins_on_a_base_of_ones_choice_and_runs_as_nobody_in_particular(path: Path) -> None:
    lines = path.read_text().splitlines()
    instructions = [line for line in lines if line and not line.startswith("#")]

    assert lines[0].startswith("ARG PYTHON_IMAGE=")
    assert [line.split(" AS ")[0] for line in instructions if line.startswith("FROM ")] == ["FROM ${PYTHON_IMAGE}"] * 2
    assert all("--require-hashes" in line for line in instructions if "--requirement" in line)
    (user,) = [line.split()[1] for line in instructions if line.startswith("USER ")]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert f"chown {user}" in path.read_text()
    assert 'ENTRYPOINT ["python", "-m", "iot.sftp.module"]' in instructions
