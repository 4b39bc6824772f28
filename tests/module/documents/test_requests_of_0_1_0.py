"""Tasks and request ids of 0.1.0 are those of this version: nothing is done twice, and nothing lost, by an update."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from iot.sftp.module._documents.requests import (
    ChangeRequest,
    CopyRequest,
    DeleteRequest,
    FolderRequest,
    TransferRequest,
)
from iot.sftp.module._documents.servers import DEFAULT_SERVER
from iot.sftp.module._work.task_record import new_task

DAY = 86_400.0
# What 0.1.0 made of a request with the least that is required: what its fingerprint is of, and its journal holds
FILE = {"source": "a", "dest": "b", "background": False, "time_limit": DAY}
FOLDER = FILE | {
    "background": True,
    "file_pattern": None,
    "recursive": False,
    "if_exists": "replace",
    "then": "keep",
    "min_age": 0.0,
}
AS_BEFORE: list[tuple[type[ChangeRequest], str, dict[str, Any], dict[str, Any]]] = [
    (TransferRequest, "upload_file", {"source": "a", "dest": "b"}, FILE),
    (FolderRequest, "upload_files", {"source": "a", "dest": "b"}, FOLDER),
    (CopyRequest, "move_file", {"source": "a", "dest": "b"}, {"source": "a", "dest": "b"}),
    (DeleteRequest, "delete_file", {"path": "a"}, {"path": "a"}),
]


@pytest.mark.parametrize("model, method, payload, before", AS_BEFORE, ids=lambda value: str(value)[:20])
def test_a_repeat_after_the_update_is_recognised(
    model: type[ChangeRequest], method: str, payload: dict[str, Any], before: dict[str, Any]
) -> None:
    same = hashlib.sha256(json.dumps([method, before], sort_keys=True).encode()).hexdigest()
    request = model.model_validate(payload)
    assert request.fingerprint(method) == same
    assert model.model_validate(payload | {"server": DEFAULT_SERVER}).fingerprint(method) == same
    assert model.model_validate(payload | {"server": "mes"}).fingerprint(method) != same


def test_a_task_of_0_1_0_is_for_the_default_server() -> None:
    assert new_task("upload_file", {"source": "a", "dest": "b"}, DAY).server == DEFAULT_SERVER


def test_a_task_for_the_default_server_can_be_read_by_0_1_0() -> None:
    assert FolderRequest.model_validate({"source": "a", "dest": "b"}).parameters() == {
        key: value for key, value in FOLDER.items() if key not in {"background", "time_limit"}
    }
    named = FolderRequest.model_validate({"source": "a", "dest": "b", "server": "mes"}).parameters()
    assert new_task("upload_files", named, DAY).server == "mes"
