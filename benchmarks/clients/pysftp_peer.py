"""A program on pysftp as it is, as a benchmark's process. Usage: pysftp_peer.py JOB.json.

pysftp 0.2.9 asks paramiko for `DSSKey`, which is gone since paramiko 4; the name is supplied, and nothing else changed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import paramiko

paramiko.DSSKey = type("DSSKey", (), {})  # type: ignore[attr-defined]

import pysftp  # noqa: E402 - after the name that it asks for


def main(job: dict[str, Any]) -> None:
    """Do what the job says, one call after the other."""
    place = job["place"]
    options = pysftp.CnOpts(knownhosts=place["known_hosts"])
    with pysftp.Connection(
        place["host"],
        port=place["port"],
        username=place["user"],
        private_key=place["key_file"],
        cnopts=options,
    ) as sftp:
        for source, dest in job["pairs"]:
            transfer(sftp, job["kind"], source, dest)


def transfer(sftp: Any, kind: str, source: str, dest: str) -> None:
    """Make one call. Its folder calls want the parent of what they get, and the folder of what they put to exist."""
    if kind == "get":
        sftp.get(source, dest)
    elif kind == "put":
        sftp.put(source, dest)
    elif kind == "list":
        sftp.listdir(source)
    elif kind == "list_details":
        sftp.listdir_attr(source)
    elif kind == "make_folder":
        sftp.makedirs(dest)
    elif kind == "get_folder":
        os.makedirs(dest)
        with sftp.cd(os.path.dirname(source)):
            sftp.get_d(os.path.basename(source), dest)
    else:
        sftp.makedirs(dest)
        sftp.put_d(source, dest)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
