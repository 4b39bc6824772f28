r"""Write the lines of authorized_keys for the keys that the devices of a fleet have made themselves.

    export IOTHUB_CONNECTION_STRING='HostName=…;SharedAccessKeyName=service;SharedAccessKey=…'
    python examples/authorized_keys.py "tags.site = 'north'" --options restrict > authorized_keys

One query reads the public keys from the twins: of each device the current one, and during a rotation the next one too,
so that the file may be installed at any time. With --directory there is one file for each user of the server, named
after the user, as in OpenSSH's `AuthorizedKeysFile /etc/ssh/keys/%u`. Devices without a key are named on stderr, and
make the exit status 1.

It needs azure-iot-hub, and a policy with the permission "registry read".
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import QuerySpecification

PAGE = 100
KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/=]+( [\w./-]+)?")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


def twins(connection_string: str, module: str, condition: str) -> Iterator[Any]:
    """Give the twins of the modules that the condition holds of, page by page."""
    registry = IoTHubRegistryManager.from_connection_string(connection_string)
    query = f"SELECT * FROM devices.modules WHERE moduleId = '{module}'"  # noqa: S608 - of whoever runs this program
    specification = QuerySpecification(query=query + (f" AND {condition}" if condition else ""))
    continuation = None
    while True:
        answer = registry.query_iot_hub(specification, continuation, PAGE)
        yield from answer.items or []
        continuation = answer.continuation_token
        if not continuation:
            return


def reported(twin: Any, server: str) -> dict[str, Any]:
    """Return what a module reports of a server: its user and its public keys; nothing, if that is not there yet."""
    properties = twin.properties.reported or {}
    section = properties.get("sftp") if server == "sftp" else (properties.get("servers") or {}).get(server)
    return (section or {}).get("value") or {}


def keys_of(value: dict[str, Any]) -> list[str]:
    """Return the public lines of a device; a line of another form is left out: what a device reports is not trusted."""
    lines = [str(value.get(name, "")) for name in ("publicKey", "nextPublicKey")]
    return [line for line in lines if KEY.fullmatch(line)]


def main() -> int:
    """Print or write what the arguments ask for; return the exit status."""
    arguments = parse_arguments()
    lines: dict[str, list[str]] = {}
    missing = []
    for twin in twins(os.environ["IOTHUB_CONNECTION_STRING"], arguments.module, arguments.condition):
        value = reported(twin, arguments.server)
        keys, user = keys_of(value), str(value.get("user", ""))
        if not keys or not USER.fullmatch(user):
            missing.append(twin.device_id)
        else:
            lines.setdefault(user, []).extend(f"{arguments.options} {key}".strip() for key in keys)
    for user, of_user in sorted(lines.items()):
        text = "".join(f"{line}\n" for line in of_user)
        if arguments.directory is None:
            sys.stdout.write(text)
        else:
            arguments.directory.mkdir(parents=True, exist_ok=True)
            (arguments.directory / user).write_text(text, encoding="utf-8")
    for device in missing:
        print(f"{device}: no public key is reported", file=sys.stderr)
    return 1 if missing else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("condition", nargs="?", default="", help="of module twins; all of them if it is left out")
    parser.add_argument("--module", default="sftp")
    parser.add_argument("--server", default="sftp", help="the server's name in the desired properties")
    parser.add_argument("--options", default="", help="written before each key, see sshd(8), for example restrict")
    parser.add_argument("--directory", type=Path, help="write one file for each user of the server")
    arguments = parser.parse_args()
    if "IOTHUB_CONNECTION_STRING" not in os.environ:
        parser.error("set IOTHUB_CONNECTION_STRING, as --help shows")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
