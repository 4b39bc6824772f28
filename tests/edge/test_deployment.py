"""Reading deployment templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localedge import DeploymentError, LocalEdge
from localedge._deployment import read_deployment

VALUES = {"SFTP_HOST": "sftp.example.com", "SFTP_PASSWORD": 'quote" and \\', "LEVEL": "debug"}


def template_with(module: dict[str, Any], twin: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "modulesContent": {
            "$edgeAgent": {"properties.desired": {"modules": {"sftp": module}}},
            "$edgeHub": {"properties.desired": {"routes": {}}},
            "sftp": {"properties.desired": {"sftp": {"host": "${SFTP_HOST}"}}} if twin is None else twin,
        }
    }


def written(folder: Path, document: Any) -> Path:
    file = folder / "deployment.template.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def test_environment_properties_and_restart_policy_are_read(tmp_path: Path) -> None:
    module = {
        "restartPolicy": "on-failure",
        "env": {"LOG_LEVEL": {"value": "${LEVEL}"}, "SFTP_METRICS_PORT": {"value": 9600}},
        "settings": {"image": "${MODULES.sftp}", "createOptions": {"Env": ["A=1=2", "LOG_LEVEL=info"]}},
    }
    twin = {"properties.desired": {"sftp": {"host": "${SFTP_HOST}", "hostKeys": ["${SFTP_HOST}:22"], "port": 22}}}
    deployment = read_deployment(written(tmp_path, template_with(module, twin)), "sftp", VALUES)
    assert deployment.environment == {"A": "1=2", "LOG_LEVEL": "debug", "SFTP_METRICS_PORT": "9600"}
    assert deployment.desired == {"sftp": {"host": "sftp.example.com", "hostKeys": ["sftp.example.com:22"], "port": 22}}
    assert deployment.restart_policy == "on-failure"


def test_a_value_may_hold_what_json_would_have_to_escape(tmp_path: Path) -> None:
    twin = {"properties.desired": {"sftp": {"password": "${SFTP_PASSWORD}"}}}
    deployment = read_deployment(written(tmp_path, template_with({"settings": {}}, twin)), "sftp", VALUES)
    assert deployment.desired["sftp"]["password"] == VALUES["SFTP_PASSWORD"]


def test_a_layered_deployment_names_sections_by_their_path(tmp_path: Path) -> None:
    document = {
        "content": {
            "modulesContent": {
                "$edgeAgent": {"properties.desired.modules.sftp": {"env": {"A": {"value": "1"}}}},
                "sftp": {
                    "properties.desired.sftp": {"host": "${SFTP_HOST}"},
                    "properties.desired.transfers": {"verify": "size"},
                },
            }
        }
    }
    deployment = read_deployment(written(tmp_path, document), "sftp", VALUES)
    assert deployment.environment == {"A": "1"}
    assert deployment.desired == {"sftp": {"host": "sftp.example.com"}, "transfers": {"verify": "size"}}


def test_create_options_may_be_a_string_in_parts(tmp_path: Path) -> None:
    text = json.dumps({"Env": ["LONG=" + "x" * 800]})
    settings = {"createOptions": text[:512], "createOptions01": text[512:]}
    deployment = read_deployment(written(tmp_path, template_with({"settings": settings})), "sftp", VALUES)
    assert deployment.environment == {"LONG": "x" * 800}


@pytest.mark.parametrize(
    "document, message",
    [
        ({}, "it has no modulesContent"),
        ([], "it has no modulesContent"),
        ({"modulesContent": {"$edgeAgent": {}}}, "deploys no module 'sftp'; the modules in it: none"),
        (template_with({"env": {"A": {"value": "${MISSING}"}}}), "set the environment variable MISSING"),
        (template_with({"restartPolicy": "sometimes"}), "restartPolicy is 'sometimes'"),
        (template_with({"settings": {"createOptions": "{"}}), "createOptions are not JSON"),
        (template_with({"env": {}}, {"properties.desired": 1}), "must be a JSON object"),
    ],
)
def test_a_template_that_cannot_be_used_says_why(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(DeploymentError, match=message):
        read_deployment(written(tmp_path, document), "sftp", {})


def test_a_template_that_is_not_there_or_not_json_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="cannot be read: No such file"):
        read_deployment(tmp_path / "missing.json", "sftp", {})
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DeploymentError, match="is not JSON"):
        read_deployment(tmp_path / "broken.json", "sftp", {})


def test_the_runtime_hands_it_all_to_the_module(tmp_path: Path, address: str) -> None:
    module = {"env": {"LOG_LEVEL": {"value": "${LEVEL}"}, "SFTP_LOCAL_ROOT": {"value": "/data"}}}
    template = written(tmp_path, template_with(module))
    with LocalEdge(
        template,
        address=address,
        placeholders=VALUES,
        environment={"EXTRA": "1"},
        desired={"logLevel": "info"},
        start_module=False,
    ) as edge:
        environment = edge.module_environment
        assert (environment["LOG_LEVEL"], environment["EXTRA"]) == ("debug", "1")
        assert environment["SFTP_LOCAL_ROOT"] == str(edge.local_root)
        assert edge.desired == {"sftp": {"host": "sftp.example.com"}, "logLevel": "info", "$version": 1}


def test_a_runtime_that_cannot_start_leaves_nothing_behind(tmp_path: Path, address: str) -> None:
    template = written(tmp_path, template_with({"env": {"A": {"value": "${MISSING}"}}}))
    with pytest.raises(DeploymentError, match="MISSING"), LocalEdge(template, address=address, sftp_server=True):
        pass
    with LocalEdge(address=address, start_module=False):
        pass
