"""Each code has the HTTP status that the contract promises."""

from __future__ import annotations

from iot.sftp.client import error_classes
from iot.sftp.module._methods.idempotency import RequestIdConflict
from iot.sftp.module._methods.statuses import STATUSES

# The table of the contract, and the one code that the module adds to it.
CONTRACT = {
    "invalid_request": 400, "path_not_allowed": 400, "authentication_failed": 401, "permission_denied": 403,
    "not_found": 404, "unknown_method": 404, "is_a_directory": 409, "not_a_directory": 409, "too_large": 413,
    "busy": 429, "internal": 500, "host_key_mismatch": 502, "transfer_incomplete": 502, "unsupported": 502,
    "not_configured": 503, "unreachable": 503, "connection_lost": 503, "deadline_exceeded": 504, "no_space": 507,
    "not_empty": 409, "already_exists": 409, RequestIdConflict.code: 409,
}  # fmt: skip


def test_every_code_has_the_status_of_the_contract() -> None:
    assert STATUSES == CONTRACT


def test_every_error_has_a_status() -> None:
    assert {error.code for error in error_classes()} == set(STATUSES)
