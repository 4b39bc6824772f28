"""A synchronous SFTP client for unattended devices: whole files or none, and a name for every failure."""

from iot.sftp.client._client import IoTSFTPClient
from iot.sftp.client._connection import ServerInfo
from iot.sftp.client._counts import Counts
from iot.sftp.client._deadline import Interruption
from iot.sftp.client._diagnosis import Step, diagnose
from iot.sftp.client._errors import (
    AuthenticationFailed,
    Busy,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyMismatch,
    Internal,
    InvalidRequest,
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotConfigured,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    SFTPError,
    TooLarge,
    TransferIncomplete,
    UnknownMethod,
    Unreachable,
    Unsupported,
    from_os_error,
)
from iot.sftp.client._file_info import FileInfo
from iot.sftp.client._folders import FileFailure, FolderProgress, FolderTransfer
from iot.sftp.client._host_keys import check_pin
from iot.sftp.client._ledgers import Ledger
from iot.sftp.client._local_files import LocalEntry, LocalFiles, LocalName
from iot.sftp.client._session import SFTPSession, Transfer
from iot.sftp.client._settings import Secret, ServerSettings, TimeLimits
from iot.sftp.client._version import VERSION, __version__
from iot.sftp.client._versions import FileVersion

__all__ = [
    "VERSION",
    "AuthenticationFailed",
    "Busy",
    "Cancelled",
    "ConnectionLost",
    "Counts",
    "DeadlineExceeded",
    "FileFailure",
    "FileInfo",
    "FileVersion",
    "FolderProgress",
    "FolderTransfer",
    "HostKeyMismatch",
    "Internal",
    "Interruption",
    "InvalidRequest",
    "IoTSFTPClient",
    "IsADirectory",
    "Ledger",
    "LocalEntry",
    "LocalFiles",
    "LocalName",
    "NoSpace",
    "NotADirectory",
    "NotConfigured",
    "NotFound",
    "PathNotAllowed",
    "PermissionDenied",
    "SFTPError",
    "SFTPSession",
    "Secret",
    "ServerInfo",
    "ServerSettings",
    "Step",
    "TimeLimits",
    "TooLarge",
    "Transfer",
    "TransferIncomplete",
    "UnknownMethod",
    "Unreachable",
    "Unsupported",
    "__version__",
    "check_pin",
    "diagnose",
    "from_os_error",
]
