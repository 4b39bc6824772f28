"""Three files for three architectures: what is the same in them, and what is not."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLATFORMS = ("amd64", "arm32v7", "arm64v8")


def lines(platform: str) -> list[str]:
    return (ROOT / f"Dockerfile.{platform}").read_text().splitlines()


@pytest.mark.parametrize("platform", PLATFORMS[1:])
def test_they_differ_in_the_base_and_in_the_compilers_that_arm32v7_needs(platform: str) -> None:
    changes = [
        line for line in difflib.ndiff(lines("amd64"), lines(platform)) if line[0] in "+-" and line[2:].strip(" +-")
    ]
    base, *compilers = (line[2:] for line in changes if line[0] == "+" and f"Dockerfile.{platform}" not in line)

    assert base.startswith(f"ARG PYTHON_IMAGE=docker.io/{platform}/python:")
    assert len([line for line in changes if line[0] == "-"]) == 2  # the base, and the command in the comment
    instructions = [line.split()[0] for line in compilers if not line.startswith(("#", " "))]
    assert instructions == (["ENV", "RUN"] if platform == "arm32v7" else [])


def test_what_changes_often_comes_after_what_takes_long() -> None:
    for platform in PLATFORMS:
        text = "\n".join(lines(platform))
        order = ["requirements/build.txt ", "requirements/module.txt ", "COPY pyproject.toml", "COPY modules"]
        order += ["COPY --from=build /opt/dependencies", "COPY --from=build /opt/module", "ARG VERSION"]
        places = [text.index(words) for words in order]
        assert places == sorted(places)


def test_the_image_sees_no_more_of_the_project_than_it_is_made_of() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}

    assert "*" in ignored
    assert kept >= {"requirements/build.txt", "requirements/module.txt", "modules/sftp/iot", "pyproject.toml"}
    assert not [path for path in kept if path.startswith(("tests", "tools", ".git"))]


def test_every_platform_is_named_for_the_azure_tools() -> None:
    image = json.loads((ROOT / "modules/sftp/module.json").read_text())["image"]
    assert image["tag"]["platforms"] == {name: f"../../Dockerfile.{name}" for name in PLATFORMS}
