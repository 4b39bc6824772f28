"""Upload the files of a folder that grow, by their new bytes."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from iot.sftp.client._base.steps import ALONE
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._folders.folder_upload import FolderUpload
from iot.sftp.client._folders.growing_files import GrowingFiles
from iot.sftp.client._folders.rotation import Rotation
from iot.sftp.client._folders.settling import settled_version
from iot.sftp.client._folders.transferred import Transferred

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
    from iot.sftp.client._transfer.growth import Append
    from iot.sftp.client._transfer.transfer_context import TransferContext


class FolderAppend(FolderUpload):
    """From a local directory to the server, by new bytes: see `FolderDirection`."""

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
        self._files = GrowingFiles(order, append, local_files, paths, context=context, ledger=ledger)
        self._rotating = threading.Lock()  # one rotation at a time: it moves what belongs to other files

    def begin(self) -> None:
        """Prepare for an attempt: the server may be another one behind the same name."""
        super().begin()
        self._files.begin()

    def transfer(
        self,
        remote: RemoteFiles,
        found: FoundFile,
        dest: str,
        accept: Callable[[FileVersion], object],
        progress: Callable[[int, int | None], None],
    ) -> Steps[Transferred]:
        """Upload the new bytes of a file, while nothing else is done: it takes its time."""
        yield ALONE
        del dest  # it is the same at each time
        files = self._files
        with files.source(found.path) as descriptor:
            settled = settled_version(descriptor, remote.deadline)
            version = settled or FileVersion.of_local(os.fstat(descriptor))
            accept(version)
            context = replace(files.context, on_progress=progress)
            growth = files.ledger.growth(found.path)
            rotation = Rotation(files, remote)
            is_going_on = growth is not None and growth.is_beginning_of(descriptor, remote.deadline.check)
            if is_going_on and growth is not None and growth.coming is None:
                done = files.deliver(remote, descriptor, found.path, growth, context)
            else:
                done = self._settled(remote, found.path, descriptor, rotation, context)
            return Transferred(
                done.sent,
                version,
                growth=done.record,
                is_settled=settled is not None,
                is_atomic=done.is_atomic,
                finished=tuple(rotation.finished),
                is_new=done.is_new,
            )

    def _settled(
        self, remote: RemoteFiles, path: str, descriptor: int, rotation: Rotation, context: TransferContext
    ) -> AppendOutcome:
        """Upload a file after what was rotated has made way for it."""
        files = self._files
        with self._rotating:
            before = rotation.settle(path, descriptor)
            if before is not None:
                # Until this is recorded, another thread would finish the file before it at its destination
                done = files.deliver(remote, descriptor, path, before, context)
                files.ledger.note_growth(path, done.record, None)
                return done
        return files.deliver(remote, descriptor, path, None, context)
