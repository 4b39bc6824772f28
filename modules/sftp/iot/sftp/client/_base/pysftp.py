"""The only place that imports pysftp, which does not import on paramiko 4 or newer as it is.

pysftp 0.2.9 asks paramiko for `DSSKey`, which is gone with the DSA keys it stood for. The name is supplied for the
moment of the import and taken away again. Once pysftp does without it, `tests/client/test_pysftp.py` fails and says
what to remove.
"""

from __future__ import annotations

import paramiko


class DSAKeysAreGone:
    """Stands for paramiko's former `DSSKey`. Nothing makes one: DSA keys are refused before."""


if hasattr(paramiko, "DSSKey"):
    import pysftp
else:
    paramiko.DSSKey = DSAKeysAreGone  # type: ignore[attr-defined]
    try:
        import pysftp
    finally:
        del paramiko.DSSKey  # type: ignore[attr-defined]

__all__ = ["pysftp"]
