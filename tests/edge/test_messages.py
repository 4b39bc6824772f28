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


def test_a_route_leads_to_the_input_of_another_module() -> None:
    routes = Routes(
        [
            'FROM /messages/modules/camera/outputs/calls INTO BrokeredEndpoint("/modules/sftp/inputs/calls")',
            'FROM /messages/modules/camera/* WHERE a = 1 INTO BrokeredEndpoint( "/modules/sftp/inputs/calls" )',
            "FROM /messages/modules/camera/outputs/other INTO $upstream",
        ]
    )
    assert routes.targets("camera", "calls") == [("sftp", "calls")]
    assert routes.take("camera", "other")
    assert not routes.take("sftp", "calls")
    assert not routes.lead_upstream("camera", "calls")


@pytest.mark.parametrize("sink", ["$downstream", 'BrokeredEndpoint("/sftp")', "BrokeredEndpoint(/modules/a/inputs/b)"])
def test_a_route_that_leads_nowhere_is_none(sink: str) -> None:
    with pytest.raises(ValueError, match="leads neither to"):
        Routes([f"FROM /messages/* INTO {sink}"])


def test_a_message_for_an_input_waits_for_its_module_and_comes_again_until_it_is_acknowledged(
    edge: LocalEdge,
) -> None:
    edge.disconnect_module()
    for number in range(3):
        edge.send_to_input("numbers", str(number).encode(), message_id=f"id-{number}", sender="other")
    edge.wait_for_reported(lambda reported: len(reported["taken"]) == 3)
    taken = [edge.reported["taken"][f"taken-{number}"] for number in range(3)]
    assert taken == [["numbers", str(number), f"id-{number}", "other"] for number in range(3)]


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
