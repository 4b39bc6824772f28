"""A synchronous SFTP client for unattended devices: whole files or none, and a name for every failure."""

from iot.sftp.client._base import paramiko as _paramiko  # noqa: F401 - before anything else imports it
from iot.sftp.client._base.counts import Counts
from iot.sftp.client._base.deadline import Interruption
from iot.sftp.client._base.errors import (
    AlreadyExists,
    AuthenticationFailed,
    Busy,
    Cancelled,
    ConnectionLost,
    CredentialError,
    DeadlineExceeded,
    Fault,
    FileError,
    HostKeyMismatch,
    Internal,
    InvalidRequest,
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotConfigured,
    NotEmpty,
    NotFound,
    PathNotAllowed,
    PermissionDenied,
    RequestError,
    ResourceError,
    Retry,
    Scope,
    SFTPError,
    TooLarge,
    TransferIncomplete,
    TransportError,
    UnknownMethod,
    Unreachable,
    Unsupported,
    error_classes,
    error_for_code,
)
from iot.sftp.client._base.os_errors import from_os_error
from iot.sftp.client._base.settings import Jump, Proxy, Secret, ServerSettings, TimeLimits
from iot.sftp.client._client import IoTSFTPClient
from iot.sftp.client._diagnosis import Step, diagnose
from iot.sftp.client._files.file_info import FileInfo
from iot.sftp.client._files.file_version import FileVersion
from iot.sftp.client._files.local_files import LocalEntry, LocalFiles, LocalName
from iot.sftp.client._folders.delivery_ledger import GrowthLedger, Ledger
from iot.sftp.client._folders.folder_order import FolderOrder, IfExists, Then
from iot.sftp.client._folders.folder_progress import FileFailure, FileOutcome, FolderProgress, FolderTransfer
from iot.sftp.client._folders.markers import MarkerName, MarkerRecord, Markers, OwedMarkers, SpentMarker
from iot.sftp.client._folders.quarantine import FailureCounts, Quarantine
from iot.sftp.client._folders.selection import Order, Selection
from iot.sftp.client._session import SFTPSession
from iot.sftp.client._ssh.credentials import check_private_key
from iot.sftp.client._ssh.handshake import ServerInfo
from iot.sftp.client._ssh.host_keys import check_pin
from iot.sftp.client._transfer.bandwidth import Bandwidth
from iot.sftp.client._transfer.file_content import FileContent
from iot.sftp.client._transfer.file_order import Direction, FileOrder, Modes
from iot.sftp.client._transfer.growth import Append, GrowthRecord
from iot.sftp.client._transfer.outcome import Transfer
from iot.sftp.client._transfer.rate_limit import RateLimit
from iot.sftp.client._version import VERSION, __version__

__all__ = [
    "VERSION",
    "AlreadyExists",
    "Append",
    "AuthenticationFailed",
    "Bandwidth",
    "Busy",
    "Cancelled",
    "ConnectionLost",
    "Counts",
    "CredentialError",
    "DeadlineExceeded",
    "Direction",
    "FailureCounts",
    "Fault",
    "FileContent",
    "FileError",
    "FileFailure",
    "FileInfo",
    "FileOrder",
    "FileOutcome",
    "FileVersion",
    "FolderOrder",
    "FolderProgress",
    "FolderTransfer",
    "GrowthLedger",
    "GrowthRecord",
    "HostKeyMismatch",
    "IfExists",
    "Internal",
    "Interruption",
    "InvalidRequest",
    "IoTSFTPClient",
    "IsADirectory",
    "Jump",
    "Ledger",
    "LocalEntry",
    "LocalFiles",
    "LocalName",
    "MarkerName",
    "MarkerRecord",
    "Markers",
    "Modes",
    "NoSpace",
    "NotADirectory",
    "NotConfigured",
    "NotEmpty",
    "NotFound",
    "Order",
    "OwedMarkers",
    "PathNotAllowed",
    "PermissionDenied",
    "Proxy",
    "Quarantine",
    "RateLimit",
    "RequestError",
    "ResourceError",
    "Retry",
    "SFTPError",
    "SFTPSession",
    "Scope",
    "Secret",
    "Selection",
    "ServerInfo",
    "ServerSettings",
    "SpentMarker",
    "Step",
    "Then",
    "TimeLimits",
    "TooLarge",
    "Transfer",
    "TransferIncomplete",
    "TransportError",
    "UnknownMethod",
    "Unreachable",
    "Unsupported",
    "__version__",
    "check_pin",
    "check_private_key",
    "diagnose",
    "error_classes",
    "error_for_code",
    "from_os_error",
]
