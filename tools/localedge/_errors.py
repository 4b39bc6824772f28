"""What can go wrong here.

LocalEdgeError
├── HubError          the hub's answer to a request that it does not carry out, as IoT Hub words it
├── DeploymentError   the deployment template cannot be used
└── StartError        a part of the runtime did not start
"""

from __future__ import annotations

import json


class LocalEdgeError(Exception):
    """The base of every error that this package raises."""


class DeploymentError(LocalEdgeError):
    """The deployment template is missing, malformed, or has a placeholder without a value."""


class StartError(LocalEdgeError):
    """A part of the runtime did not start: a port in use, a module that never connected."""


class HubError(LocalEdgeError):
    """A request that IoT Hub would refuse, with the HTTP status and the error code that it gives.

    Source of the numbers: "Azure IoT Hub error codes" in the IoT Hub REST reference.
    """

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.status} ({self.code}): {self.message}"

    def body(self) -> dict[str, str]:
        """Return the body of IoT Hub's REST answer: the details are JSON inside a JSON string."""
        return {"Message": json.dumps({"errorCode": self.code, "message": self.message}), "ExceptionMessage": ""}

    @classmethod
    def invalid(cls, message: str) -> HubError:
        """Return a 400: the request itself is wrong."""
        return cls(400, 400004, message)

    @classmethod
    def unauthorized(cls, message: str) -> HubError:
        """Return a 401: the token does not open this resource."""
        return cls(401, 401003, message)

    @classmethod
    def no_such_module(cls, device: str, module: str) -> HubError:
        """Return a 404: the identity is not registered."""
        return cls(404, 404010, f"There is no module {module!r} on the device {device!r}.")

    @classmethod
    def not_online(cls) -> HubError:
        """Return a 404: the module is not connected, or has not subscribed to methods."""
        return cls(404, 404103, "Timed out waiting for device to connect.")

    @classmethod
    def connection_closed(cls) -> HubError:
        """Return a 404: the module's connection ended before its answer came."""
        return cls(404, 404104, "The device closed its connection before it answered.")

    @classmethod
    def etag_mismatch(cls) -> HubError:
        """Return a 412: the twin is no longer the one that the caller has seen."""
        return cls(412, 412002, "Precondition failed: the twin's etag differs from If-Match.")

    @classmethod
    def too_large(cls, message: str) -> HubError:
        """Return a 413: over the limit of a payload."""
        return cls(413, 413001, message)

    @classmethod
    def no_answer(cls) -> HubError:
        """Return a 504: the module did not answer within the time limit."""
        return cls(504, 504101, "Timed out waiting for the response from device.")
