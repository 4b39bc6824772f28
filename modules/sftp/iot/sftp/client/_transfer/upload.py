"""Uploading one file: it is whole and checked under a temporary name before it takes its destination's place.

Three round trips where nothing is in the way: one to open the temporary file and to learn whether the destination is
a directory; one for the bytes, the attributes, the server's disk, the size and the close; and one for the rename,
which has to wait until all of these have gone well.
"""

from __future__ import annotations

import logging
import os
import posixpath
import struct
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import (
    Busy,
    ConnectionLost,
    DeadlineExceeded,
    NoSpace,
    NotADirectory,
    NotFound,
    PermissionDenied,
    SFTPError,
    TransferIncomplete,
    Unsupported,
)
from iot.sftp.client._files.file_version import SECOND, FileVersion
from iot.sftp.client._files.remote_files import FSYNC
from iot.sftp.client._ssh.packets import Attributes, Kind, OpenFlag, encode_path, string
from iot.sftp.client._ssh.server_traits import RENAME, TEMPORARY_NAME
from iot.sftp.client._transfer.drop_boxes import DropBox
from iot.sftp.client._transfer.pipeline import Lane, SourceChanged, Upload
from iot.sftp.client._transfer.replace import (
    RenameRefused,
    is_temporary,
    remote_key,
    settle_aside,
    temporary_name,
    try_to_replace,
)
from iot.sftp.client._transfer.terms import Outcome
from iot.sftp.client._transfer.unfinished import WORTH_KEEPING, Progress
from iot.sftp.client._transfer.verify import PART, beginning_is_same, compare_hashes, parts_are_same, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from iot.sftp.client._files.remote_files import RemoteFiles
    from iot.sftp.client._ssh.channel import Reply
    from iot.sftp.client._transfer.terms import Terms
    from iot.sftp.client._transfer.unfinished import Record

    Spare = Callable[[], AbstractContextManager[RemoteFiles | None]]

logger = logging.getLogger(__name__)

PERMISSION_BITS = 0o777
NEW = OpenFlag.CREATE | OpenFlag.EXCLUSIVE
OWNED = 0o600  # what is written can be read and written by its owner
LOOKS = 5  # at a source that is being written, before it is read as it is
SAVE_EVERY = 1.0  # seconds
LAGGING = (0.1, 0.4, 1.0, 2.0)  # seconds, before a size that is too small is asked for again

# One channel carries its window, 2 MiB with OpenSSH, in one round trip. Where that is slow, more channels are used.
LANES_MOST = 8
ROUND_TRIP_OF_A_LANE = 0.006  # seconds
BYTES_OF_A_LANE = 4 * 1024 * 1024  # bytes that are worth a further channel


def upload_file(
    remote: RemoteFiles, descriptor: int, name: str | None, dest: str, *, terms: Terms, spare: Spare
) -> Outcome:
    """Write a local file's bytes, permissions and modification time to a remote one.

    Parameters:
        remote: the server's files.
        descriptor: of the local file.
        name: of the local file, which it keeps where `dest` is a directory or ends with `/`; `None` does not ask.
        dest: the remote file.
        terms: how to do it.
        spare: lends the server's files over a further channel, if there is one.
    """
    path = posixpath.join(dest, name) if name and dest.endswith("/") else dest
    with terms.unfinished.held(remote_key(terms, path), path) as record:
        try:
            return _Run(remote, descriptor, path, record=record, terms=terms, spare=spare).run(
                may_be_directory=name is not None and path == dest
            )
        except _IsDirectory:
            pass
        except SourceChanged as error:
            raise TransferIncomplete(error.message, path=error.path) from error
    return upload_file(remote, descriptor, name, dest + "/", terms=terms, spare=spare)


def forget_rename(remote: RemoteFiles, dest: str, terms: Terms) -> None:
    """Forget an upload whose rename was not heard of, since it is known by other means to have arrived."""
    with suppress(Busy), terms.unfinished.held(remote_key(terms, dest), dest) as record:
        earlier = record.load()
        if earlier is not None and earlier.renaming and remote.is_missing(earlier.temporary):
            if earlier.aside:
                settle_aside(remote, earlier)
            record.forget()


@contextmanager
def no_spare() -> Iterator[RemoteFiles | None]:
    """Lend no further channel."""
    yield None


class _NameRefused(Unsupported):
    """Where nothing has the destination's name, that is refused as well."""


class _IsDirectory(Exception):  # noqa: N818 - it is no error: the file goes into the directory
    pass


class _Run:
    """One try to upload a file."""

    def __init__(
        self, remote: RemoteFiles, descriptor: int, dest: str, *, record: Record, terms: Terms, spare: Spare
    ) -> None:
        self._remote = remote
        self._descriptor = descriptor
        self._dest = dest
        self._record = record
        self._terms = terms
        self._spare = spare
        self._before = os.fstat(descriptor)
        self._is_settled = False
        self._renamed_before: Progress | None = None  # whose rename was asked for, and had not been carried out
        self._drop_box = DropBox(remote, terms, posixpath.dirname(dest))
        self._progress = Progress("upload", list(terms.server), dest)
        self._next_save = time.monotonic() + SAVE_EVERY

    def run(self, *, may_be_directory: bool) -> Outcome:
        asked = self._remote.send(Kind.STAT, string(encode_path(self._dest))) if may_be_directory else None
        if asked is not None and not self._remote.traits.keeps_order:
            if self._remote.is_directory(asked, self._dest):
                raise _IsDirectory
            asked = None
        self._is_settled = self._settle()
        earlier = self._earlier()
        if earlier is not None and earlier.renaming:
            verified = self._arrived_as(earlier)
            if verified:
                self._record.forget()
                return Outcome(self._before.st_size, verified, earlier.whole, atomic=not earlier.aside)
        try:
            handle = self._open(earlier)
            self._progress.opened = True
            if asked is not None and self._remote.is_directory(asked, self._dest):
                self._close(handle)
                raise _IsDirectory  # noqa: TRY301 - it has to be cleaned up
            resumed, verified = self._go_on_or_anew(handle)
            atomic = not self._is_direct
            if atomic:
                verified, atomic = self._replace(verified)
        except BaseException as error:
            self._clean_up(error)
            raise
        self._record.forget()
        return Outcome(self._before.st_size, verified, resumed, atomic)

    # --- which version it is ---

    @property
    def _version(self) -> FileVersion:
        return FileVersion.of_local(self._before)

    def _settle(self) -> bool:
        """Wait until a further write would show in the local file's times; tell whether it would."""
        for _ in range(LOOKS):
            seen, since = self._version, time.monotonic()
            pause = seen.settles_in()
            if pause:
                self._remote.deadline.pause(pause)
                self._remote.deadline.check()
                self._before = os.fstat(self._descriptor)
            self._progress.source = [*self._version]
            if self._version == seen and not seen.settles_in(time.monotonic() - since):
                return True
        return False

    def _check_source(self, moved: int) -> bool:
        """Raise if the local file was written meanwhile; tell whether its bytes have to be compared to know that.

        A change time alone may be that of a new link, name or permission.
        """
        after = FileVersion.of_local(os.fstat(self._descriptor))
        _compare(moved, after.size, self._dest)
        if after.modified != self._version.modified:
            message = "the local file was changed while it was read: try again when it is complete"
            raise SourceChanged(message, path=self._dest)
        return after != self._version or not self._is_settled

    # --- the temporary file ---

    @property
    def _temporary(self) -> str:
        return self._progress.temporary

    @property
    def _is_direct(self) -> bool:
        """Whether the bytes go to the destination itself, where nothing else was."""
        return self._temporary == self._dest

    def _earlier(self) -> Progress | None:
        """Return what an earlier try has left to go on with; clean up what is left of another one."""
        earlier = self._record.load()
        if earlier is None:
            return None
        if earlier.aside:
            settle_aside(self._remote, earlier)
        same = self._is_settled and earlier.source == self._progress.source
        worth_keeping = WORTH_KEEPING <= earlier.whole <= self._before.st_size or earlier.renaming
        if (same and worth_keeping) or earlier.temporary == self._dest:
            return earlier
        if earlier.renaming:  # what is removed by us has not got its name
            self._record.save(replace(earlier, renaming="", aside=""))
        self._remove(earlier)
        return None

    def _arrived_as(self, earlier: Progress) -> str:
        """Tell how a file was verified that an earlier attempt has given its name without hearing so; empty otherwise.

        Its temporary name is nobody else's, and the server has had this version, whole, under it: it is gone only when
        the rename was carried out. So it is not sent again, though its receiver may have taken it away by now. What
        else is there may be a later one, within this call; after a longer time, it is reason to send it again.
        """
        if not self._remote.is_missing(earlier.temporary):
            return ""
        if earlier.temporary in self._terms.renaming:
            return earlier.renaming
        try:
            there = self._remote.stat(self._dest)
        except (NotFound, NotADirectory):
            # Taken by its receiver, most likely. But a server may also have come back with an older disk, or another
            # one: only what had been synced to it cannot have gone otherwise.
            folder = posixpath.dirname(self._dest) or "."
            is_certain = self._remote.offers(FSYNC) and not self._remote.is_missing(folder)
            return earlier.renaming if is_certain else ""
        except (PermissionDenied, Unsupported):
            return ""
        if there.size not in {None, self._before.st_size}:
            return ""
        return self._verified_at_dest(earlier, FileVersion.of_remote(there))

    def _verified_at_dest(self, earlier: Progress, there: FileVersion) -> str:
        """Tell how what is at the destination is known to be the local file; empty if it is another."""
        try:
            with self._remote.opened(self._dest, OpenFlag.READ, wait_for_close=False) as handle:
                if self._terms.verify == "sha256" and earlier.renaming in {"size", "acknowledged"}:
                    return compare_hashes(self._remote, handle, self._dest, self._descriptor)
                is_same = beginning_is_same(self._remote, handle, self._dest, self._descriptor, self._before.st_size)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except TransferIncomplete:
            return ""
        except SFTPError as error:
            logger.debug("%r cannot be read back: %s", self._dest, error.message)
            set_by_us = _on_the_wire(self._before.st_mtime_ns) * SECOND
            is_same = there.resembles(FileVersion(self._before.st_size, set_by_us))
        return earlier.renaming if is_same else ""

    def _remove(self, earlier: Progress) -> None:
        """Remove an earlier temporary file; one that may come yet gets a record of its own.

        Where nothing may be removed, its name is used again: there is no further copy with each try.
        """
        found = remove_temporary(self._remote, earlier)
        if found is Removal.LATER:
            key = remote_key(self._terms, earlier.temporary)
            with self._terms.unfinished.held(key, earlier.temporary) as record:
                record.save(replace(earlier, whole=0, aside="", renaming=""))
        elif found is Removal.REFUSED:
            self._progress.temporary, self._progress.opened = earlier.temporary, True

    def _open(self, earlier: Progress | None) -> bytes:
        if earlier is not None:
            self._progress.temporary, self._progress.whole = earlier.temporary, earlier.whole
            self._progress.opened = earlier.opened
            if earlier.renaming:
                self._renamed_before = earlier
                self._record.save(self._progress)  # from here on, what is gone may have been removed by us
            handle = self._go_on(earlier)
            if handle is not None:
                return handle
            return self._open_anew(earlier)
        try:
            return self._begin()
        except (NotFound, NotADirectory):
            self._remote.make_directories(posixpath.dirname(self._dest) or ".")
            return self._begin()

    def _begin(self) -> bytes:
        if self._drop_box.refusal:
            return self._open_directly(self._drop_box.reason())
        if not self._temporary:
            self._progress.temporary = posixpath.join(posixpath.dirname(self._dest), temporary_name())
        self._record.save(self._progress)
        try:
            return self._create()
        except (PermissionDenied, Unsupported) as error:
            return self._open_elsewhere(error)

    def _open_anew(self, earlier: Progress) -> bytes:
        """Open another file in the place of one that cannot be gone on with."""
        self._progress.whole = 0
        self._progress.opened = False
        if earlier.temporary == self._dest:
            return self._open_directly(self._drop_box.reason(), is_ours=earlier.opened)
        self._progress.temporary = ""
        self._remove(earlier)
        return self._open(None)

    def _create(self) -> bytes:
        return self._open_for_writing(OpenFlag.CREATE | OpenFlag.TRUNCATE)

    def _open_for_writing(self, flags: int) -> bytes:
        mode = self._before.st_mode & PERMISSION_BITS | OWNED
        return self._remote.open(self._temporary, OpenFlag.WRITE | flags, Attributes(mode=mode))

    # --- drop boxes ---

    def _open_elsewhere(self, error: SFTPError) -> bytes:
        """Find out whether it is the temporary name that is refused: some folders take names of a pattern only."""
        refused = posixpath.basename(self._temporary)
        with suppress(PermissionDenied, Unsupported):
            return self._create()  # it may have been for another reason, which has passed
        reason = type(error)(
            f"the server refused to create the temporary file {refused!r} in that folder ({error.message}). "
            "Allow writing there; if other names are allowed, names that begin with .iot-sftp- too",
            path=self._dest,
        )
        try:
            handle = self._open_directly(reason)
        except _NameRefused as refusal:
            message = f"the server lets nothing be written in that folder ({error.message})"
            raise type(error)(message, path=self._dest) from refusal
        except Unsupported:
            raise reason from error  # something is there, or may be
        self._drop_box.learn(TEMPORARY_NAME)
        return handle

    def _open_directly(self, reason: SFTPError, *, is_ours: bool = False) -> bytes:
        """Open the destination itself, where nothing else is.

        Parameters:
            reason: why there is no other way.
            is_ours: an earlier try has made what is there, and has not come to its end.

        Raises:
            Unsupported: something is there, and is not overwritten in place.
        """
        if not is_ours or not self._may_overwrite():
            is_there = self._is_there()
            if is_there:
                raise Unsupported(reason.message, path=self._dest)
            try:
                handle = self._open_dest(NEW)
            except (PermissionDenied, Unsupported) as error:
                if self._is_there() is not False:
                    raise Unsupported(reason.message, path=self._dest) from error
            else:
                if is_there is None:
                    self._check_that_it_is_new(handle, reason)
                return handle
        try:
            return self._open_dest(OpenFlag.CREATE | OpenFlag.TRUNCATE)  # not every server knows EXCLUSIVE
        except (PermissionDenied, Unsupported) as error:
            raise _NameRefused(reason.message, path=self._dest) from error

    def _check_that_it_is_new(self, handle: bytes, reason: SFTPError) -> None:
        """Raise if the server opens an existing file as a new one: EXCLUSIVE is all that tells here.

        OpenSSH's knows it. Another one is asked to make the same file once more, which it has to refuse. Nothing is
        written, cut or removed before that is known.
        """
        if self._remote.traits.parts_in_any_order:
            return
        mode = self._before.st_mode & PERMISSION_BITS | OWNED
        fields = (
            string(encode_path(self._dest)) + struct.pack(">I", OpenFlag.WRITE | NEW) + Attributes(mode=mode).pack()
        )
        try:
            second = self._remote.wait(self._remote.send(Kind.OPEN, fields), self._dest, Kind.HANDLE).string()
        except (PermissionDenied, Unsupported):
            return
        for each in dict.fromkeys((handle, second)):
            self._close(each)
        self._progress.temporary, self._progress.opened = "", False
        self._record.forget()
        raise Unsupported(reason.message, path=self._dest)

    def _open_dest(self, flags: int) -> bytes:
        """Open the destination itself, and write down that what is there is ours."""
        self._progress.temporary = self._dest
        try:
            handle = self._open_for_writing(flags)
        except BaseException:
            self._progress.temporary = ""  # it may be somebody else's
            raise
        self._progress.opened = True
        self._record.save(self._progress)
        return handle

    def _is_there(self) -> bool | None:
        """Tell whether something has the destination's name; `None` where the server lets nobody know."""
        path = string(encode_path(self._dest))
        reading = path + struct.pack(">I", OpenFlag.READ) + Attributes().pack()
        for kind, fields, due in (
            (Kind.STAT, path, Kind.ATTRS),
            (Kind.LSTAT, path, Kind.ATTRS),
            (Kind.OPEN, reading, Kind.HANDLE),
        ):
            try:
                answer = self._remote.wait(self._remote.send(kind, fields), self._dest, due)
            except (NotFound, NotADirectory):
                return False
            except (PermissionDenied, Unsupported):
                continue
            if due is Kind.HANDLE:
                self._close(answer.string())
            return True
        return None

    def _may_overwrite(self) -> bool:
        """Tell whether what an earlier try has left at the destination still is that: no longer than the source."""
        asked = self._remote.send(Kind.STAT, string(encode_path(self._dest)))
        there = self._remote.told(asked, self._dest)
        return there is None or there.size is None or there.size <= self._before.st_size

    def _replace(self, verified: str) -> tuple[str, bool]:
        """Give the file its name; tell how it was verified, and whether that was one atomic step."""
        try:
            with self._remembering_the_rename(verified):
                return verified, try_to_replace(self._remote, self._temporary, self._dest, self._put_aside)
        except NotFound as error:
            if self._remote.kind_of(self._temporary) is None:
                before = self._renamed_before
                if before and before.temporary == self._temporary and self._arrived_as(before):
                    return verified, not before.aside
                message = (
                    "the server took the file away under its temporary name, before it could get its own: have the "
                    "server leave alone what begins with .iot-sftp-"
                )
                raise Unsupported(message, path=self._dest) from error
            raise
        except RenameRefused as refused:
            if not self._refuses_every_rename():
                raise refused.reason from refused
            self._drop_box.learn(RENAME)
            self._discard()
            handle = self._open_directly(refused)
            return self._complete(handle, 0), False

    @contextmanager
    def _remembering_the_rename(self, verified: str) -> Iterator[None]:
        """Write down that the rename is asked for, and take that back if the server answers that it was not done."""
        if self._is_settled:
            self._progress.renaming = verified
            self._record.save(self._progress)
        try:
            yield
        except (ConnectionLost, DeadlineExceeded):
            self._terms.renaming.add(self._temporary)
            raise
        except BaseException:
            self._progress.renaming = ""
            self._record.save(self._progress)
            raise

    def _refuses_every_rename(self) -> bool:
        """Find out whether it is every rename that is refused, or the one to this name."""
        other = posixpath.join(posixpath.dirname(self._temporary), temporary_name())
        try:
            self._remote.rename(self._temporary, other)
        except (PermissionDenied, Unsupported):
            return True
        self._progress.temporary = other
        return False

    def _discard(self) -> None:
        """Remove the temporary file, or leave as little of it as the server allows."""
        if remove_temporary(self._remote, self._progress) is Removal.REFUSED:
            with suppress(PermissionDenied, Unsupported, NotFound):
                self._close(self._create())
        self._progress.temporary, self._progress.opened = "", False

    # --- going on ---

    def _go_on(self, earlier: Progress) -> bytes | None:
        """Open what is there for writing, if it begins with the bytes of the local file and stays as it is."""
        if not (self._is_settled and earlier.source == self._progress.source and earlier.whole >= WORTH_KEEPING):
            return None
        try:
            # Erlang's ssh_sftpd and rclone's cache cut a file that is opened for writing alone.
            handle = self._remote.open(self._temporary, OpenFlag.READ | OpenFlag.WRITE)
        except (PermissionDenied, Unsupported):
            return self._go_on_over_two_handles()
        except NotFound:
            return None
        if self._has_kept_its_size(handle) and self._begins_alike(handle):
            return handle
        self._close(handle)
        return None

    def _go_on_over_two_handles(self) -> bytes | None:
        """Go on where no file may be open for reading and writing at once, as with object stores."""
        try:
            with self._remote.opened(self._temporary, OpenFlag.READ) as reading:
                if not self._begins_alike(reading):
                    return None
            handle = self._remote.open(self._temporary, OpenFlag.WRITE)
        except (PermissionDenied, Unsupported, NotFound):
            return None
        if self._has_kept_its_size(handle):
            return handle
        self._close(handle)
        return None

    def _begins_alike(self, handle: bytes) -> bool:
        try:
            return beginning_is_same(self._remote, handle, self._temporary, self._descriptor, self._progress.whole)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except SFTPError as error:
            logger.debug("%r cannot be read back: %s", self._temporary, error.message)
            return False

    def _has_kept_its_size(self, handle: bytes) -> bool:
        """Tell whether what an earlier try has sent is still there once the file is open again."""
        told = self._remote.told(self._remote.send(Kind.FSTAT, string(handle)), self._temporary)
        if told is None or told.size is None:
            asked = self._remote.send(Kind.STAT, string(encode_path(self._temporary)))
            told = self._remote.told(asked, self._temporary)
        size = None if told is None else told.size
        return size is not None and self._progress.whole <= size <= self._before.st_size

    def _go_on_or_anew(self, handle: bytes) -> tuple[int, str]:
        """Send what is missing; where the server turns out not to take that, send everything, once."""
        resumed = self._progress.whole
        if resumed:
            try:
                return resumed, self._complete(handle, resumed)
            except (SourceChanged, NoSpace):
                raise
            except (PermissionDenied, Unsupported, NotFound, TransferIncomplete) as error:
                logger.info("%r is sent anew, since it cannot be resumed: %s", self._dest, error.message)
                handle = self._open_anew(replace(self._progress))
                self._progress.opened = True
        return 0, self._complete(handle, 0)

    # --- the bytes ---

    def _complete(self, handle: bytes, start: int) -> str:
        """Send the bytes from `start` on, check what is there then, and return how that was done."""
        verified = self._fill(handle, start)
        has_changed = self._check_source(self._progress.whole)
        if self._terms.verify == "sha256":
            return self._compare_hashes()
        if has_changed:
            self._compare_hashes()
        elif start:
            self._check_seam(start)
        return verified

    def _compare_hashes(self) -> str:
        with self._remote.opened(self._temporary, OpenFlag.READ, wait_for_close=False) as handle:
            return compare_hashes(self._remote, handle, self._temporary, self._descriptor)

    def _check_seam(self, start: int) -> None:
        """Raise unless a resumed file has the local one's bytes where both parts meet, and in places all over it."""
        before, after = max(0, start - PART), min(self._before.st_size, start + PART)
        parts = [(before, start - before), (start, after - start), *spread(self._before.st_size)]
        with self._remote.opened(self._temporary, OpenFlag.READ, wait_for_close=False) as handle:
            places = [part for part in parts if part[1]]
            if not parts_are_same(self._remote, handle, self._temporary, self._descriptor, places):
                message = "the file differs from the local one after its upload was resumed"
                raise TransferIncomplete(message, path=self._dest)

    def _fill(self, handle: bytes, start: int) -> str:
        upload = Upload(
            self._remote,
            handle,
            self._temporary,
            self._descriptor,
            limit=self._terms.limit,
            counts=self._terms.counts,
            on_progress=self._on_progress,
        )
        finished = threading.Event()
        last_words: _LastWords | None = None
        try:
            self._add_lanes(upload, finished)
            upload.send(start, self._before.st_size)
            if upload.several or not self._remote.traits.keeps_order:
                upload.finish()  # what is asked for next must not overtake the bytes
            last_words = _LastWords(self._remote, handle, self._temporary, self._before)
            upload.finish()
        except BaseException as error:
            self._note(upload, error)
            if last_words is None or not last_words.is_closed:  # closed twice, it may be somebody else's by then
                self._close(handle)
            raise
        finally:
            upload.stop()
            finished.set()
        self._progress.whole = upload.whole
        verified = last_words.wait(upload.whole)
        self._terms.on_progress(upload.whole, self._before.st_size)
        return verified

    def _close(self, handle: bytes) -> None:
        """Close a file that is of no use any more; its removal must not overtake that."""
        closed = self._remote.send(Kind.CLOSE, string(handle))
        if not self._remote.traits.keeps_order:
            with suppress(SFTPError):
                self._remote.wait(closed, self._temporary)

    def _on_progress(self, whole: int) -> None:
        self._terms.on_progress(whole, self._before.st_size)
        now = time.monotonic()
        if whole >= WORTH_KEEPING and now >= self._next_save:
            self._progress.whole = whole
            self._record.save(self._progress)
            self._next_save = now + SAVE_EVERY

    def _note(self, upload: Upload, error: BaseException) -> None:
        if isinstance(error, ConnectionLost | DeadlineExceeded):
            self._progress.whole = upload.whole

    # --- further channels ---

    def _add_lanes(self, upload: Upload, finished: threading.Event) -> None:
        """Open the file over further channels beside the transfer, if the round trip holds one channel back."""
        wanted = min(
            LANES_MOST,
            int(self._remote.round_trip / ROUND_TRIP_OF_A_LANE),
            (self._before.st_size - self._progress.whole) // BYTES_OF_A_LANE,
        )
        if wanted < 2 or not self._remote.traits.parts_in_any_order:  # noqa: PLR2004 - one is there already
            return
        upload.several = True
        for _ in range(wanted - 1):
            threading.Thread(target=self._lend_lane, args=(upload, finished), name="sftp-lane", daemon=True).start()

    def _lend_lane(self, upload: Upload, finished: threading.Event) -> None:
        with suppress(SFTPError, OSError), ExitStack() as stack:
            remote = stack.enter_context(self._spare())
            if remote is None:
                return
            handle = remote.open(self._temporary, OpenFlag.WRITE)
            stack.callback(lambda: remote.send(Kind.CLOSE, string(handle)))
            if not finished.is_set():
                upload.add_lane(Lane(remote, handle))
                finished.wait()

    # --- the end ---

    def _put_aside(self, aside: str) -> None:
        self._progress.aside = aside
        self._record.save(self._progress)

    def _clean_up(self, error: BaseException) -> None:
        """Leave what a later try goes on with, remove everything else; what cannot be removed now is remembered."""
        lost = isinstance(error, ConnectionLost | DeadlineExceeded)
        goes_on = lost and self._remote.deadline.keeps and self._is_settled
        if goes_on and (self._progress.whole >= WORTH_KEEPING or self._progress.renaming):
            self._record.save(self._progress)
        elif self._temporary:
            self._progress.whole, self._progress.renaming = 0, ""
            self._record.save(self._progress)
            with suppress(ConnectionLost, DeadlineExceeded):  # the reason why we are here is what counts
                removed = self._remove_what_is_begun()
                if not lost and removed is not Removal.REFUSED:
                    self._record.forget()
        elif not lost:
            self._record.forget()

    def _remove_what_is_begun(self) -> Removal:
        if not self._is_direct:
            return remove_temporary(self._remote, self._progress)
        try:
            self._remote.remove(self._dest)
        except (PermissionDenied, Unsupported):
            return Removal.REFUSED
        except NotFound:
            pass
        return Removal.DONE


class _LastWords:
    """What is asked for after the last byte of a file: its attributes, the server's disk, its size and its end."""

    def __init__(self, remote: RemoteFiles, handle: bytes, path: str, source: os.stat_result) -> None:
        """Ask for everything, and for the end too if the server keeps the order of requests."""
        self._remote = remote
        self._handle = handle
        self._path = path
        self._attributes = Attributes(
            mode=source.st_mode & PERMISSION_BITS | OWNED,
            access_time=_on_the_wire(source.st_atime_ns),
            modification_time=_on_the_wire(source.st_mtime_ns),
        ).pack()
        self._set_attributes = remote.send(Kind.FSETSTAT, string(handle) + self._attributes)
        self._sync = None
        if remote.offers(FSYNC):
            self._sync = remote.send(Kind.EXTENDED, string(FSYNC.encode()) + string(handle))
        self._status = remote.send(Kind.FSTAT, string(handle))
        self._closed = self._close() if remote.traits.keeps_order else None

    @property
    def is_closed(self) -> bool:
        """Whether the end of the file has been asked for."""
        return self._closed is not None

    def wait(self, moved: int) -> str:
        """Wait for all of it, and return how it is known that the file has as many bytes as were moved.

        Raises:
            TransferIncomplete: it has not.
        """
        try:
            are_set = self._wait_for_optional(self._set_attributes)
            if self._sync is not None:
                self._wait_for_optional(self._sync)
            told = self._remote.told(self._status, self._path)
        finally:
            self._closed = self._closed or self._close()
        self._remote.wait(self._closed, self._path)
        if not are_set and not self._remote.traits.keeps_own_attributes:
            # Erlang's and Conch's refuse FSETSTAT of a file that was opened by a relative path, or of any.
            path = string(encode_path(self._path))
            set_by_path = self._remote.send(Kind.SETSTAT, path + self._attributes)
            self._remote.traits.keeps_own_attributes = not self._wait_for_optional(set_by_path)
        size = None if told is None else told.size
        if size == moved:
            return "size"
        # Before CLOSE there may be no such file yet, or one of 0 bytes: object stores.
        by_path = self._settled_size(moved)
        if by_path is not None:
            _compare(moved, by_path, self._path)
            return "size"
        _compare(moved, size or None, self._path)
        logger.info("The server does not tell the size of %r: it has acknowledged each of its bytes", self._path)
        return "acknowledged"

    def _settled_size(self, moved: int) -> int | None:
        """Return the size by the file's path; one that is too small is asked for again: some caches lag behind."""
        size = self._size_by_path()
        for pause in LAGGING:
            if size is None or size >= moved or pause > self._remote.deadline.remaining() / 2:
                break
            self._remote.deadline.pause(pause)
            self._remote.deadline.check()
            size = self._size_by_path()
        return size

    def _size_by_path(self) -> int | None:
        for kind in (Kind.STAT, Kind.LSTAT):
            told = self._remote.told(self._remote.send(kind, string(encode_path(self._path))), self._path)
            if told is not None and told.size is not None:
                return told.size
        return None

    def _close(self) -> Future[Reply]:
        return self._remote.send(Kind.CLOSE, string(self._handle))

    def _wait_for_optional(self, asked: Future[Reply]) -> bool:
        """Wait for what a server need not do, and tell whether it has; it may keep its own permissions and times."""
        try:
            self._remote.wait(asked, self._path)
        except (ConnectionLost, DeadlineExceeded, NoSpace):
            raise
        except SFTPError as error:
            logger.debug("The server does not do all for %r: %s", self._path, error.message)
            return False
        return True


def _on_the_wire(nanoseconds: int) -> int:
    """Return a time as version 3 has it: whole seconds from 1970 to 2106; what is outside is at their end."""
    return max(0, min(0xFFFFFFFF, nanoseconds // SECOND))


class Removal(Enum):
    """What has become of a temporary file that was to be removed."""

    DONE = "it is gone"
    LATER = "it may come yet, out of a connection that is lost to us"
    REFUSED = "it is there, and the server does not let it be removed"
    RENAMED = "it has got its name"


def remove_temporary(remote: RemoteFiles, progress: Progress) -> Removal:
    """Remove what an upload has collected, if the server lets us.

    Raises:
        ConnectionLost, DeadlineExceeded: it may be there still.
    """
    if is_temporary(posixpath.basename(progress.temporary)):
        try:
            remote.remove(progress.temporary)
        except (ConnectionLost, DeadlineExceeded):
            raise
        except NotFound:
            # else the server may still be asked for it, by what a lost connection holds
            return Removal.DONE if progress.opened else Removal.LATER
        except SFTPError as error:
            logger.debug("%r cannot be removed: %s", progress.temporary, error)
            return Removal.REFUSED
    return Removal.DONE


def remove_abandoned(remote: RemoteFiles, progress: Progress, record: Record) -> Removal:
    """Remove what an upload has left that nobody goes on with, and finish a replacement that was cut in its middle.

    What was written under its own name is not touched: by now it may be somebody else's.
    """
    if progress.aside:
        settle_aside(remote, progress)
    if progress.temporary == progress.dest:
        return Removal.REFUSED
    if not progress.renaming:
        return remove_temporary(remote, progress)
    if remote.is_missing(progress.temporary):
        return Removal.RENAMED
    record.save(replace(progress, renaming="", aside=""))  # what is removed by us has not got its name
    return remove_temporary(remote, progress)


def _compare(moved: int, size: int | None, path: str) -> None:
    if size is not None and size != moved:
        message = f"{moved} bytes were moved, but the file has {size}: it changed meanwhile, or the server cut it short"
        raise TransferIncomplete(message, path=path)
