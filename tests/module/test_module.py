"""The module, put together."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from iot.sftp.module._app.configuration import Configuration
from iot.sftp.module._base.environment import Environment
from iot.sftp.module._hub.hub import Hub
from iot.sftp.module._module import Module


def test_an_internal_error_in_a_document_is_one_line_and_does_not_end_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same document would come again after a restart."""
    applied: list[Any] = []

    async def scenario() -> None:
        answers, ended = iter(["breaks", 2]), asyncio.Event()

        async def get_twin(_hub: Hub) -> dict[str, Any]:
            version = next(answers, None)
            if version is None:
                ended.set()
                await asyncio.Event().wait()
            return {"desired": {"$version": version}, "reported": {}}

        def apply(_configuration: Configuration, document: Any) -> None:
            applied.append(document["$version"])
            if document["$version"] == "breaks":
                raise RuntimeError("a bug")

        async def connected(_hub: Hub) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(Hub, "run", connected)
        monkeypatch.setattr(Hub, "get_twin", get_twin)
        monkeypatch.setattr(Configuration, "apply", apply)
        module = Module(Environment(tmp_path, tmp_path, "info", metrics_port=0), lambda: None)
        running = asyncio.create_task(module.run())
        while not ended.is_set():
            module.desired_changed({"$version": 2})
            await asyncio.sleep(0.01)
        module.stop()
        assert await running == 0

    asyncio.run(scenario())
    assert applied[:2] == ["breaks", 2]
    assert "because of an internal error" in caplog.text
