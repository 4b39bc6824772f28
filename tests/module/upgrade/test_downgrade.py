"""An older module on the state directory of a newer one: it says so, does nothing twice, and leaves the files alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.module.upgrade import plant

FILES = ("tasks.sqlite3", "rules.sqlite3")


def refused(reported: dict[str, Any]) -> bool:
    """Tell whether the journal is reported, and both rules, for this reason."""
    rules = reported["rules"]["value"].values()
    told = [reported["journal"], *rules]
    return all("a newer version of the module has made" in shown["message"] for shown in told) and all(
        (rule["state"], rule["code"], rule["files"]) == ("failing", "permission_denied", 0) for rule in rules
    )


def test_what_a_newer_version_has_made_is_neither_used_nor_changed(tmp_path: Path, own_address: str) -> None:
    plant.unpack(tmp_path)
    for name in FILES:
        with closing(sqlite3.connect(tmp_path / "state" / name)) as connection:
            connection.execute("PRAGMA user_version = 99")
    before = {name: (tmp_path / "state" / name).read_bytes() for name in FILES}
    with plant.device(tmp_path, own_address) as edge:
        edge.wait_for_reported(refused, plant.LIMIT)
        call = {"source": "done", "dest": "plant/called"}
        assert edge.invoke("sftp", "upload_file", call) == (200, True)
        status, answer = edge.invoke("sftp", "upload_file", {**call, "background": True})
        assert (status, answer["code"]) == (403, "permission_denied")
        assert "Install that version again" in answer["message"]
    assert {name: (tmp_path / "state" / name).read_bytes() for name in FILES} == before
    assert not list((tmp_path / "state").glob("*.set-aside*"))
    assert not (tmp_path / "server/plant/batch").exists()
