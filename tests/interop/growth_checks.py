"""The check of the matrix with a file that grows: whether the server makes the next version itself, or we add to it."""

from __future__ import annotations

import os

from tests.interop.checks import KIB, LIMIT, OTHER_BYTES, Target, check, digest
from tests.interop.peers import PeerFailed

from iot.sftp.client import Append

SIZES = (600 * KIB, 70 * KIB, 1)  # what it has at first, and what it grows by


def _grow(target: Target, size: int) -> None:
    """Let the local file grow by so many bytes."""
    target.local("logs").mkdir(exist_ok=True)
    with open(target.local("logs/app.log"), "ab") as file:
        file.write(os.urandom(size))


def _sftp_appends(target: Target) -> None:
    for number, size in enumerate(SIZES):
        _grow(target, size)
        word = "reput" if number else "put"
        target.openssh.run(f"{word} {target.local('logs/app.log')} {target.remote('app.log')}")
    if digest(target.on_disk("app.log")) != digest(target.local("logs/app.log")):
        raise PeerFailed("other bytes arrived")


@check(_sftp_appends)
def keeps_up_with_a_file_that_grows_by_its_new_bytes(target: Target) -> None:
    in_place = 0
    with target.session() as session:
        for size in SIZES:
            _grow(target, size)
            done = session.upload_files(str(target.local("logs")), target.folder, append=Append(), timeout=LIMIT)
            assert not done.failures, f"{done.failures[0].code}: {done.failures[0].message}"
            assert done.bytes == size, f"{done.bytes} bytes were sent where it had grown by {size}"
            target.same(target.on_disk("app.log"), target.local("logs/app.log"))
            in_place += done.in_place
        fetched = session.download_files(target.folder, str(target.local("here")), append=Append(), timeout=LIMIT)
    assert not fetched.failures, f"{fetched.failures[0].code}: {fetched.failures[0].message}"
    assert digest(target.local("here/app.log")) == digest(target.local("logs/app.log")), OTHER_BYTES
    target.notes.append("appended to in place" if in_place else "made by the server with copy-data")
