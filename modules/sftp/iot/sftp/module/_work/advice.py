"""Advise what to do about each code, for the operator of the device; one table for the status and the manual."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ADVICE: Mapping[str, str] = {
    "invalid_request": "Fix the request: the message names the key, and what is expected there.",
    "path_not_allowed": "Use a path inside the module's local root, and inside sftp.root if that is set.",
    "authentication_failed": (
        "Fix the user, the password or the key, in the section sftp of the twin or in the file or variable that it "
        "names, or have the account unlocked; "
        "another credential is tried at once, the same one after a pause."
    ),
    "permission_denied": (
        "On the server: have the user be given the permission. On the device: chown the directory that is mounted, "
        "or mount one, if the file system is read-only."
    ),
    "not_found": "See with list_directory what is there; local paths start at the local root; the sender may be late.",
    "unknown_method": "Use one of the methods that the message lists.",
    "is_a_directory": "Name a file, or use download_files and upload_files for a whole folder.",
    "not_a_directory": "A part of the path is a file: use another path, or take that file away.",
    "not_empty": "Delete what is in the directory first, or delete it with recursive.",
    "already_exists": "Use another path, or move or delete what is there first.",
    "request_id_conflict": "Give each call a request_id of its own; only a repeat of the same call has the same.",
    "too_large": (
        'Ask for pages: "limit": n, and then "after": the last path of the page before; '
        "move the parts of a folder one by one."
    ),
    "busy": "Try again later; if it stays so, raise transfers.concurrency, or see list_tasks for what is in the way.",
    "internal": "Report it with the line of the log that the message names; restart the module if it goes on.",
    "host_key_mismatch": (
        "Ask the server's administrator whether its key was changed. If so, pin the new one in sftp.hostKeys, "
        'or call test_connection with "learn": true. If not, it may be a man-in-the-middle attack: change nothing.'
    ),
    "transfer_incomplete": "The file was changed while it was moved: have it written under another name, then renamed.",
    "unsupported": "Have the server updated: it lacks what was asked for, or speaks only algorithms known to be weak.",
    "not_configured": "Set the section sftp in the desired properties: host, user, and password or privateKey.",
    "unreachable": "See whether host and port are right, whether the server runs, and what DNS and firewalls do.",
    "connection_lost": "Nothing, if it is rare: it is retried. If not, look at the link, and at the server's log.",
    "deadline_exceeded": (
        'Give more time ("timeout", of a task "time_limit"), or do it as a task ("background": true), which has a day.'
    ),
    "no_space": "Make room on the disk, or raise the quota, on the side that the message names.",
}
