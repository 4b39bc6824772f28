"""Direct methods, through the real SDK in a process of its own."""

from __future__ import annotations

import time

import pytest

from localedge import HubError, LocalEdge

LIMIT = 128 * 1024
QUOTES = 2  # a JSON string has two


def test_a_method_is_called_and_answered(shared_edge: LocalEdge) -> None:
    payload = {"path": "Übung/ä b.txt", "numbers": [1, 2.5, True, None]}
    assert shared_edge.invoke("sftp", "echo", payload) == (200, {"method": "echo", "payload": payload})


@pytest.mark.parametrize("payload", [None, {}, [], "", 0, False, "text"])
def test_any_json_value_is_a_payload(shared_edge: LocalEdge, payload: object) -> None:
    assert shared_edge.invoke("sftp", "echo", payload) == (200, {"method": "echo", "payload": payload})


@pytest.mark.parametrize("name", ["a b", "a/b", "Ünïcode", "$iothub", "a?$rid=1", "#", "+", "x" * 100])
def test_any_name_arrives_as_it_was_sent(shared_edge: LocalEdge, name: str) -> None:
    assert shared_edge.invoke("sftp", name)[1]["method"] == name


def test_the_modules_own_status_comes_back_as_an_answer(shared_edge: LocalEdge) -> None:
    assert shared_edge.invoke("sftp", "refuse") == (409, {"message": "refused"})


def test_calls_that_are_submitted_at_once_are_all_answered(shared_edge: LocalEdge) -> None:
    calls = [shared_edge.submit("sftp", "echo", number) for number in range(200)]
    assert [call.result(30)[1]["payload"] for call in calls] == list(range(200))


def test_a_call_that_is_not_answered_ends_in_504_at_its_time_limit(shared_edge: LocalEdge) -> None:
    started = time.monotonic()
    with pytest.raises(HubError, match="Timed out waiting for the response") as refusal:
        shared_edge.invoke("sftp", "silence", timeout=0.5)
    assert (refusal.value.status, refusal.value.code) == (504, 504101)
    assert 0.5 <= time.monotonic() - started < 20


def test_a_payload_that_is_not_json_never_reaches_the_modules_handler(shared_edge: LocalEdge) -> None:
    with pytest.raises(HubError) as refusal:
        shared_edge.invoke_raw("sftp", "echo", b"{not json", timeout=0.5)
    assert refusal.value.status == 504
    assert shared_edge.invoke("sftp", "echo")[0] == 200


def test_raw_bytes_are_handed_on_as_they_are(shared_edge: LocalEdge) -> None:
    assert shared_edge.invoke_raw("sftp", "echo", b'  {"a":\t1}') == (200, b'{"method": "echo", "payload": {"a": 1}}')


def test_text_that_only_an_escape_can_express_arrives(shared_edge: LocalEdge) -> None:
    assert shared_edge.invoke("sftp", "echo", "half \ud800")[1]["payload"] == "half \ud800"


@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT])
def test_a_request_over_128_kib_is_413(shared_edge: LocalEdge, size: int) -> None:
    with pytest.raises(HubError, match="128 KiB") as refusal:
        shared_edge.invoke("sftp", "echo", "x" * (size - QUOTES))
    assert refusal.value.status == 413


def test_a_request_and_an_answer_of_128_kib_pass(shared_edge: LocalEdge) -> None:
    status, answer = shared_edge.invoke("sftp", "large", LIMIT - QUOTES)
    assert (status, len(answer)) == (200, LIMIT - QUOTES)
    assert shared_edge.invoke_raw("sftp", "refuse", b" " * (LIMIT - 1) + b"1").status == 409


def test_an_answer_over_128_kib_is_413(shared_edge: LocalEdge) -> None:
    with pytest.raises(HubError, match="131073 bytes") as refusal:
        shared_edge.invoke("sftp", "large", LIMIT - QUOTES + 1)
    assert refusal.value.status == 413


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_name_of_no_or_more_than_100_characters_is_400(shared_edge: LocalEdge, name: str) -> None:
    with pytest.raises(HubError, match="1 to 100") as refusal:
        shared_edge.invoke("sftp", name)
    assert refusal.value.status == 400


def test_a_module_that_is_not_connected_is_404_at_once(empty_edge: LocalEdge) -> None:
    with pytest.raises(HubError, match="waiting for device to connect") as refusal:
        empty_edge.invoke("sftp", "echo")
    assert (refusal.value.status, refusal.value.code) == (404, 404103)


def test_a_call_with_a_connect_time_limit_waits_for_the_module(address: str, echo_module: tuple[str, ...]) -> None:
    with LocalEdge(address=address, command=echo_module, start_module=False) as edge:
        call = edge.submit("sftp", "echo", connect_timeout=20)
        edge.start_module()
        assert call.result(30)[0] == 200


def test_an_unknown_module_is_404(shared_edge: LocalEdge) -> None:
    with pytest.raises(HubError, match="no module 'other'") as refusal:
        shared_edge.invoke("other", "echo")
    assert refusal.value.status == 404


def test_a_call_whose_module_dies_is_404_at_once(edge: LocalEdge) -> None:
    with pytest.raises(HubError, match="closed its connection") as refusal:
        edge.invoke("sftp", "crash")
    assert (refusal.value.status, refusal.value.code) == (404, 404104)


def test_messages_are_kept_with_their_output_and_properties(shared_edge: LocalEdge) -> None:
    shared_edge.invoke("sftp", "send", '{"task": 1}')
    message = shared_edge.wait_for_message(lambda message: message.output == "tasks")
    assert message.module == "sftp"
    assert message.body == b'{"task": 1}'
    assert message.properties == {"$.ct": "application/json", "colour": "blue & green"}
