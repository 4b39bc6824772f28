"""`make quick`: the tests of what changed, as many as a minute allows. A tool, no part of what ships."""

from __future__ import annotations

from quick._selection import changed_files, select_tests

__all__ = ["changed_files", "select_tests"]
