"""The operations of a session on the files of a folder, many at a time."""

from __future__ import annotations

import inspect
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from iot.sftp.client._calls.session_core import SessionCore
from iot.sftp.client._folders.folder_append import FolderAppend
from iot.sftp.client._folders.folder_append_download import FolderAppendDownload
from iot.sftp.client._folders.folder_download import FolderDownload
from iot.sftp.client._folders.folder_order import FolderOrder, IfExists, Then
from iot.sftp.client._folders.folder_run import FolderRun
from iot.sftp.client._folders.folder_upload import FolderUpload
from iot.sftp.client._folders.selection import Order, Selection
from iot.sftp.client._transfer.file_order import Direction, Verify

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from iot.sftp.client._folders.delivery_ledger import Ledger, SessionLedger
    from iot.sftp.client._folders.folder_direction import FolderDirection
    from iot.sftp.client._folders.folder_progress import FileOutcome, FolderProgress, FolderTransfer
    from iot.sftp.client._transfer.growth import Append

Session = TypeVar("Session")
Options = ParamSpec("Options")
Result = TypeVar("Result")


def _with_options_of(
    model: Callable[Concatenate[Session, Direction, Options], Result],
) -> Callable[[Callable[..., Result]], Callable[Concatenate[Session, Options], Result]]:
    """Give a method the parameters of a model, for people and type checkers, without the direction: once is enough."""

    def give(method: Callable[..., Result]) -> Callable[Concatenate[Session, Options], Result]:
        signature = inspect.signature(model)
        ours = [one for one in signature.parameters.values() if one.name != "direction"]
        vars(method)["__signature__"] = signature.replace(parameters=ours)
        return method

    return give


class FolderCalls(SessionCore):
    """Many files in one call: see `SFTPSession`."""

    def _transfer_files(
        self,
        direction: Direction,
        source: str,
        dest: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        file_pattern: str | None = None,
        recursive: bool = False,
        order: str = "name",
        rename: Callable[[str], str] | None = None,
        if_exists: str = "replace",
        backup_to: str | None = None,
        then: str = "keep",
        move_to: str | None = None,
        min_age: float = 0.0,
        append: Append | None = None,
        timeout: float | None = None,
        progress: Callable[[FolderProgress], object] | None = None,
        cancelled: threading.Event | None = None,
        ledger: Ledger | None = None,
        verify: Verify = "size",
        verify_existing: bool = False,
    ) -> FolderTransfer:
        folder_order = FolderOrder(
            direction,
            source,
            dest,
            selection=Selection(
                include=include,
                exclude=exclude,
                file_pattern=file_pattern,
                recursive=recursive,
                min_age=min_age,
                order=Order.of(order),
            ),
            rename=rename,
            if_exists=IfExists.of(if_exists),
            backup_to=backup_to,
            then=Then.of(then),
            move_to=move_to,
            verify=verify,
            verify_existing=verify_existing,
            append=append,
        )
        return self.transfer_folder(
            folder_order, timeout=timeout, progress=progress, cancelled=cancelled, ledger=ledger
        )

    @_with_options_of(_transfer_files)
    def download_files(self, *paths: Any, **options: Any) -> FolderTransfer:
        """Download the files of a folder, many at a time, each as `download_file` does.

        One file's failure does not stop the others: it is counted, and the first 20 are reported. A file that is
        deleted before its turn comes is no failure. Links to files are taken as files, links to directories are not
        followed.

        Parameters:
            source: the remote folder.
            dest: the local folder, made if it is missing.
            include: globs of which a file has to match one; all files if there is none. They are relative to `source`:
                `*` and `?` stand for characters of a name, `**` for folders, none included (`**/x` is also `x`).
            exclude: globs of which a file must match none.
            file_pattern: a substring of a file's path, as `list_files` shows it.
            recursive: take the folders in it too, into folders of the same names.
            order: which files come first: by `name`, or the `oldest` or `newest`, over all folders. Small files are in
                flight by the dozen, so that they need not arrive in the order in which they begin. With `newest`, files
                that appear meanwhile go before those that wait.
            rename: returns where a file goes, relative to `dest`, by its path relative to `source`. Two files of one
                call never replace each other: the second one fails (`AlreadyExists`).
            if_exists: `replace`; `skip` leaves alone what is there under that name; `skip_same` what has the same size
                and time (whole seconds) too; `rename` gives the file a number (`a-1.csv`); `fail` is its failure
                (`AlreadyExists`); `backup` keeps what is there in `backup_to`, before it is replaced.
            backup_to: a folder on the side of `dest`, in which replaced files keep their paths; a second one of the
                same path gets a number.
            then: `keep`, `delete` or `move` (into `move_to`) the file at the source after its own success, unless it
                has changed meanwhile. That needs proof that this very version has arrived: where `if_exists` finds the
                same size and time, the bytes are compared by a hash, and are transferred if they differ. A file that
                cannot be deleted or moved is not transferred again; only that is tried again by the next call.
            move_to: a folder on the source's side; what is in it is not taken. If it is on another file system, files
                are copied there.
            min_age: seconds since a file's modification, so that what is still being written is left for the next
                time; looked at again when a file's turn comes. The server's clock is taken to be right.
            append: keep up with files that grow (logs): `Append()` transfers their new bytes only, `Append(lines=True)`
                whole lines of them. The destination is always a beginning of one version of the file. A file that was
                cut or rewritten replaces its destination; a destination that holds anything else is left alone
                (`AlreadyExists`). Only with `then="keep"` and `if_exists="replace"`. What was delivered is remembered
                by the session, or by a ledger that is a `GrowthLedger`.
            timeout: seconds.
            progress: receives how far it is, at most ten times a second, in the caller's thread.
            cancelled: ends the call with `Cancelled` when it is set; an `Interruption` ends it for now.
            ledger: knows which versions of files have arrived before, and records which ones have.
            verify: as for `download_file`.
            verify_existing: where a file of the same size and time is there, compare the bytes by a hash, and leave it
                alone if they are the same, also with `replace`; for a call that resumes one that was ended.

        Raises:
            SFTPError: what stopped all of it: the connection, the deadline, a full disk, a source that is not there.
        """
        return self._transfer_files(Direction.DOWNLOAD, *paths, **options)

    @_with_options_of(_transfer_files)
    def upload_files(self, *paths: Any, **options: Any) -> FolderTransfer:
        """Upload the files of a local folder, many at a time, each as `upload_file` does: see `download_files`."""
        return self._transfer_files(Direction.UPLOAD, *paths, **options)

    def transfer_folder(
        self,
        order: FolderOrder,
        *,
        timeout: float | None = None,
        progress: Callable[[FolderProgress], object] | None = None,
        cancelled: threading.Event | None = None,
        ledger: Ledger | None = None,
        on_file: Callable[[FileOutcome], object] | None = None,
    ) -> FolderTransfer:
        """Carry out an order for a folder, as `download_files` and `upload_files` do.

        Parameters:
            order: which files of which folder, and how.
            timeout, progress, cancelled, ledger: see `download_files`.
            on_file: receives what becomes of each file, in threads of the call: of one that is delivered, just before
                the ledger's `note`. It must not raise. What is skipped is not reported.

        Raises:
            SFTPError: see `download_files`.
        """
        started = time.monotonic()
        key = order.direction, order.source, order.dest, order.then
        remembered = self._ledgers.of(key, ledger)
        # Without a ledger, what is kept at the source is transferred by each call
        known = None if ledger is None and order.keeps_source and order.append is None else remembered
        direction = self._direction_of(order, remembered, is_remembered=known is not None)
        with closing(FolderRun(order, direction, known, progress, on_file)) as run:
            self._calls.run_while_it_advances(
                order.operation,
                order.source,
                timeout,
                run.attempt,
                order.dest,
                done=lambda: run.done,
                cancelled=cancelled,
            )
            return run.result(time.monotonic() - started)

    def _direction_of(self, order: FolderOrder, ledger: SessionLedger, *, is_remembered: bool) -> FolderDirection:
        """Return how the files of an order are transferred."""
        files, paths = self._local_files, self._paths
        context = self._transfer_context(order.verify, modes=order.modes)
        if order.append is not None:
            appends = FolderAppendDownload if order.direction is Direction.DOWNLOAD else FolderAppend
            return appends(order, order.append, files, paths, context=context, ledger=ledger)
        way = FolderDownload if order.direction is Direction.DOWNLOAD else FolderUpload
        return way(order, files, paths, context, is_remembered=is_remembered)
