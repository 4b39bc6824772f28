"""The images of a release: built, run and listed, where something that builds images is here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from images import PLATFORMS, ImagesError, find_engine, opened
from release._checkout import Checkout
from release._errors import ReleaseError
from release._sbom import of_image

_LABELS = {"version": "org.opencontainers.image.version", "revision": "org.opencontainers.image.revision"}


def why_none() -> str | None:
    """Return why no image can be built here; `None` if that is possible."""
    try:
        find_engine()
    except ImagesError as error:
        return str(error)
    return None


def build(checkout: Checkout, platform: str, version: str, output: Path) -> str:
    """Build and run an image as `make images` does, and list what is in it; return what there is to say.

    Raises:
        ReleaseError: it cannot be built, does not work, or says that it is another one.
    """
    done = subprocess.run([sys.executable, "-m", "images", platform], cwd=checkout.root, check=False)  # noqa: S603
    if done.returncode:
        raise ReleaseError(f"the image for {platform} was not built, or does not work: see above")
    with opened(find_engine(), PLATFORMS[platform].tag, PLATFORMS[platform]) as image:
        labels = image.config.get("Labels") or {}
        expected = {"version": version, "revision": checkout.commit}
        for name, value in expected.items():
            if labels.get(_LABELS[name]) != value:
                raise ReleaseError(f"the image for {platform} says {name} {labels.get(_LABELS[name])}, not {value}")
        counts = of_image(image.root, f"iot-sftp-client-{platform}", version, checkout, output)
    return f"{counts['deb']} packages of Debian and {counts['pypi']} of Python are in it"
