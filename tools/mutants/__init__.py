"""Change the core in one place at a time, and see whether its tests notice."""

from __future__ import annotations

CORE = {
    "client/_base/errors": ["client/base/test_errors.py"],
    "client/_base/lower_layers": ["client/base/test_lower_layers.py"],
    "client/_base/os_errors": ["client/base/test_os_errors.py"],
    "client/_base/sftp_statuses": ["client/base/test_sftp_statuses.py"],
    "client/_transfer/replace": [
        "client/transfer/test_transfers.py",
        "client/transfer/test_whole_files.py",
        "client/transfer/test_operations.py",
    ],
    "client/_transfer/pipeline": [
        "client/transfer/test_requests_in_flight.py",
        "client/transfer/test_transfers.py",
        "client/ssh/test_fast_path.py",
        "client/transfer/test_whole_files.py",
        "client/transfer/test_pace.py",
        "client/test_faulty_servers.py",
        "client/transfer/test_resume.py",
    ],
    "client/_transfer/read_pipeline": [
        "client/transfer/test_requests_in_flight.py",
        "client/transfer/test_transfers.py",
        "client/ssh/test_fast_path.py",
        "client/transfer/test_whole_files.py",
        "client/transfer/test_pace.py",
        "client/test_faulty_servers.py",
        "client/transfer/test_resume.py",
    ],
    "client/_transfer/write_pipeline": [
        "client/transfer/test_requests_in_flight.py",
        "client/transfer/test_transfers.py",
        "client/ssh/test_fast_path.py",
        "client/transfer/test_whole_files.py",
        "client/transfer/test_pace.py",
        "client/test_faulty_servers.py",
        "client/transfer/test_resume.py",
    ],
    "module/_methods/table": [
        "module/methods/test_methods.py",
        "module/methods/test_dispatch.py",
        "module/methods/test_request_ids.py",
        "module/test_calls_end_to_end.py",
        "module/work/test_tasks_end_to_end.py",
    ],
    "module/_work/tasks": ["module/work/test_tasks.py", "module/app/test_status.py"],
    "module/_work/task_attempts": ["module/work/test_tasks.py"],
    "module/_work/task_scheduler": ["module/work/test_tasks.py"],
    "module/_work/task_store": ["module/work/test_tasks.py"],
    "module/_documents/twin": [
        "module/documents/test_twin.py",
        "module/app/test_configuration.py",
        "module/app/test_status.py",
    ],
}
"""The modules, and the files of tests that hold them, the fastest first."""
