"""Use what is installed, and nothing of this project's tree: `smoke.py HOST PORT USER KEY_FILE HOST_KEY VERSION`."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
from pathlib import Path

SIZE = 300_000  # bytes


def main() -> int:
    """Import every package, move a file to a server and back, and say so; return the exit status."""
    host, port, user, key_file, host_key, version = sys.argv[1:]
    for name in ("iot.sftp.client", "iot.sftp.module", "iot.sftp.module._module", "iot.sftp.command_line"):
        importlib.import_module(name)
    client_package = importlib.import_module("iot.sftp.client")
    assert client_package.__version__ == version, client_package.__version__  # noqa: S101 - a check of what is installed
    with tempfile.TemporaryDirectory() as name:
        sent, back = Path(name, "sent"), Path(name, "back")
        sent.write_bytes(os.urandom(SIZE))
        remote = f"smoke-{os.getpid()}"
        options = {"private_key": Path(key_file).read_text(encoding="ascii"), "host_keys": [host_key]}
        with client_package.IoTSFTPClient(host, int(port), user, None, **options) as client:
            done = client.upload_file(str(sent), remote) and client.download_file(remote, str(back))
            same = done and back.read_bytes() == sent.read_bytes() and client.delete_file(remote)
            if not same:
                sys.stderr.write(f"the file did not come back: {client.last_error}\n")
                return 1
    sys.stdout.write(f"Python {platform.python_version()}: imported, {SIZE} bytes uploaded and downloaded\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
