"""Change the core in one place at a time, and see whether its tests notice."""

from __future__ import annotations

CORE = {
    "client/_errors": ["client/test_errors.py"],
    "client/_replace": ["client/test_transfers.py", "client/test_whole_files.py", "client/test_operations.py"],
    "client/_transfer": [
        "client/test_requests_in_flight.py",
        "client/test_transfers.py",
        "client/test_fast_path.py",
        "client/test_whole_files.py",
        "client/test_pace.py",
        "client/test_faulty_servers.py",
        "client/test_resume.py",
    ],
    "module/_methods": [
        "module/test_methods.py",
        "module/test_dispatch.py",
        "module/test_request_ids.py",
        "module/test_calls_end_to_end.py",
        "module/test_tasks_end_to_end.py",
    ],
    "module/_tasks": ["module/test_tasks.py", "module/test_status.py"],
    "module/_twin": ["module/test_twin.py", "module/test_configuration.py", "module/test_status.py"],
}
"""The modules, and the files of tests that hold them, the fastest first."""
