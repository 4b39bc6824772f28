"""What outlives a connection: the SDK never subscribes again, so the hub has to remember."""

from __future__ import annotations

from localedge import LocalEdge


def wait_until_seen(edge: LocalEdge, version: int) -> None:
    edge.wait_for_reported(lambda reported: bool(reported["seen"]["version"] == version))


def test_methods_and_patches_arrive_after_the_connection_was_cut(edge: LocalEdge) -> None:
    for round_number in range(3):
        assert edge.disconnect_module()
        edge.wait_until_connected()
        assert edge.invoke("sftp", "echo", round_number)[1]["payload"] == round_number
        version = edge.patch_desired({"round": round_number})
        wait_until_seen(edge, version)


def test_a_module_that_was_away_gets_the_whole_document_and_deleted_keys_are_absent(edge: LocalEdge) -> None:
    edge.patch_desired({"a": 1, "b": 2})
    edge.wait_for_reported(lambda reported: reported["seen"] == {"version": 2, "keys": ["a", "b"]})
    edge.stop_hub()
    edge.wait_until_disconnected()
    version = edge.patch_desired({"a": None, "c": 3})
    edge.start_hub()
    edge.wait_for_reported(lambda reported: reported["seen"] == {"version": version, "keys": ["b", "c"]})


def test_a_hub_that_comes_back_knows_twins_and_sessions(edge: LocalEdge) -> None:
    edge.invoke("sftp", "report", {"kept": True})
    for _ in range(2):
        edge.stop_hub()
        edge.start_hub()
        edge.wait_until_connected()
    assert edge.reported["kept"] is True
    assert edge.invoke("sftp", "echo")[0] == 200


def test_cutting_a_connection_that_is_not_there_says_so(empty_edge: LocalEdge) -> None:
    assert not empty_edge.disconnect_module()
