"""Send the bytes of an upload, over several channels where one is too slow, and check what has arrived."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from iot.sftp.client._base.errors import ConnectionLost, DeadlineExceeded, LocalBusy, SFTPError, TransferIncomplete
from iot.sftp.client._base.threads import start_thread
from iot.sftp.client._files.remote_requests import SAFE_REQUEST
from iot.sftp.client._ssh.packets import OpenFlag
from iot.sftp.client._transfer.hashing_source import HashingSource
from iot.sftp.client._transfer.resume_records import WORTH_KEEPING
from iot.sftp.client._transfer.transfer_context import do_nothing
from iot.sftp.client._transfer.upload_completion import UploadCompletion
from iot.sftp.client._transfer.verify import PART, compare_hashes, parts_are_same, spread
from iot.sftp.client._transfer.write_pipeline import WriteChannel, WritePipeline

if TYPE_CHECKING:
    from iot.sftp.client._base.steps import Steps
    from iot.sftp.client._transfer.upload_job import UploadJob

SAVE_EVERY = 1.0  # seconds

# One channel carries its window, 2 MiB with OpenSSH, in one round trip. Where that is slow, more channels are used.
MOST_CHANNELS = 8
ROUND_TRIP_OF_A_CHANNEL = 0.006  # seconds
BYTES_OF_A_CHANNEL = 4 * 1024 * 1024  # bytes that are worth a further channel


def channels_worth(round_trip: float, size: int) -> int:
    """Return over how many channels to send so many bytes, where the server takes parts in any order."""
    return min(MOST_CHANNELS, int(round_trip / ROUND_TRIP_OF_A_CHANNEL), size // BYTES_OF_A_CHANNEL)


class UploadBody:
    """Sends the bytes of one upload, from the contiguous offset on.

    Attributes:
        sha256: of what was sent last, and of what was there before that, in hexadecimal digits; if asked for.
    """

    def __init__(self, job: UploadJob) -> None:
        """Send nothing yet."""
        self._job = job
        self.sha256 = ""
        self._next_save = time.monotonic() + SAVE_EVERY

    def send(self, handle: bytes, start: int) -> Steps[str]:
        """Send the bytes from `start` on, in steps, check what is there then, and return how that was done."""
        job = self._job
        verified = yield from self._send_and_complete(handle, start)
        must_compare = job.source.check_unchanged(job.state.contiguous, job.dest)
        if job.context.verify == "sha256":
            return self._compare_hashes()
        if must_compare:
            self._compare_hashes()
        elif start:
            self._check_seam(start)
        return verified

    def _send_and_complete(self, handle: bytes, start: int) -> Steps[str]:
        job = self._job
        finished: threading.Event | None = None
        source = HashingSource(job.source.descriptor) if job.context.computes_hash else None
        pipeline = WritePipeline(
            job.remote,
            handle,
            job.temporary,
            job.source.descriptor,
            limit=job.context.limit,
            counts=job.context.counts,
            on_progress=self._on_progress,
            source=source,
        )
        completion = UploadCompletion(
            job.remote,
            handle,
            job.temporary,
            job.source.attributes,
            is_asked_for=job.context.modes.remote is not None,
        )
        try:
            finished = self._add_channels(pipeline)
            # What comes behind the bytes must not overtake them.
            is_in_order = job.remote.traits.keeps_order
            finish = (lambda: completion.begin(pipeline.further)) if is_in_order else do_nothing
            pipeline.send(start, job.source.size, finish)
            if is_in_order and job.source.size - start <= SAFE_REQUEST:
                yield completion.closed
                completion.wait_for_last()
            pipeline.finish()
            if not is_in_order:
                completion.begin()
            if source is not None:
                self.sha256 = source.sha256(job.source.size, job.remote.deadline.check)
        except BaseException as error:
            if isinstance(error, ConnectionLost | DeadlineExceeded):
                job.state.contiguous = pipeline.contiguous
            if not completion.is_closed:  # closed twice, the handle may be another file's by then
                job.close(handle)
            raise
        finally:
            pipeline.stop()
            if finished is not None:
                finished.set()
        job.state.contiguous = pipeline.contiguous
        verified = completion.wait(pipeline.contiguous)
        job.context.on_progress(pipeline.contiguous, job.source.size)
        return verified

    def _on_progress(self, contiguous: int) -> None:
        job = self._job
        job.context.on_progress(contiguous, job.source.size)
        now = time.monotonic()
        if contiguous >= WORTH_KEEPING and now >= self._next_save:
            job.state.contiguous = contiguous
            job.save()
            self._next_save = now + SAVE_EVERY

    # --- checks ---

    def _compare_hashes(self) -> str:
        job = self._job
        with job.remote.opened(job.temporary, OpenFlag.READ, wait_for_close=False) as handle:
            return compare_hashes(job.remote, handle, job.temporary, job.source.descriptor, job.source.size)

    def _check_seam(self, start: int) -> None:
        """Raise unless a resumed file has the local one's bytes where both parts meet, and in places all over it."""
        job, size = self._job, self._job.source.size
        before, after = max(0, start - PART), min(size, start + PART)
        parts = [(before, start - before), (start, after - start), *spread(size)]
        with job.remote.opened(job.temporary, OpenFlag.READ, wait_for_close=False) as handle:
            places = [part for part in parts if part[1]]
            if not parts_are_same(job.remote, handle, job.temporary, job.source.descriptor, places):
                message = "the file differs from the local one after its upload was resumed"
                raise TransferIncomplete(message, path=job.dest)

    # --- further channels ---

    def _add_channels(self, pipeline: WritePipeline) -> threading.Event | None:
        """Open the file over further channels beside the transfer, if the round trip holds one channel back.

        Return what is to be set when they are not needed any more.
        """
        job = self._job
        wanted = channels_worth(job.remote.round_trip, job.source.size - job.state.contiguous)
        if wanted < 2 or not job.remote.traits.parts_in_any_order:  # noqa: PLR2004 - one is there already
            return None
        finished = threading.Event()
        pipeline.several = True
        with suppress(LocalBusy):  # what there is has to do
            for _ in range(wanted - 1):
                start_thread(self._lend_channel, pipeline, finished, name="sftp-channel-lender")
        return finished

    def _lend_channel(self, pipeline: WritePipeline, finished: threading.Event) -> None:
        job = self._job
        with suppress(SFTPError, OSError), ExitStack() as stack:
            remote = stack.enter_context(job.spare())
            if remote is None:
                return
            handle = remote.open(job.temporary, OpenFlag.WRITE)
            stack.callback(remote.begin_close, handle)
            if not finished.is_set():
                pipeline.add_channel(WriteChannel(remote, handle))
                finished.wait()
