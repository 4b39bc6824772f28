"""Builds the module's images, and runs them as an edge device would.

`python -m images PLATFORM …` builds, starts the very image on a local edge runtime, calls every method, and tells the
figures. docker is used where its daemon answers, else buildah; where no registry of images can be reached, the base is
made from the distribution's packages (debootstrap). Images of other architectures run under qemu's user emulation.
"""

from __future__ import annotations

from images._device import Device
from images._engine import Engine, find_engine
from images._errors import ImagesError
from images._image import Image, opened
from images._platforms import PLATFORMS, Platform

__all__ = ["PLATFORMS", "Device", "Engine", "Image", "ImagesError", "Platform", "find_engine", "opened"]
