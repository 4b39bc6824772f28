"""The operations of a session on one file: transfers, its content as bytes, moving and deleting it."""

from __future__ import annotations

import os
import posixpath
import time
from typing import TYPE_CHECKING

from iot.sftp.client._calls.calls import CallAttempt
from iot.sftp.client._calls.session_core import SessionCore
from iot.sftp.client._files.remote_paths import check_names_file
from iot.sftp.client._transfer import operations
from iot.sftp.client._transfer.bandwidth import Bandwidth
from iot.sftp.client._transfer.download import download_file
from iot.sftp.client._transfer.file_content import FileContent, read_content
from iot.sftp.client._transfer.file_order import Direction, FileOrder, Modes, Verify
from iot.sftp.client._transfer.memory_file import memory_file
from iot.sftp.client._transfer.outcome import Transfer
from iot.sftp.client._transfer.upload import upload_file

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


class FileCalls(SessionCore):
    """One file at a time: see `SFTPSession`."""

    def delete_file(self, path: str, *, timeout: float | None = None) -> None:
        """Delete a file or a link; a directory is refused."""
        requested = operations.RequestedVersion()

        def work(attempt: CallAttempt) -> None:
            operations.delete_file(attempt.remote, self._paths.file_on_server(path), requested)

        self._calls.run("delete_file", path, timeout, work)

    def move_file(self, source: str, dest: str, *, timeout: float | None = None) -> bool:
        """Move a file, creating or replacing `dest` and creating its parents; a directory as `source` is refused.

        Returns whether the destination was replaced in one atomic step.
        """
        requested = operations.RequestedVersion()

        def work(attempt: CallAttempt) -> bool:
            start, end = self._paths.file_on_server(source), self._paths.dest_on_server(dest)
            return operations.move_file(attempt.remote, start, end, self._transfer_context("size"), requested)

        return self._calls.run("move_file", source, timeout, work, dest)

    def download_file(
        self,
        source: str,
        dest: str,
        *,
        timeout: float | None = None,
        verify: Verify = "size",
        progress: Callable[[int, int | None], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Transfer:
        """Download a file, atomically creating or replacing `dest` and creating its parents.

        What a broken attempt has left is resumed by the next one, in this process or a later one, as long as the source
        is the same.

        Parameters:
            source: the remote file.
            dest: the local file; an existing directory, or a path that ends with `/`, keeps the source's name.
            timeout: seconds.
            verify: `size`, or `sha256` to compare the hash of all bytes too.
            progress: receives the bytes that are there and those that there will be, at most ten times a second, in
                this thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
        """
        order = FileOrder(Direction.DOWNLOAD, source, dest, verify=verify)
        return self.transfer_file(order, timeout=timeout, progress=progress, cancelled=cancelled)

    def upload_file(
        self,
        source: str,
        dest: str,
        *,
        timeout: float | None = None,
        verify: Verify = "size",
        progress: Callable[[int, int | None], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Transfer:
        """Upload a file, atomically creating or replacing `dest` and creating its parents: see `download_file`.

        Parameters:
            source: the local file.
            dest: the remote file; an existing directory, or a path that ends with `/`, keeps the source's name.
            timeout: seconds.
            verify: `size`, or `sha256` to compare the hash of all bytes too.
            progress: receives the bytes that are there and those that there will be, at most ten times a second, in
                this thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
        """
        order = FileOrder(Direction.UPLOAD, source, dest, verify=verify)
        return self.transfer_file(order, timeout=timeout, progress=progress, cancelled=cancelled)

    def transfer_file(
        self,
        order: FileOrder,
        *,
        timeout: float | None = None,
        progress: Callable[[int, int | None], object] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Transfer:
        """Carry out an order for one file, as `download_file` and `upload_file` do.

        Parameters:
            order: which file, where to, and how.
            timeout, progress, cancelled: see `download_file`.
        """
        started = time.monotonic()
        context = self._transfer_context(order.verify, progress, order.modes)

        def download(attempt: CallAttempt) -> Transfer:
            with attempt.transfer() as remote:
                source = self._paths.on_server(order.source)
                outcome = download_file(remote, source, self._local_files, order.dest, context)
            return Transfer.of(outcome, time.monotonic() - started, attempt.number + 1)

        def upload(attempt: CallAttempt) -> Transfer:
            with (
                self._local_files.source(order.source) as descriptor,
                attempt.upload(os.fstat(descriptor).st_size) as remote,
            ):
                end, name = self._paths.dest_on_server(order.dest), posixpath.basename(order.source)
                outcome = upload_file(remote, descriptor, name, end, context=context, spare=attempt.spare)
            return Transfer.of(outcome, time.monotonic() - started, attempt.number + 1)

        work = download if order.direction is Direction.DOWNLOAD else upload
        return self._calls.run(order.operation, order.source, timeout, work, order.dest, cancelled=cancelled)

    def read_file(
        self, path: str, *, longest: int | None = None, timeout: float | None = None, verify: Verify = "size"
    ) -> FileContent:
        """Return the bytes of a remote file, all of one version of it, as a download does, without a local file.

        Parameters:
            path: the remote file.
            longest: bytes that it may have; with more, `TooLarge` is raised.
            timeout: seconds.
            verify: see `download_file`.
        """
        context = self._transfer_context(verify)

        def work(attempt: CallAttempt) -> FileContent:
            with attempt.transfer() as remote:
                return read_content(remote, self._paths.on_server(path), longest, context)

        return self._calls.run("read_file", path, timeout, work)

    def write_file(
        self,
        path: str,
        content: bytes,
        *,
        timeout: float | None = None,
        verify: Verify = "size",
        modes: Modes | None = None,
    ) -> Transfer:
        """Atomically create or replace a remote file with these bytes, creating its parents, as an upload does.

        Parameters:
            path: the remote file; a directory is refused, and a link to one.
            content: all that the file is to hold.
            timeout: seconds.
            verify: see `upload_file`.
            modes: the permissions of what is created.
        """
        started = time.monotonic()
        context = self._transfer_context(verify, modes=modes)

        def work(attempt: CallAttempt) -> Transfer:
            end = self._paths.on_server(check_names_file(path))
            with attempt.transfer() as remote:
                outcome = upload_file(
                    remote, descriptor, "", end, context=context, spare=attempt.spare, is_settled=True
                )
            return Transfer.of(outcome, time.monotonic() - started, attempt.number + 1)

        with memory_file(content, path) as descriptor:
            return self._calls.run("write_file", path, timeout, work)

    def limit_bandwidth(
        self, bytes_per_second: int | None = None, *, upload: int | None = None, download: int | None = None
    ) -> None:
        """Let all transfers together move so many bytes per second at most, from now on; `None` sets no limit.

        Parameters:
            bytes_per_second: of uploads and downloads together.
            upload: of uploads, within that.
            download: of downloads, within that.

        Raises:
            ValueError: one is not a whole number, or smaller than 1.
        """
        self._limit.bandwidth = Bandwidth(bytes_per_second, upload, download)
