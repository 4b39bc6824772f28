"""Drop boxes: folders that take files and refuse to rename them, or take names of a pattern only.

Files go there directly.

What was found out is recorded beside the resume records, so that a new process does not leave
another temporary file there to find it out again. After a day it is found out again.

A file that is there is not overwritten. Where the server shows nothing of it, EXCLUSIVE decides; whether a server
knows that is tried before anything is written. Not covered is a server that shows nothing, does not know EXCLUSIVE, and
cuts a file that is opened without TRUNCATE.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import Busy, Unsupported
from iot.sftp.client._ssh.server_traits import RENAME, TEMPORARY_NAME
from iot.sftp.client._transfer.resume_records import KEPT_FOR, ResumeState

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._transfer.transfer_context import TransferContext

logger = logging.getLogger(__name__)

KIND = "drop box"  # of record


class DropBox:
    """A remote directory, and what is refused there."""

    def __init__(self, remote: RemoteFiles, context: TransferContext, directory: str) -> None:
        """Look at this directory."""
        self._traits = remote.traits
        self._context = context
        self._directory = directory
        self._key = KIND, context.server, directory

    @property
    def refusal(self) -> str:
        """What is refused in this directory, empty for nothing that is known; looked up once in each session."""
        known = self._traits.refusals.get(self._directory)
        if known is None:
            known = self._remembered()
            self._traits.learn(self._directory, known)
        return known

    def learn(self, refusal: str) -> None:
        """Record what is refused, and log it once."""
        self._traits.learn(self._directory, refusal)
        with suppress(Busy), self._context.records.held(self._key, self._directory) as record:
            record.save(ResumeState(KIND, list(self._context.server), self._directory, source=[refusal]))
        logger.warning(
            "The server refuses %s in %r: files that are new there are written under their own names, which is not "
            "atomic, and those that are there are not replaced",
            refusal,
            self._directory or ".",
        )

    def reason(self) -> Unsupported:
        """Return the error of a file that is there already."""
        allow = "renaming" if self.refusal != TEMPORARY_NAME else "names that begin with .iot-sftp-"
        message = (
            f"cannot replace this file: the server refuses {self.refusal or RENAME} in that folder, and a file is not "
            f"overwritten in place. Allow {allow} there"
        )
        return Unsupported(message)

    def _remembered(self) -> str:
        with suppress(Busy), self._context.records.held(self._key, self._directory) as record:
            state = record.load()
            if state is not None and state.direction == KIND and record.is_on_disk and record.age < KEPT_FOR:
                refusal = state.source[0] if state.source else ""
                return refusal if refusal in {RENAME, TEMPORARY_NAME} else ""
            record.forget()
        return ""
