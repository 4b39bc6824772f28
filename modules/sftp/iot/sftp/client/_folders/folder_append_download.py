"""Download the files of a remote folder that grow, by their new bytes."""

from __future__ import annotations

import posixpath
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.steps import ALONE
from iot.sftp.client._files.file_version import FileVersion, Observed
from iot.sftp.client._folders.folder_download import FolderDownload
from iot.sftp.client._folders.remote_rotation import RemoteRotation
from iot.sftp.client._folders.settling import settles_in
from iot.sftp.client._folders.transferred import Finished, Transferred
from iot.sftp.client._transfer.append_download import RemoteGrowth, WasRotated, append_download
from iot.sftp.client._transfer.download_source import look_at_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._files.local_files import LocalFiles
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._files.remote_paths import RemotePaths
    from iot.sftp.client._folders.delivery_ledger import SessionLedger
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._folders.folder_page import FoundFile
    from iot.sftp.client._transfer.append_upload import AppendOutcome
    from iot.sftp.client._transfer.growth import Append, GrowthRecord
    from iot.sftp.client._transfer.transfer_context import TransferContext


class FolderAppendDownload(FolderDownload):
    """From the server into a local directory, by new bytes: see `FolderDirection`.

    A file that does not begin with what is here was rotated, or rewritten: it replaces what is here, once that is
    finished.
    """

    def __init__(
        self,
        order: FolderOrder,
        append: Append,
        local_files: LocalFiles,
        paths: RemotePaths,
        *,
        context: TransferContext,
        ledger: SessionLedger,
    ) -> None:
        """Take what is to be done, how both sides are reached, and what was delivered of each file."""
        super().__init__(order, local_files, paths, context, is_remembered=True)
        self._append = append
        self._ledger = ledger
        self.begin()

    def begin(self) -> None:
        """Prepare for an attempt."""
        self._rotation = RemoteRotation(
            self._order, self._append, self._source, self._dest, context=self._context, ledger=self._ledger
        )

    def transfer(
        self,
        remote: RemoteFiles,
        found: FoundFile,
        dest: str,
        accept: Callable[[FileVersion], object],
        progress: Callable[[int, int | None], None],
    ) -> Steps[Transferred]:
        """Download the new bytes of a file, while nothing else is done: it takes its time."""
        yield ALONE
        source = posixpath.join(self._source, found.path)
        attributes = look_at_source(remote, source, lambda seen: accept(FileVersion.of_remote(seen)))
        version = FileVersion.of_remote(attributes)
        since = found.seen if version == found.version else time.monotonic()
        is_settled = version.tells_time and not settles_in(Observed(version, since))
        finished: list[Finished] = []
        if self._ledger.growth(found.path) is None and self._rotation.may_be_renamed(found.path):
            finished += self._rotation.settle(remote, found.path)

        def note_coming(here: GrowthRecord, coming: GrowthRecord) -> None:
            self._ledger.note_growth(found.path, replace(here, coming=coming), None)

        def append(*, finds_rotated: bool) -> AppendOutcome:
            before = self._ledger.growth(found.path)
            growth = RemoteGrowth(source, attributes, self._append.lines, before, note_coming, finds_rotated)
            return append_download(remote, growth, self._dest, dest, replace(self._context, on_progress=progress))

        try:
            done = append(finds_rotated=True)
        except WasRotated:
            finished += self._rotation.settle(remote, found.path)
            done = append(finds_rotated=False)
        return Transferred(
            done.sent,
            version,
            growth=done.record,
            is_settled=is_settled,
            is_atomic=done.is_atomic,
            finished=tuple(finished),
            is_new=done.is_new,
        )
