"""What `make mutants` names is there: it takes too long to be run with every change."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import CORE

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", CORE)
def test_a_module_of_the_core_and_the_tests_that_hold_it_are_there(module: str) -> None:
    assert (ROOT / "modules/sftp/iot/sftp" / f"{module}.py").is_file()
    assert CORE[module]
    for name in CORE[module]:
        assert (ROOT / "tests" / name).is_file()
