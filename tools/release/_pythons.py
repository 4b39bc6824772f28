"""The Pythons of this machine, and what a wheel is worth in an empty environment of each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import Server, openssh

from release._command import run
from release._errors import ReleaseError

MINORS = range(10, 15)
THIS = f"{sys.version_info[0]}.{sys.version_info[1]}"
_ASK = "import sys, venv, ensurepip; print('.'.join(map(str, sys.version_info[:3])))"
_SMOKE = Path(__file__).with_name("smoke.py")


@dataclass(frozen=True)
class Python:
    """A Python that can make environments."""

    version: str
    program: str

    @property
    def minor(self) -> str:
        """The version without its last number."""
        return self.version.rpartition(".")[0]


def classified(project: Path) -> list[str]:
    """Return the versions that the project claims to run on."""
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


def found() -> dict[str, Python]:
    """Return one Python for each version that is here: of this process, in the path, or made by pyenv or uv."""
    pythons: dict[str, Python] = {}
    for program in _candidates():
        python = _asked(program)
        if python is not None and python.minor in {f"3.{minor}" for minor in MINORS}:
            pythons.setdefault(python.minor, python)
    return dict(sorted(pythons.items(), key=lambda item: int(item[0].partition(".")[2])))


def _candidates() -> Iterator[str]:
    yield getattr(sys, "_base_executable", sys.executable)
    for minor in MINORS:
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            program = shutil.which(f"python3.{minor}", path=folder)
            if program:
                yield program
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    for versions in (pyenv / "versions", uv):
        yield from sorted(map(str, versions.glob("*3.*/bin/python3")), reverse=True)


def _asked(program: str) -> Python | None:
    """Return what a program says of itself; `None` if it does not run, or can make no environment."""
    try:
        done = subprocess.run([program, "-c", _ASK], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return Python(done.stdout.strip(), program)


@contextmanager
def server(work: Path) -> Iterator[Server]:
    """Run OpenSSH's server."""
    with openssh(work / "sshd") as running:
        yield running


def try_wheel(python: Python, wheel: Path, project: Path, work: Path, sshd: Server) -> str:
    """Install a wheel with its pinned requirements in an empty environment, and use it; return what it says.

    Raises:
        ReleaseError: something of that failed.
    """
    environment = work / f"python-{python.version}"
    run(python.program, "-m", "venv", str(environment))
    own = str(environment / "bin/python")
    wheels = map(str, _wheels(python, project / "requirements", work / f"wheels-{python.version}"))
    run(own, *_pip("install"), "--no-index", "--no-deps", *wheels, str(wheel))
    run(own, "-m", "pip", "check", "--disable-pip-version-check")
    said = run(str(environment / "bin/iot-sftp"), "--version").strip()
    version = wheel.name.split("-")[1]
    if version not in said.split():
        raise ReleaseError(f"iot-sftp --version says {said!r} on Python {python.version}, and the wheel is {version}")
    arguments = (sshd.host, str(sshd.port), sshd.user, str(sshd.key_file), sshd.host_key, version)
    # Isolated: nothing of this project's tree is imported
    return run(own, "-I", str(_SMOKE), *arguments, cwd=work).strip()


def _wheels(python: Python, requirements: Path, wheels: Path) -> list[Path]:
    """Fetch or build what `module.txt` pins, as the images do: what builds it has an environment of its own."""
    environment = wheels / "tools"
    run(python.program, "-m", "venv", str(environment))
    own = str(environment / "bin/python")
    run(own, *_pip("install"), "--require-hashes", "--requirement", str(requirements / "build.txt"))
    options = ("--require-hashes", "--no-build-isolation", "--wheel-dir", str(wheels))
    run(own, *_pip("wheel"), *options, "--requirement", str(requirements / "module.txt"))
    return sorted(wheels.glob("*.whl"))


def _pip(word: str) -> tuple[str, ...]:
    return "-m", "pip", word, "-qq", "--no-input", "--disable-pip-version-check"
