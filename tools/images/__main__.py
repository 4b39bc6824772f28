"""`python -m images PLATFORM …`: build, run and measure; `make images` calls it."""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from images._base import base_image
from images._command import run
from images._engine import Build, Engine, find_engine
from images._errors import ImagesError
from images._image import added_files, opened
from images._platforms import PLATFORMS, Platform
from images._trial import tried
from localedge import LocalEdgeError
from localedge.testing import worker_address

ROOT = Path(__file__).parents[2]
_INPUTS = ("Dockerfile.{}", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "deployment.template.json")
_INPUT_FOLDERS = ("requirements", "modules/sftp/iot", "tools/images", "tests/images")
_MEGABYTE = 1_000_000


def main() -> int:
    """Build and run the images of the platforms that are named; return the exit status."""
    arguments = _arguments()
    try:
        for name in arguments.platforms:
            _build_and_run(PLATFORMS[name], only_if_changed=arguments.if_changed)
    except (ImagesError, LocalEdgeError, TimeoutError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m images", description=__doc__)
    parser.add_argument("platforms", nargs="+", choices=PLATFORMS, metavar="PLATFORM", help=", ".join(PLATFORMS))
    parser.add_argument(
        "--if-changed", action="store_true", help="leave out what was built and run here before, from the same inputs"
    )
    return parser.parse_args()


def _build_and_run(platform: Platform, *, only_if_changed: bool) -> None:
    digest = _digest(platform)
    record = _cache() / f"{platform.name}.passed"
    if only_if_changed and record.exists() and record.read_text() == digest:
        _say(f"{platform.name}: was built and run here from the same inputs before")
        return
    engine = find_engine()
    platform.make_runnable()
    dockerfile = ROOT / f"Dockerfile.{platform.name}"
    base = base_image(engine, dockerfile, platform, _say)
    _say(f"{platform.name}: built by {engine.name} on {base}")
    begin = time.monotonic()
    _build(engine, platform, dockerfile, base)
    took = time.monotonic() - begin
    _run(engine, platform, base, took)
    _test(platform)
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(digest)


def _build(engine: Engine, platform: Platform, dockerfile: Path, base: str) -> None:
    with tempfile.TemporaryDirectory(prefix="iot-sftp-build-") as directory:
        arguments = {"PYTHON_IMAGE": base, "VERSION": _version(), "REVISION": _revision()}
        engine.build(Build(ROOT, dockerfile, platform, platform.tag, arguments), Path(directory, "log"))


def _run(engine: Engine, platform: Platform, base: str, took: float) -> None:
    with opened(engine, platform.tag, platform) as image, engine.root(base, platform) as base_root:
        added = sum(added_files(base_root, image.root).values())
        trial = tried(image, worker_address(), _say)
    _say(
        f"{platform.name}: {trial.answers} methods answered; {added / _MEGABYTE:.1f} MB above the base;"
        f" takes methods {trial.started:.1f} s after its start; {trial.memory / _MEGABYTE:.0f} MB of memory at most;"
        f" ends {trial.stopped:.1f} s after SIGTERM; built in {took:.0f} s"
    )


def _test(platform: Platform) -> None:
    """Run the tests that start the image under conditions that go wrong."""
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "tests/images"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "SFTP_TEST_IMAGE": platform.name}, check=False)  # noqa: S603
    if done.returncode:
        raise ImagesError(f"The tests of the {platform.name} image failed.")


def _version() -> str:
    code = "from iot.sftp.client import __version__; print(__version__)"
    return run(sys.executable, "-c", code).strip()


def _revision() -> str:
    """Return the commit that is checked out, if there is git, and this is a clone."""
    try:
        command = ["git", "-c", "safe.directory=*", "rev-parse", "HEAD"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _digest(platform: Platform) -> str:
    """Return a hash of all that an image is made of and tried with."""
    digest = hashlib.sha256()
    for path in sorted(_inputs(platform)):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _inputs(platform: Platform) -> Iterator[Path]:
    yield from (ROOT / name.format(platform.name) for name in _INPUTS)
    for folder in _INPUT_FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc")


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home, "iot-sftp-client", "images")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
