"""Which records of libraries are logged, and in which words."""

from __future__ import annotations

import logging

# Where the SDK logs each connection that broke, in two records; when that is worth a warning, the module logs one
_SDK_BACKGROUND = "azure.iot.device.common.handle_exceptions"

_log = logging.getLogger(__name__)


def is_of_interest(record: logging.LogRecord) -> bool:
    """Drop the records that repeat what the client or the module logs itself, and reword those of the SDK."""
    # paramiko logs each line of a trace as a record of its own; the client reports the same failure once, by its name
    if record.name.partition(".")[0] == "paramiko" and record.levelno >= logging.ERROR:
        return False
    if record.name == _SDK_BACKGROUND:
        return _is_news_of_the_sdk(record)
    return True


def _is_news_of_the_sdk(record: logging.LogRecord) -> bool:
    """Reword the SDK's record of an exception in its threads; drop the first of two, which only announces it."""
    if not isinstance(record.msg, list):
        return not str(record.msg).startswith("Exception caught in background thread")
    record.msg = "".join(str(part) for part in record.msg).strip()
    if "ConnectionDroppedError" in record.msg or "ConnectionFailedError" in record.msg:
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.repeated = True  # at each attempt to connect
    return _log.isEnabledFor(record.levelno)
