"""Several servers through the real SDK: one twin, calls, tasks and rules for each, and what is reported of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.module.conftest import TALKATIVE, section_of, wait_for_log
from tests.servers import Server, listening, never_answers

from localedge import LocalEdge

PATIENCE = 120.0  # seconds: it only bounds a test that hangs


@pytest.fixture(scope="module")
def plant(own_address: str, openssh_server: Server, proftpd_server: Server) -> Iterator[LocalEdge]:
    """A device with OpenSSH as the default server, ProFTPD as another one, and one that does not answer."""
    rule = {"direction": "upload", "dest": "plant", "every": 3600, "min_age": 0, "source": "out"}
    with listening(never_answers) as port:
        desired = {
            "sftp": section_of(openssh_server),
            "servers": {
                "mes": section_of(proftpd_server),
                "dead": section_of(openssh_server, port=port, connectTimeout=2),
            },
            "rules": [rule | {"name": "to-sftp"}, rule | {"name": "to-mes", "server": "mes"}],
        }
        command = (sys.executable, "-c", TALKATIVE)
        with LocalEdge(address=own_address, desired=desired, command=command) as edge:
            (edge.local_root / "out").mkdir()
            yield edge
            assert edge.stop_module(limit=60) == 0
            assert "Traceback" not in edge.module_log


def end_of(edge: LocalEdge, task_id: str) -> dict[str, Any]:
    """Return the status of a task when it has ended."""
    end = time.monotonic() + PATIENCE
    while (status := edge.invoke("sftp", "get_task_status", {"task_id": task_id})[1])["result"] is None:
        assert time.monotonic() < end, status
        time.sleep(0.05)
    return dict(status)


def test_each_server_is_connected_and_reported_under_its_name(plant: LocalEdge, proftpd_server: Server) -> None:
    def is_there(reported: dict[str, Any]) -> bool:
        mes = reported.get("servers", {}).get("mes", {})
        return {reported.get("connection", {}).get("state"), mes.get("connection", {}).get("state")} == {"connected"}

    reported = plant.wait_for_reported(is_there, PATIENCE)
    assert (reported["servers"]["ac"], reported["servers"]["ad"]) == (200, "applied")
    mes = reported["servers"]["mes"]
    assert (mes["ac"], mes["value"]["user"], mes["value"]["auth"]) == (200, proftpd_server.user, "password")
    assert mes["connection"]["host_key"] == proftpd_server.host_key
    assert reported["connection"]["host_key"] != proftpd_server.host_key
    assert reported["servers"]["dead"]["connection"]["state"] in {"connecting", "failed"}
    assert str(proftpd_server.password) not in str(reported)


def test_calls_tasks_and_rules_reach_the_server_that_they_name(
    plant: LocalEdge, openssh_server: Server, proftpd_server: Server
) -> None:
    on = {"sftp": openssh_server, "mes": proftpd_server}
    (plant.local_root / "out" / "day.csv").write_text("1")
    for name, server in on.items():
        (server.directory / f"only-{name}").write_text(name)
        named = {"server": name}
        assert plant.invoke("sftp", "exists", {"path": f"only-{name}", **named}) == (200, True)
        upload = {"source": "out/day.csv", "dest": f"up-{name}", **named}
        assert plant.invoke("sftp", "upload_file", upload) == (200, True)
        status, accepted = plant.invoke(
            "sftp",
            "download_file",
            {"source": f"only-{name}", "dest": "in/", "background": True, "request_id": "one", **named},
        )
        if name == "sftp":
            assert status == 202
            assert end_of(plant, accepted["task_id"])["status"] == "Completed"
        else:  # the same id for another server is another call
            assert (status, accepted["code"]) == (409, "request_id_conflict")
        other = "mes" if name == "sftp" else "sftp"
        assert plant.invoke("sftp", "exists", {"path": f"only-{name}", "server": other}) == (200, False)

    def have_arrived(reported: dict[str, Any]) -> bool:
        rules = reported.get("rules", {}).get("value", {})
        return all(rules.get(f"to-{name}", {}).get("files", 0) >= 1 for name in on)

    plant.wait_for_reported(have_arrived, PATIENCE)
    for server in on.values():
        assert (server.directory / "plant" / "day.csv").read_text() == "1"
    assert (plant.local_root / "out" / "day.csv").exists()


def test_an_unknown_server_is_refused_with_the_names_of_those_that_there_are(plant: LocalEdge) -> None:
    status, answer = plant.invoke("sftp", "list_files", {"path": ".", "server": "mess"})
    assert (status, answer["result"], answer["code"]) == (400, None, "invalid_request")
    assert "'mess'" in answer["message"]
    assert "sftp, mes, dead" in answer["message"]


def test_log_and_status_name_the_server(plant: LocalEdge) -> None:
    assert plant.invoke("sftp", "exists", {"path": "nothing", "server": "mes"}) == (200, False)
    wait_for_log(plant, "exists (mes): 'nothing': 200", PATIENCE)
    status = plant.invoke("sftp", "get_status")[1]
    assert status["settings"]["servers"].keys() == {"mes", "dead"}
    assert status["reported"]["servers"]["mes"]["connection"]["state"] == "connected"
    assert status["queue"]["servers"].keys() == {"sftp", "mes", "dead"}


def test_a_server_that_is_removed_is_unknown_and_its_task_waits_for_it(
    plant: LocalEdge, openssh_server: Server, proftpd_server: Server
) -> None:
    before = {key: value for key, value in plant.desired.items() if not key.startswith("$")}
    (plant.local_root / "file").write_text("1")
    request = {"source": "file", "dest": "late", "server": "dead", "background": True}
    task_id = plant.invoke("sftp", "upload_file", request)[1]["task_id"]
    version = plant.patch_desired({"servers": {"mes": None, "dead": None}})
    plant.wait_for_reported(lambda reported: reported["servers"]["av"] == version, PATIENCE)
    assert plant.invoke("sftp", "exists", {"path": ".", "server": "mes"})[0] == 400
    rule = plant.reported["rules"]["value"]["to-mes"]
    assert (rule["ac"], rule["ad"]) == (400, "'server' must be one of sftp, not 'mes'")
    plant.replace_desired(before | {"servers": before["servers"] | {"dead": section_of(openssh_server)}})
    status = end_of(plant, task_id)
    assert (status["status"], status["server"]) == ("Completed", "dead")
    assert (openssh_server.directory / "late").read_text() == "1"
    assert plant.invoke("sftp", "exists", {"path": "only-mes", "server": "mes"})[0] == 200
    assert not (proftpd_server.directory / "late").exists()
