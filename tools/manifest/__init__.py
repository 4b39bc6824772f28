"""Expands deployment templates into manifests, as the Azure IoT Edge tools do, and checks what comes out.

`python -m manifest --platform arm32v7` writes `config/deployment.arm32v7.json`; `make manifest` calls it.
"""

from __future__ import annotations

from manifest._check import problems_of
from manifest._errors import ManifestError
from manifest._expand import Images, expanded, images_of
from manifest._schemas import schema_problems
from manifest._secrets import secrets_in

__all__ = ["Images", "ManifestError", "expanded", "images_of", "problems_of", "schema_problems", "secrets_in"]
