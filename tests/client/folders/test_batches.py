"""Folders of small files, several of which one thread has in flight, over links that break."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from tests.clients import session_of
from tests.faulty_links import Break, BreakingRelay
from tests.folders import content_of, fill
from tests.servers import Server

from iot.sftp.client._base.steps import ALONE, LATER, TOGETHER, Steps, finish
from iot.sftp.client._folders.batch import run_together

if TYPE_CHECKING:
    from iot.sftp.client._files.remote_files import RemoteFiles


@pytest.mark.parametrize("at", [300, 2_500, 6_000, 14_000, 45_000])
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
def test_a_folder_is_whole_wherever_the_link_broke(openssh_server: Server, tmp_path: Path, at: int, down: bool) -> None:
    """While directories are made, while files are opened, written and renamed."""
    files = {f"{folder}/{name}": b"content of %d" % name for folder in range(20) for name in range(8)}
    fill(tmp_path / "source", files)
    relay = BreakingRelay((openssh_server.host, openssh_server.port))
    with relay.running() as port, session_of(replace(openssh_server, port=port)) as session:
        assert not session.exists("x")
        relay.break_at(Break(at, down=down))
        done = session.upload_files(str(tmp_path / "source"), tmp_path.name, recursive=True, timeout=60)
        assert relay.broken.is_set()
    assert (done.files, done.failed) == (160, 0)
    there = openssh_server.directory / tmp_path.name
    assert content_of(there) == files
    assert not list(there.rglob(".iot-sftp-*"))


class NoServer:
    """A server that is never asked anything."""

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()


def test_what_waits_for_time_goes_on_together_when_nothing_else_is_under_way() -> None:
    done: list[str] = []

    def work(name: str, *waits: Future[Any] | None) -> Steps[None]:
        for wait in waits:
            yield wait
            done.append(name)

    works = [work("young", LATER, TOGETHER), work("old", TOGETHER, TOGETHER), work("new", LATER, TOGETHER)]
    run_together(cast("RemoteFiles", NoServer()), [*works, work("alone", ALONE)])
    assert done == ["old", "old", "young", "new", "young", "new", "alone"]


def test_a_work_knows_whether_others_are_done_beside_it() -> None:
    heard: list[bool | None] = []

    def work() -> Steps[None]:
        heard.append((yield TOGETHER))

    finish(work())
    run_together(cast("RemoteFiles", NoServer()), [work()])
    assert heard == [None, True]
