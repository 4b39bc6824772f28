"""`python -m release`: rehearse the release of the commit that is checked out; `make release` calls it."""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import sys
import tempfile
from pathlib import Path

from images import PLATFORMS
from release import _images, _pythons, _sbom
from release._build import build_twice, sums
from release._checkout import Checkout
from release._command import run
from release._errors import ReleaseError
from release._places import set_version, unreleased, version_of, wrong_places

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-release"
OUTPUT = ROOT / "build/release"


def main() -> int:
    """Rehearse what the arguments say; return the exit status."""
    arguments = _arguments()
    try:
        if arguments.set_version:
            changed = set_version(ROOT, arguments.set_version, _today())
            _say(f"{arguments.set_version} is in {', '.join(changed)}: look at the difference, and commit it")
            return 0
        with tempfile.TemporaryDirectory(prefix="iot-sftp-release-", dir=os.environ.get("TMPDIR")) as work:
            return Rehearsal(arguments, Path(work)).run()
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1


class Rehearsal:
    """One rehearsal."""

    def __init__(self, arguments: argparse.Namespace, work: Path) -> None:
        """Begin with a commit.

        Raises:
            ReleaseError: the files that are here are not those of a commit.
        """
        self._arguments = arguments
        self._work = work
        self._checkout = Checkout.of(ROOT)
        self._version = version_of(ROOT)
        self._left: list[str] = []  # for a person

    def run(self) -> int:
        """Go through all steps; the first one that fails ends it."""
        _say(f"version {self._version}, commit {self._checkout.commit}")
        self._check_names()
        shutil.rmtree(OUTPUT, ignore_errors=True)
        files = self._build()
        self._try_pythons(files)
        self._list()
        self._build_images()
        (OUTPUT / "SHA256SUMS").write_text(sums(OUTPUT), encoding="ascii")
        self._tell_what_is_left()
        return 0

    def _check_names(self) -> None:
        """Check that everything names one version, and that the changelog describes it."""
        wrong = list(wrong_places(ROOT, self._version))
        if wrong:
            raise ReleaseError("not everything names one version:" + "".join(f"\n  {line}" for line in wrong))
        _say(run(sys.executable, "tools/check-release", f"v{self._version}", cwd=ROOT).strip())
        if unreleased((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
            _say(f"CHANGELOG.md has lines under Unreleased: this commit is newer than {self._version}")
            step = (
                "set the next version (make release RELEASE_OPTIONS='--set-version 1.2.3'), commit, and rehearse that"
            )
            self._left.append(step)

    def _build(self) -> list[Path]:
        files = build_twice(self._checkout, self._work, OUTPUT / "dist")
        _say(f"built twice, the same bytes: {', '.join(path.name for path in files)}")
        checked = run(str(ENVIRONMENT / "bin/twine"), "check", "--strict", *map(str, files))
        if checked.count("PASSED") != len(files):
            raise ReleaseError(f"twine is not content: {checked.strip()}")
        _say("twine check --strict: passed")
        return files

    def _try_pythons(self, files: list[Path]) -> None:
        """Install the wheel in an empty environment of each Python, and use it."""
        (wheel,) = [path for path in files if path.suffix == ".whl"]
        project = self._checkout.copy(self._work / "project")
        pythons = _pythons.found()
        wanted = self._wanted(list(pythons))
        with _pythons.server(self._work) as sshd:
            for minor in wanted:
                if minor not in pythons:
                    raise ReleaseError(f"there is no Python {minor} here that can make an environment")
                _say(_pythons.try_wheel(pythons[minor], wheel, project, self._work, sshd))
        missing = [minor for minor in _pythons.classified(project) if minor not in wanted]
        if missing:
            _say(f"not tried, as they are not here or not asked for: Python {', '.join(missing)}")
            self._left.append(f"see that the workflow `test` has passed with Python {', '.join(missing)}")

    def _wanted(self, here: list[str]) -> list[str]:
        """Return the Pythons to try."""
        named = self._arguments.pythons
        return here if named is None else [_pythons.THIS if name == "this" else name for name in named]

    def _list(self) -> None:
        file = OUTPUT / f"iot-sftp-client-{self._version}.cdx.json"
        count = _sbom.of_requirements(ENVIRONMENT, self._checkout, self._work, file)
        _sbom.check(ENVIRONMENT, file)
        _say(f"{file.relative_to(ROOT)}: the {count} packages that requirements/module.txt pins")

    def _build_images(self) -> None:
        platforms = self._arguments.images
        reason = _images.why_none() if platforms else "not asked for"
        for platform in platforms if reason is None else ():
            file = OUTPUT / f"iot-sftp-client-{self._version}-{platform}.cdx.json"
            said = _images.build(self._checkout, platform, self._version, file)
            _sbom.check(ENVIRONMENT, file)
            _say(f"{file.relative_to(ROOT)}: {said}")
        if reason is not None:
            _say(f"no images: {reason}")
        missing = [name for name in PLATFORMS if reason is not None or name not in platforms]
        if missing:
            self._left.append(f"see that the workflow `images` has built and run {', '.join(missing)}")

    def _tell_what_is_left(self) -> None:
        tag = f"v{self._version}"
        left = [
            *self._left,
            f"git tag --annotate {tag} --message 'Version {self._version}' {self._checkout.commit}",
            f"git push origin {tag}: the workflow `publish` tests, builds, signs, and uploads packages and images",
            f"compare what was published with the hashes: cd {OUTPUT.relative_to(ROOT)}; sha256sum --check SHA256SUMS",
            f"publish the changelog's section as the release's text, with the *.cdx.json of {OUTPUT.relative_to(ROOT)}",
        ]
        _say("rehearsed, and nothing was published. A person has still to:")
        for number, step in enumerate(left, 1):
            _say(f"  {number}. {step}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument(
        "--images",
        type=_words,
        default=["amd64"],
        metavar="PLATFORM,…",
        help=f"which images to build and run: of {', '.join(PLATFORMS)}; none is none (default: amd64)",
    )
    parser.add_argument(
        "--pythons",
        type=_words,
        metavar="3.12,…",
        help="which Pythons to try; this is the one that runs this (default: all)",
    )
    parser.add_argument(
        "--set-version", metavar="1.2.3", help="write a version into all places that name it, and do nothing else"
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.images if name not in PLATFORMS]
    if unknown:
        parser.error(f"{', '.join(unknown)} is not one of {', '.join(PLATFORMS)}, or none")
    return arguments


def _words(text: str) -> list[str]:
    return [] if text == "none" else [word for word in text.split(",") if word]


def _today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
