"""Where the scenes of the faults run."""

from __future__ import annotations

import pytest

from localedge.testing import worker_address


@pytest.fixture(scope="session")
def address() -> str:
    """The hub's address, beside those of the other tests of this worker."""
    first, second, *rest = worker_address().split(".")
    return ".".join([first, str(int(second) ^ 32), *rest])


@pytest.fixture(scope="session")
def another_address() -> str:
    """The same for a second scene at the same time."""
    first, second, *rest = worker_address().split(".")
    return ".".join([first, str(int(second) ^ 96), *rest])
