"""`iot-sftp check` in the running container, as it is confined: it asks the module, which knows the settings."""

from __future__ import annotations

import json

import pytest
from tests.images.conftest import START_LIMIT

from images import Device, Image
from iot.sftp.module import _module
from localedge.testing import worker_address

pytestmark = pytest.mark.skipif(not hasattr(_module, "CheckServer"), reason="the module does not serve checks yet")


@pytest.mark.parametrize("binds", [{}, {"/state": None}], ids=["with a state folder", "in /tmp"])
def test_the_running_module_is_asked_for_its_connection(image: Image, binds: dict[str, None]) -> None:
    with Device(image, worker_address(), binds=binds) as device:
        device.edge.wait_until_connected(START_LIMIT)
        assert device.edge.invoke("sftp", "exists", {"path": "hello.txt", "timeout": 100}, timeout=110) == (200, True)
        told = json.loads(device.run_as_the_module("iot-sftp", "check", "--json"))
        assert told["ok"]
        assert [step["name"] for step in told["steps"]][-1] == "speed"
