"""The HTTP status of each error code, for the responses of direct methods and the JSON of the command line.

The statuses are those of RFC 9110, section 15, and 507 of RFC 4918. This file imports nothing, as the command line does
not need what methods need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES: Mapping[str, int] = {
    "invalid_request": 400,
    "path_not_allowed": 400,
    "authentication_failed": 401,
    "permission_denied": 403,
    "not_found": 404,
    "unknown_method": 404,
    "is_a_directory": 409,
    "not_a_directory": 409,
    "not_empty": 409,
    "already_exists": 409,
    "request_id_conflict": 409,
    "too_large": 413,
    "busy": 429,
    "internal": 500,
    "host_key_mismatch": 502,
    "transfer_incomplete": 502,
    "unsupported": 502,
    "not_configured": 503,
    "unreachable": 503,
    "connection_lost": 503,
    "deadline_exceeded": 504,
    "no_space": 507,
}
