"""An IoT Edge runtime for one machine: for the demo, the tests and a developer's day.

    with LocalEdge(template=Path("deployment.template.json"), sftp_server=True) as edge:
        edge.wait_until_connected()
        status, payload = edge.invoke("sftp", "list_files", {"path": "."})

Real are TLS, MQTT, tokens, twins, direct methods and the module's process; see README.md for what is not here.
"""

from __future__ import annotations

from localedge._edge import LocalEdge
from localedge._errors import DeploymentError, HubError, LocalEdgeError, StartError
from localedge._fleet import LocalFleet
from localedge._hub import Message
from localedge._methods import MethodResponse
from localedge._sftp_server import SftpServer

__all__ = [
    "DeploymentError",
    "HubError",
    "LocalEdge",
    "LocalEdgeError",
    "LocalFleet",
    "Message",
    "MethodResponse",
    "SftpServer",
    "StartError",
]
