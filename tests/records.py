"""Records of unfinished transfers, as tests look at them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from iot.sftp.client._transfer.resume_records import ResumeRecords


def let_pass(record: Path, seconds: float) -> None:
    """Have so much time passed since a record was written, by the clock that can be set and by the other one."""
    moment = time.time() - seconds
    os.utime(record, (moment, moment))
    saved_at = ResumeRecords.of(record.parent).saved_at
    if record.name in saved_at:
        saved_at[record.name] -= seconds
