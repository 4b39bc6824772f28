"""Rehearses a release: builds it, checks it and lists it in `build/release`, and publishes nothing.

`python -m release` works on the commit that is checked out, never on files that are not committed: what it builds from
is a copy that git makes. `make release` calls it.
"""

from __future__ import annotations

from release._checkout import Checkout
from release._errors import ReleaseError
from release._places import PLACES, Place, changelog_with, set_version, version_of, wrong_places

__all__ = ["PLACES", "Checkout", "Place", "ReleaseError", "changelog_with", "set_version", "version_of", "wrong_places"]
