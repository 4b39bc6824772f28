"""Call a direct method of the module on one device.

    export IOTHUB_CONNECTION_STRING='HostName=…;SharedAccessKeyName=service;SharedAccessKey=…'
    python examples/call_one_device.py gateway-7 upload_file '{"source": "report.csv", "dest": "reports/report.csv"}'

It prints the status and the answer, and succeeds if the status is 2xx. It needs azure-iot-hub, and a policy with the
permission "service connect".
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod
from msrest.exceptions import HttpOperationError

GRACE = 5
"""Seconds that the caller waits beyond the module's own limit: the module then still says what went wrong."""


def main() -> int:
    """Call what the arguments name; return the exit status."""
    arguments = parse_arguments()
    manager = IoTHubRegistryManager.from_connection_string(os.environ["IOTHUB_CONNECTION_STRING"])
    method = CloudToDeviceMethod(
        method_name=arguments.method,
        payload={**arguments.payload, "timeout": arguments.timeout},
        response_timeout_in_seconds=arguments.timeout + GRACE,
    )
    try:
        answer = manager.invoke_device_module_method(arguments.device, arguments.module, method)
    except HttpOperationError as error:
        # The hub's own refusal: no such device, not connected, no answer in time
        print(f"The hub did not reach {arguments.device}: {error}", file=sys.stderr)
        return 2
    print(answer.status, json.dumps(answer.payload, ensure_ascii=False))
    return 0 if 200 <= answer.status < 300 else 1  # noqa: PLR2004 - HTTP's successes


def json_object(text: str) -> dict[str, Any]:
    """Read a payload."""
    payload = json.loads(text)
    if not isinstance(payload, dict):
        raise TypeError(text)
    return payload


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device")
    parser.add_argument("method")
    parser.add_argument("payload", nargs="?", default={}, type=json_object, help="a JSON object")
    parser.add_argument("--module", default="sftp")
    parser.add_argument("--timeout", type=int, default=25, help="seconds for the module, 5 to 290")
    arguments = parser.parse_args()
    if "IOTHUB_CONNECTION_STRING" not in os.environ:
        parser.error("set IOTHUB_CONNECTION_STRING, as --help shows")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
