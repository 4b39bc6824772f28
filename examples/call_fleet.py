r"""Call a direct method of the module on every device that a condition finds, as one job of IoT Hub.

    export IOTHUB_CONNECTION_STRING='HostName=…;SharedAccessKeyName=iothubowner;SharedAccessKey=…'
    python examples/call_fleet.py "tags.site = 'north'" download_file \
      '{"source": "firmware/2.1.bin", "dest": "firmware/", "request_id": "firmware-2.1"}'

IoT Hub keeps the list of devices, calls them at its own pace, and keeps each outcome: this program only starts the job,
waits, and reads. It may end at any time: give the printed job's name with --job, and it goes on reading. The devices
that were not reached are called again with --again, by a further job. A `request_id` in the payload makes that safe: a
device that has done its work already answers with the first outcome.

It needs azure-iot-hub, and a policy with the permissions "registry read, registry write, service connect".
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, JobRequest, QuerySpecification

PAUSE = 2.0
"""Seconds between two looks at the job."""
ENDED = ("completed", "failed", "cancelled")
PAGE = "100"

Outcome = dict[str, Any]


class Fleet:
    """The modules of one name behind one hub."""

    def __init__(self, connection_string: str, module: str) -> None:
        """Take the hub's connection string and the module's name."""
        self._registry = IoTHubRegistryManager.from_connection_string(connection_string)
        self._jobs = IoTHubJobManager.from_connection_string(connection_string)
        self._module = module

    def start(self, condition: str, method: str, payload: Outcome, timeout: int) -> str:
        """Start a job on the modules that the condition holds of; return its name."""
        name = f"sftp-{method}-{uuid.uuid4().hex[:8]}".replace("_", "-")
        call = CloudToDeviceMethod(
            method_name=method,
            payload={**payload, "timeout": timeout},
            response_timeout_in_seconds=timeout + 5,
            connect_timeout_in_seconds=0,
        )
        query = f"FROM devices.modules WHERE moduleId = '{self._module}'" + (f" AND {condition}" if condition else "")
        request = JobRequest(
            job_id=name, type="scheduleDeviceMethod", cloud_to_device_method=call, query_condition=query
        )
        self._jobs.create_scheduled_job(name, request)
        return name

    def wait(self, name: str) -> int:
        """Wait until a job has ended; return how many devices it was for."""
        while True:
            job = self._jobs.get_scheduled_job(name)
            if job.status in ENDED:
                return int(job.device_job_statistics.device_count)
            time.sleep(PAUSE)

    def outcomes(self, name: str) -> Iterator[Outcome]:
        """Give what came of a job on each device, page by page."""
        query = QuerySpecification(query=f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{name}'")  # noqa: S608 - ours
        continuation = None
        while True:
            # The SDK's own query_iot_hub reads every answer as a twin; the raw one has the outcomes
            answer = self._registry.protocol.query.get_twins(query, continuation, PAGE, None, True)  # noqa: FBT003
            yield from answer.response.json()
            continuation = answer.headers["x-ms-continuation"]
            if not continuation:
                return


def status_of(outcome: Outcome) -> int | None:
    """Return the status that a device answered with; `None` if it was not reached."""
    response = (outcome.get("outcome") or {}).get("deviceMethodResponse")
    return None if response is None else int(response["status"])


def told(outcome: Outcome) -> str:
    """Word what went wrong on a device in one line."""
    if status_of(outcome) is None:
        return (
            f"{outcome['deviceId']}: not reached: {(outcome.get('error') or {}).get('description', 'no reason given')}"
        )
    response = outcome["outcome"]["deviceMethodResponse"]
    payload = response["payload"]
    reason = f"{payload['code']}: {payload['message']}" if isinstance(payload, dict) and "code" in payload else payload
    return f"{outcome['deviceId']}: {response['status']} {reason}"


def run_job(fleet: Fleet, name: str) -> tuple[list[Outcome], list[str]]:
    """Wait for a job and print what came of it; return what was not carried out, and which devices were not reached."""
    count = fleet.wait(name)
    outcomes = list(fleet.outcomes(name))
    while len(outcomes) < count:  # the hub's queries lag a little behind its jobs
        time.sleep(PAUSE)
        outcomes = list(fleet.outcomes(name))
    if not count:
        sys.exit("no module matches")
    statuses = Counter(status_of(outcome) for outcome in outcomes)
    print(
        f"{count} devices:",
        ", ".join(
            f"{number} {f'answered {status}' if status else 'not reached'}" for status, number in statuses.items()
        ),
    )
    failed = [outcome for outcome in outcomes if not 200 <= (status_of(outcome) or 0) < 300]  # noqa: PLR2004
    for outcome in failed:
        print(f"  {told(outcome)}")
    return failed, [outcome["deviceId"] for outcome in failed if status_of(outcome) is None]


def main() -> int:
    """Start the job that the arguments describe, or go on with one; return the exit status."""
    arguments = parse_arguments()
    fleet = Fleet(os.environ["IOTHUB_CONNECTION_STRING"], arguments.module)
    name = arguments.job or fleet.start(arguments.condition, arguments.method, arguments.payload, arguments.timeout)
    print(f"job {name}", flush=True)
    failed, unreached = run_job(fleet, name)
    refused = len(failed) - len(unreached)
    for _ in range(arguments.again):
        if not unreached:
            break
        time.sleep(arguments.pause)
        devices = ", ".join(f"'{device}'" for device in unreached)
        name = fleet.start(f"deviceId IN [{devices}]", arguments.method, arguments.payload, arguments.timeout)
        print(f"job {name}, for those that were not reached", flush=True)
        failed, unreached = run_job(fleet, name)
        refused += len(failed) - len(unreached)
    return 1 if refused or unreached else 0


def json_object(text: str) -> dict[str, Any]:
    """Read a payload."""
    payload = json.loads(text)
    if not isinstance(payload, dict):
        raise TypeError(text)
    return payload


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("condition", help="of module twins, such as \"tags.site = 'north'\"; '' for all")
    parser.add_argument("method")
    parser.add_argument("payload", nargs="?", default={}, type=json_object, help="a JSON object")
    parser.add_argument("--module", default="sftp")
    parser.add_argument("--timeout", type=int, default=25, help="seconds for each module, 5 to 290")
    parser.add_argument("--job", help="read what came of this job, and start none")
    parser.add_argument(
        "--again", type=int, default=0, metavar="N", help="up to N further jobs for who was not reached"
    )
    parser.add_argument("--pause", type=float, default=60.0, help="seconds before each of them")
    arguments = parser.parse_args()
    if "IOTHUB_CONNECTION_STRING" not in os.environ:
        parser.error("set IOTHUB_CONNECTION_STRING, as --help shows")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
