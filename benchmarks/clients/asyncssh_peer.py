"""A program on asyncssh, as its documentation shows, as a benchmark's process. Usage: asyncssh_peer.py JOB.json."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from pathlib import Path
from typing import Any

import asyncssh


async def main(job: dict[str, Any]) -> None:
    """Do what the job says, one call after the other."""
    place = job["place"]
    async with (
        asyncssh.connect(
            place["host"],
            place["port"],
            username=place["user"],
            client_keys=[place["key_file"]],
            known_hosts=place["known_hosts"],
            config=None,
            agent_path=None,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        for source, dest in job["pairs"]:
            await transfer(sftp, job["kind"], source, dest)


async def transfer(sftp: asyncssh.SFTPClient, kind: str, source: str, dest: str) -> None:
    """Make one call. A listing is made to hold what ours does: sorted names of files."""
    if kind == "list":
        names = await sftp.readdir(source)
        sorted(name.filename for name in names if stat.S_ISREG(name.attrs.permissions or 0))
    elif kind == "list_details":
        sorted(await sftp.readdir(source), key=lambda name: str(name.filename))
    elif kind == "delete_folder":
        await sftp.rmtree(source)
    elif kind == "make_folder":
        await sftp.makedirs(dest, exist_ok=True)
    elif kind.startswith("get"):
        await sftp.get(source, dest, recurse=kind == "get_folder")
    else:
        await sftp.put(source, dest, recurse=kind == "put_folder")


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
