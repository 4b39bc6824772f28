"""The growing files of a local folder, and what is recorded of each: what both their delivery and rotation need."""

from __future__ import annotations

import os
import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import NotFound
from iot.sftp.client._folders.destinations import Destinations
from iot.sftp.client._folders.remote_directories import RemoteDirectories
from iot.sftp.client._transfer.append_upload import AppendOutcome, Growth, append_upload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from iot.sftp.client._files.local_files import LocalEntry, LocalFiles
    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._files.remote_paths import RemotePaths
    from iot.sftp.client._folders.delivery_ledger import SessionLedger
    from iot.sftp.client._folders.folder_order import FolderOrder
    from iot.sftp.client._transfer.growth import Append, GrowthRecord
    from iot.sftp.client._transfer.transfer_context import TransferContext


class GrowingFiles:
    """The files of a folder that are appended to: where they are, where they go, and how they are delivered.

    Attributes:
        order: which files.
        ledger: what was delivered of each.
        context: how they are uploaded.
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
        self.order = order
        self.ledger = ledger
        self.context = context
        self._append = append
        self._local_files = local_files
        self._dest = paths.on_server(order.dest)
        self._destinations = Destinations(order)
        self.begin()

    def begin(self) -> None:
        """Prepare for an attempt: the server may be another one behind the same name."""
        self._directories = RemoteDirectories(self._dest, self.order.modes.directory)

    def source(self, path: str) -> AbstractContextManager[int]:
        """Open a file of the folder, given relative to it."""
        return self._local_files.source(posixpath.join(self.order.source, path))

    def beside(self, path: str, proceed: Callable[[], object]) -> Iterator[LocalEntry]:
        """Yield what else is in the directory of a file."""
        directory, name = posixpath.split(path)
        where = posixpath.join(self.order.source, directory) if directory else self.order.source
        for entry in self._local_files.entries(where, proceed):
            if entry.name != name and not entry.is_directory:
                yield entry

    def dest_of(self, path: str) -> str:
        """Return where a file goes, on the server."""
        return posixpath.join(self._dest, self.place_of(path))

    def place_of(self, path: str) -> str:
        """Return where a file goes, relative to the destination."""
        return self._destinations.of(path)

    def holds(self, path: str, growth: GrowthRecord) -> bool:
        """Return whether a file is there that begins with what was delivered."""
        try:
            with self.source(path) as descriptor:
                return growth.is_beginning_of(descriptor)
        except NotFound:
            return False

    def deliver(
        self,
        remote: RemoteFiles,
        descriptor: int,
        path: str,
        growth: GrowthRecord | None,
        context: TransferContext,
    ) -> AppendOutcome:
        """Deliver what a file has grown by; what has arrived is for the caller to record.

        Parameters:
            remote: the server's files.
            descriptor: of the local file.
            path: under which what was delivered is recorded, and which gives its destination.
            growth: what was delivered.
            context: how to upload.
        """
        was_cut = growth is not None and not growth.is_beginning_of(descriptor, remote.deadline.check)
        delivered = 0 if growth is None or was_cut else growth.length
        end = self._append.end_of(descriptor, delivered, os.fstat(descriptor).st_size)
        if growth is not None and not was_cut and end <= delivered and growth.coming is None:
            return AppendOutcome(0, growth, is_new=False)
        if growth is None:
            self._directories.make_parent(remote, self.place_of(path))

        def note_coming(there: GrowthRecord, coming: GrowthRecord) -> None:
            self.ledger.note_growth(path, replace(there, coming=coming), None)

        what = Growth(descriptor, end, growth, was_cut, note_coming)
        return append_upload(remote, self.dest_of(path), what, context)
