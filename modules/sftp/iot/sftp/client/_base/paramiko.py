"""The first import of paramiko, without `invoke`, which paramiko imports if it is installed.

invoke runs the commands of `Match exec` lines in files for `paramiko.SSHConfig`, which we never read, and brings 120
modules along (a YAML parser, `asyncio`, `unittest.mock`): 6 MB of memory and two fifths of the time to import us. Here
it is imported when such a line asks for it, so that an application that reads such files misses nothing.

Where paramiko or invoke was imported before us, nothing is changed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

NAME = "invoke"


class ImportedWhenUsed(ModuleType):
    """Stands for invoke in paramiko."""

    def __getattr__(self, name: str) -> Any:
        """Import the real one; raise `ImportError` if it is not installed."""
        _take_away(self)
        return getattr(import_module(NAME), name)


def _take_away(stand_in: ModuleType) -> None:
    if sys.modules.get(NAME) is stand_in:
        del sys.modules[NAME]


if "paramiko" in sys.modules or NAME in sys.modules:
    import paramiko
else:
    _stand_in = ImportedWhenUsed(NAME)
    sys.modules[NAME] = _stand_in
    try:
        import paramiko
    finally:
        _take_away(_stand_in)

__all__ = ["paramiko"]
