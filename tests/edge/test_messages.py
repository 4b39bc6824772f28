"""Messages go where the deployment's routes lead, and wait in the edge hub while the way to the cloud is cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localedge import DeploymentError, LocalEdge
from localedge._routes import Routes


@pytest.mark.parametrize(
    "source",
    [
        "/messages/*",
        "/messages/modules/*",
        "/messages/modules/sftp/*",
        "/messages/modules/sftp/outputs/*",
        "/messages/modules/sftp/outputs/tasks",
        "/messages/modules/*/outputs/tasks",
    ],
)
def test_a_route_takes_what_its_source_says(source: str) -> None:
    routes = Routes([f"FROM {source} INTO $upstream"])
    assert routes.lead_upstream("sftp", "tasks")


@pytest.mark.parametrize(
    "source", ["/messages/modules/other/*", "/messages/modules/sftp/outputs/x", "/twinChangeNotif"]
)
def test_a_route_takes_nothing_else(source: str) -> None:
    assert not Routes([f"FROM {source} INTO $upstream"]).lead_upstream("sftp", "tasks")


def test_another_module_is_no_way_to_the_cloud() -> None:
    route = 'FROM /messages/* WHERE a = 1 INTO BrokeredEndpoint("/modules/other/inputs/in")'
    assert not Routes([route]).lead_upstream("sftp", "tasks")


def test_what_is_stored_arrives_when_the_way_to_the_cloud_is_back(edge: LocalEdge) -> None:
    edge.cut_upstream()
    for number in range(3):
        edge.invoke("sftp", "send", str(number))
    assert edge.messages_of("tasks") == []
    edge.restore_upstream()
    assert [message.body for message in edge.messages_of("tasks")] == [b"0", b"1", b"2"]


def deployment(tmp_path: Path, routes: object) -> Path:
    agent = {"properties.desired": {"modules": {"sftp": {"settings": {"image": "x"}}}}}
    content = {"$edgeAgent": agent, "$edgeHub": {"properties.desired": {"routes": routes}}}
    file = tmp_path / "deployment.json"
    file.write_text(json.dumps({"modulesContent": content}))
    return file


def test_what_no_route_takes_is_dropped(tmp_path: Path, address: str, echo_module: tuple[str, ...]) -> None:
    template = deployment(tmp_path, {"a": {"route": "FROM /messages/modules/sftp/outputs/other INTO $upstream"}})
    with LocalEdge(template, address=address, command=echo_module) as edge:
        edge.wait_until_connected()
        edge.invoke("sftp", "send", "1")
        assert edge.messages == []


def test_a_route_that_is_none_is_told_at_the_start(tmp_path: Path, address: str) -> None:
    template = deployment(tmp_path, {"a": "everything, please"})
    with pytest.raises(DeploymentError, match="is no route"), LocalEdge(template, address=address):
        pass
