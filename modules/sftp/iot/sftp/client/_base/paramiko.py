"""The first import of paramiko, without two packages that it imports and we do not use.

- `invoke` runs the commands of `Match exec` lines in files for `paramiko.SSHConfig`, which we never read. It brings 120
  modules along (a YAML parser, `asyncio`, `unittest.mock`): 6 MB of memory and two fifths of the time to import us.
- `importlib.metadata` reads paramiko's own version out of its metadata. It brings 40 modules along (`email`, `zipfile`,
  `csv`): 7 % of the time that is left. The name of the folder that holds the metadata has the version as well.

Here each is imported when it is asked for anything else, so that an application that does so misses nothing. Where
paramiko or one of them was imported before us, nothing is changed.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

ENDING = ".dist-info"


class ImportedWhenUsed(ModuleType):
    """Stands for a module in paramiko."""

    def __getattr__(self, name: str) -> Any:
        """Import the real one; raise `ImportError` if it is not installed."""
        _take_away(self)
        return getattr(import_module(self.__name__), name)


class ImportedWhenMoreIsAsked(ImportedWhenUsed):
    """Stands for `importlib.metadata`."""

    def version(self, name: str) -> str:
        """Return the version of a package that is being imported."""
        package = sys.modules.get(name)
        if package is not None and package.__path__:
            found = [each for each in os.listdir(os.path.dirname(package.__path__[0])) if each.endswith(ENDING)]
            versions = [each.removesuffix(ENDING).partition("-")[2] for each in found if each.startswith(f"{name}-")]
            if len(versions) == 1:
                return versions[0]
        version: str = self.__getattr__("version")(name)
        return version


def _take_away(stand_in: ModuleType) -> None:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]


if "paramiko" in sys.modules:
    import paramiko
else:
    _stand_ins = [ImportedWhenUsed("invoke"), ImportedWhenMoreIsAsked("importlib.metadata")]
    for _each in _stand_ins:
        sys.modules.setdefault(_each.__name__, _each)
    try:
        import paramiko
    finally:
        for _each in _stand_ins:
            _take_away(_each)

__all__ = ["paramiko"]
