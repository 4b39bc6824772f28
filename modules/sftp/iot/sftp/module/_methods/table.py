"""The direct methods, one row each.

To add one, change these files:

1. `_documents/requests.py`: the model of its payload, unless one of those there fits;
2. `_methods/implementations.py`: the function that it runs;
3. this table: its row;
4. `docs/direct-methods.md`: its chapter, which a test compares with the table;
5. `tests/module/test_calls_end_to_end.py`: a call of it on a real server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iot.sftp.module._documents.requests import (
    CancelRequest,
    CopyRequest,
    CreateDirectoryRequest,
    DeleteDirectoryRequest,
    DeleteRequest,
    DirectoryPageRequest,
    DisconnectRequest,
    FolderRequest,
    ListRequest,
    ListTasksRequest,
    LocalDeleteRequest,
    LocalPageRequest,
    PathRequest,
    Request,
    RotateRequest,
    ServerRequest,
    TaskRequest,
    TestRequest,
    TransferRequest,
    WriteRequest,
)
from iot.sftp.module._methods import implementations as run
from iot.sftp.module._methods.method import Lane, Method

if TYPE_CHECKING:
    from collections.abc import Mapping

METHODS: Mapping[str, Method] = {
    "is_connected": Method(ServerRequest, run.is_connected, Lane.CONTROL),
    "disconnect": Method(DisconnectRequest, run.disconnect, Lane.CONTROL, is_idempotent=True),
    "exists": Method(PathRequest, run.exists, Lane.QUICK),
    "download_file": Method(TransferRequest, run.download_file, Lane.TRANSFER, is_idempotent=True),
    "upload_file": Method(TransferRequest, run.upload_file, Lane.TRANSFER, is_idempotent=True),
    "delete_file": Method(DeleteRequest, run.delete_file, Lane.QUICK),
    "move_file": Method(CopyRequest, run.move_file, Lane.QUICK),
    "list_files": Method(ListRequest, run.list_files, Lane.QUICK, failed=None),
    "create_directory": Method(CreateDirectoryRequest, run.create_directory, Lane.QUICK, is_idempotent=True),
    "delete_directory": Method(DeleteDirectoryRequest, run.delete_directory, Lane.QUICK),
    "move_directory": Method(CopyRequest, run.move_directory, Lane.QUICK),
    "list_directory": Method(DirectoryPageRequest, run.list_directory, Lane.QUICK, failed=None),
    "stat": Method(PathRequest, run.stat, Lane.QUICK, failed=None),
    "read_file": Method(PathRequest, run.read_file, Lane.QUICK, failed=None),
    "write_file": Method(WriteRequest, run.write_file, Lane.QUICK, is_idempotent=True),
    "list_local_directory": Method(LocalPageRequest, run.list_local_directory, Lane.LOCAL, failed=None),
    "delete_local_file": Method(LocalDeleteRequest, run.delete_local_file, Lane.LOCAL),
    "test_connection": Method(TestRequest, run.test_connection, Lane.QUICK, is_idempotent=True),
    "rotate_key": Method(RotateRequest, run.rotate_key, Lane.LOCAL, failed=None, is_idempotent=True),
    "download_files": Method(FolderRequest, run.only_as_a_task, Lane.TASKS),
    "upload_files": Method(FolderRequest, run.only_as_a_task, Lane.TASKS),
    "get_task_status": Method(TaskRequest, run.get_task_status, Lane.TASKS),
    "cancel_task": Method(CancelRequest, run.cancel_task, Lane.TASKS, is_idempotent=True),
    "list_tasks": Method(ListTasksRequest, run.list_tasks, Lane.TASKS),
    "get_status": Method(Request, run.get_status, Lane.STATUS),
}
