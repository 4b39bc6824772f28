"""The image that `make images` has just built, laid open."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from images import PLATFORMS, Engine, Image, find_engine, opened

START_LIMIT = 180.0  # seconds; under emulation all is slow


@pytest.fixture(scope="session")
def engine() -> Engine:
    if "SFTP_TEST_IMAGE" not in os.environ:
        pytest.skip("`make images` builds the image that this test starts")
    return find_engine()


@pytest.fixture(scope="session")
def image(engine: Engine) -> Iterator[Image]:
    platform = PLATFORMS[os.environ["SFTP_TEST_IMAGE"]]
    with opened(engine, platform.tag, platform) as image:
        yield image
