"""What is in the image, and what is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from images import PLATFORMS, Engine, Image
from images._image import added_files
from iot.sftp.client import __version__

SIZE_LIMIT = 75_000_000


@pytest.fixture(scope="module")
def added(engine: Engine, image: Image) -> dict[str, int]:
    """The files that the image adds to its base, with their sizes; unpacked again, as nothing has started it yet."""
    base_name = image.config["Labels"]["org.opencontainers.image.base.name"]
    with engine.root(base_name, image.platform) as base, engine.root(image.tag, image.platform) as root:
        return added_files(base, root)


def test_it_is_small(added: dict[str, int]) -> None:
    assert sum(added.values()) < SIZE_LIMIT


def test_it_adds_the_dependencies_and_the_module_and_nothing_else(added: dict[str, int]) -> None:
    # Engines leave empty files where they mount their own, such as /etc/hosts.
    assert {"/".join(Path(path).parts[:2]) for path, size in added.items() if size} == {
        "opt/dependencies",
        "opt/module",
    }


def test_it_has_no_pip_no_compiler_no_cache_and_no_tests(added: dict[str, int]) -> None:
    unwanted = re.compile(r"(^|/)(pip|setuptools|wheel|gcc|cc1|[.]cache|conftest[.]py|tests|localedge)(-[^/]*)?(/|$)")
    assert not [path for path in added if unwanted.search(path)]


def test_it_is_compiled_ahead_since_nothing_can_be_written_when_it_runs(added: dict[str, int]) -> None:
    sources = [path for path in added if path.startswith("opt/module/iot/") and path.endswith(".py")]
    assert sources
    for path in sources:
        folder, name = path.rsplit("/", 1)
        assert [other for other in added if other.startswith(f"{folder}/__pycache__/{name[:-3]}.cpython-")]


def test_nothing_in_it_but_the_two_folders_belongs_to_its_user(image: Image) -> None:
    owned = [path for path in image.root.rglob("*") if path.lstat().st_uid == image.user[0]]
    assert sorted(owned) == [image.root / "data", image.root / "state"]


def test_it_runs_as_the_documented_user_and_takes_the_edge_agents_signal(image: Image) -> None:
    assert image.config["User"] == "10001:10001"
    assert image.config["Entrypoint"] == ["python", "-m", "iot.sftp.module"]
    assert image.config["StopSignal"] == "SIGTERM"


def test_its_labels_say_what_it_is(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.config["Labels"].items()}
    assert labels["title"] == "iot-sftp-client"
    assert labels["licenses"] == "MIT"
    assert labels["version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", labels["revision"])
    assert labels["description"]
    assert labels["source"]
    assert labels["base.name"]


def test_its_programs_are_of_its_platform(image: Image) -> None:
    # The machine's number in the ELF header: "ELF-64 Object File Format", 1.5, and its processor supplements.
    machines = {"amd64": 62, "arm32v7": 40, "arm64v8": 183}
    libraries = list((image.root / "opt/dependencies").rglob("*.so"))
    assert libraries
    assert image.platform in PLATFORMS.values()
    for path in libraries:
        assert int.from_bytes(path.read_bytes()[18:20], "little") == machines[image.platform.name]
