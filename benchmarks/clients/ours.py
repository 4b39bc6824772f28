"""This project's client as a benchmark's process. Usage: ours.py JOB.json."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from iot.sftp.client import Jump, Proxy, Secret, ServerSettings, SFTPSession


def main(job: dict[str, Any]) -> None:
    """Do what the job says, one call after the other."""
    place, way = job["place"], job["way"]
    login: Any = {
        "host": place["host"],
        "port": place["port"],
        "user": place["user"],
        "private_key": Secret.from_file(place["key_file"]),
        "host_keys": (place["host_key"],),
    }
    settings = ServerSettings(
        **login,
        proxy=Proxy(place["socks"]) if way == "socks" else None,
        jumps=(Jump(**login),) if way == "jump" else (),
    )
    session = SFTPSession(settings)
    kind, pairs = job["kind"], job["pairs"]
    call: Any = {
        "get": session.download_file,
        "put": session.upload_file,
        "get_folder": partial(session.download_files, recursive=True),
        "put_folder": partial(session.upload_files, recursive=True),
        "get_same_folder": partial(session.download_files, recursive=True, if_exists="skip_same"),
        "put_same_folder": partial(session.upload_files, recursive=True, if_exists="skip_same"),
        "list": lambda source, _: session.list_files(source),
        "list_details": lambda source, _: session.list_directory(source),
        "delete_folder": lambda source, _: session.delete_directory(source, recursive=True),
        "make_folder": lambda _, dest: session.create_directory(dest),
    }[kind]
    for source, dest in pairs:
        done = call(source, dest)
        if getattr(done, "failed", 0):
            sys.exit(f"{done.failed} of {done.total_files} failed, the first: {done.failures[0]}")
    session.disconnect()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
