"""Methods reach the local root and nothing outside it, whatever the path and whoever plants links."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from iot.sftp.client import IsADirectory, LocalName, NotADirectory, NotFound, PathNotAllowed, SFTPError
from iot.sftp.module._work.local_files import LINKS_MAXIMUM, LocalRoot


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    (root / "in" / "deep").mkdir(parents=True)
    (root / "in" / "a.txt").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("outside")
    return root


@pytest.fixture
def local(root: Path) -> LocalRoot:
    return LocalRoot(root, root.parent / "state")


def place_of(name: LocalName) -> Path:
    """Return where a name really is, and close it."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{name.directory}"), name.name)
    finally:
        os.close(name.directory)


def read(local: LocalRoot, path: str) -> str:
    with local.source(path) as descriptor:
        return os.read(descriptor, 100).decode()


def test_relative_paths_start_at_the_root(local: LocalRoot, root: Path) -> None:
    assert read(local, "in/a.txt") == "inside"
    assert place_of(local.open_parent("./in//new.txt", create=False)) == root / "in" / "new.txt"


def test_an_absolute_path_is_taken_if_it_is_under_the_root(local: LocalRoot, root: Path) -> None:
    assert read(local, f"{root}/in/a.txt") == "inside"
    assert place_of(local.open_parent(str(root), create=False)) == root


@pytest.mark.parametrize("path", ["/", "/etc/passwd", "{root}x/a", "{outside}/secret.txt", "//{root}/in/a.txt"])
def test_an_absolute_path_elsewhere_is_refused(local: LocalRoot, root: Path, path: str) -> None:
    with pytest.raises(PathNotAllowed, match="outside"):
        local.open_parent(path.format(root=root, outside=root.parent / "outside"), create=True)


@pytest.mark.parametrize("path", ["..", "../outside/secret.txt", "in/../in/a.txt", "in/..", "{root}/../outside/x"])
def test_two_dots_are_refused_even_where_they_would_stay_inside(local: LocalRoot, root: Path, path: str) -> None:
    with pytest.raises(PathNotAllowed, match=r"\.\."):
        local.open_parent(path.format(root=root), create=True)


@pytest.mark.parametrize(
    "target", ["../outside/secret.txt", "/etc/passwd", "in/../../outside/secret.txt", "/", "..", "in/deep/../../.."]
)
def test_a_link_that_leads_out_is_refused(local: LocalRoot, root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    for path in ("link", "link/x"):
        with pytest.raises(PathNotAllowed, match="outside"):
            local.open_parent(path, create=True)


@pytest.mark.parametrize("target", ["in/a.txt", "in/deep/../a.txt", "{root}/in/a.txt", "./in//a.txt"])
def test_a_link_that_stays_inside_is_followed_to_its_target(local: LocalRoot, root: Path, target: str) -> None:
    (root / "in" / "deep" / "link").symlink_to(
        "../../" + target if not target.startswith("{") else target.format(root=root)
    )
    (root / "dir").symlink_to("in/deep")
    assert read(local, "dir/link") == "inside"
    assert place_of(local.open_parent("dir/link", create=False)) == root / "in" / "a.txt"


def test_a_link_to_a_file_that_is_not_there_names_the_targets_place(local: LocalRoot, root: Path) -> None:
    (root / "link").symlink_to("in/deep/new.txt")
    assert place_of(local.open_parent("link", create=True)) == root / "in" / "deep" / "new.txt"


def test_links_in_a_circle_end(local: LocalRoot, root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    with pytest.raises(SFTPError, match="symbolic link"):
        local.open_parent("one", create=True)


def test_a_chain_of_links_is_followed_as_far_as_the_kernel_does(local: LocalRoot, root: Path) -> None:
    (root / "0").symlink_to("in/a.txt")
    for number in range(1, LINKS_MAXIMUM):
        (root / str(number)).symlink_to(str(number - 1))
    assert read(local, str(LINKS_MAXIMUM - 1)) == "inside"


def test_missing_directories_are_made_when_asked_for(local: LocalRoot, root: Path) -> None:
    assert place_of(local.open_parent("new/er/est/file", create=True)) == root / "new" / "er" / "est" / "file"
    assert place_of(local.open_parent("another/", create=True)) == root / "another"
    with pytest.raises(NotFound):
        local.open_parent("missing/file", create=False)
    assert not (root / "missing").exists()


def test_a_directory_has_no_name(local: LocalRoot) -> None:
    for path in (".", "in", "in/", "in/.", "./"):
        name = local.open_parent(path, create=False)
        os.close(name.directory)
        assert name.name == ""
    with pytest.raises(IsADirectory):
        read(local, "in")


@pytest.mark.parametrize("path", ["in/a.txt/", "in/a.txt/.", "in/a.txt/x"])
def test_a_file_is_no_directory(local: LocalRoot, path: str) -> None:
    with pytest.raises(NotADirectory):
        local.open_parent(path, create=True)


def test_what_no_file_system_takes_is_refused_by_name(local: LocalRoot) -> None:
    with pytest.raises(PathNotAllowed, match="NUL"):
        local.open_parent("a\0b", create=True)
    with pytest.raises(NotFound, match="empty"):
        local.open_parent("", create=True)
    with pytest.raises(PathNotAllowed, match="surrogate"):
        local.open_parent("\ud800", create=True)
    for path in ("x" * 256, "x/" * 50_000):
        with pytest.raises(SFTPError) as caught:
            local.open_parent(path, create=True)
        assert caught.value.code == "path_not_allowed"


def test_names_that_are_not_utf8_are_files_like_others(local: LocalRoot, root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_text("odd")
    assert read(local, "\udcff") == "odd"


def test_a_root_that_is_missing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="mount a directory"):
        LocalRoot(tmp_path / "data", tmp_path / "state").open_parent("a", create=True)


def test_a_root_that_is_a_link_is_the_administrators_choice(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    local = LocalRoot(root.parent / "link", root.parent / "state")
    assert read(local, "in/a.txt") == "inside"
    assert read(local, f"{root}/in/a.txt") == "inside"


@pytest.mark.parametrize("path", ["state", "state/known_hosts", "link/known_hosts", "state/new/"])
def test_the_state_directory_is_out_of_reach_inside_the_root(root: Path, path: str) -> None:
    (root / "state").mkdir()
    (root / "state" / "known_hosts").touch()
    (root / "link").symlink_to("state")
    with pytest.raises(PathNotAllowed, match="state"):
        LocalRoot(root, root / "state").open_parent(path, create=True)


@pytest.mark.parametrize("path", ["a", ".", "new/", "known_hosts"])
def test_nothing_is_reached_where_the_root_is_the_state_directory(root: Path, path: str) -> None:
    (root / "known_hosts").touch()
    (root.parent / "state").symlink_to(root)
    with pytest.raises(PathNotAllowed, match="SFTP_STATE_DIR"):
        LocalRoot(root, root.parent / "state").open_parent(path, create=True)
    with pytest.raises(PathNotAllowed, match="SFTP_STATE_DIR"):
        LocalRoot(root, root.parent / "state").open_directory(path)
    assert sorted(found.name for found in root.iterdir()) == ["in", "known_hosts"]


def test_no_descriptor_is_left_open(local: LocalRoot, root: Path) -> None:
    (root / "out").symlink_to("/etc")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("in/a.txt", "out/x", "in/a.txt/x", "missing/x", "in/deep/" * 3):
        with suppress(SFTPError):
            os.close(local.open_parent(path, create=False).directory)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_keeps_being_swapped_for_a_link_leads_nowhere_else(local: LocalRoot, root: Path) -> None:
    outside = root.parent / "outside"
    (outside / "a.txt").write_text("outside")
    (root / "real").mkdir()
    (root / "real" / "a.txt").write_text("inside")
    (root / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("real", "link"):
                (root / name).rename(root / "way")
                (root / "way").rename(root / name)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(2_000):
            with suppress(SFTPError):
                assert read(local, "way/a.txt") == "inside"
    finally:
        stop.set()
        swapping.join()


PARTS = st.sampled_from(
    ["in", "deep", "a.txt", "out", "up", "abs", "loop", "ok", "", ".", "..", "new", "\0", "~", "\udc80", "é", "x" * 300]
)
PATHS = st.text() | st.lists(PARTS).map("/".join) | st.lists(PARTS).map(lambda parts: "{root}/" + "/".join(parts))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, create=st.booleans())
@example(path="out/secret.txt", create=True)
@example(path="up/up/up/outside/secret.txt", create=True)
@example(path="abs/passwd", create=False)
def test_any_path_at_all_stays_inside_the_root_or_is_refused(root: Path, path: str, create: bool) -> None:
    links = {"out": "../outside", "up": "in/..", "abs": "/etc", "loop": "loop", "ok": "in/deep", "in/up": "../.."}
    for name, target in links.items():
        if not os.path.lexists(root / name):
            (root / name).symlink_to(target)
    before = sorted(os.listdir(root.parent)), sorted(os.listdir(root.parent / "outside"))
    try:
        found = LocalRoot(root, root.parent / "state").open_parent(path.replace("{root}", str(root)), create=create)
    except (PathNotAllowed, NotFound, NotADirectory):
        pass
    else:
        assert "/" not in found.name
        place = place_of(found)
        assert place.parent == root or root in place.parent.parents or place == root
        assert not place.is_symlink()
    assert (sorted(os.listdir(root.parent)), sorted(os.listdir(root.parent / "outside"))) == before


def test_links_that_lead_up_and_down_again_and_again_cost_little(local: LocalRoot, root: Path) -> None:
    """Each `..` has the way from the root walked again: 40 links of 4 KB would take a hundred million steps."""
    deep = root / "/".join(["d"] * 100)
    deep.mkdir(parents=True)
    for number in range(30):
        (deep / f"l{number}").symlink_to("../d/" * 800 + (f"l{number + 1}" if number < 29 else "nothing"))
    started = time.process_time()
    with pytest.raises(PathNotAllowed):
        local.open_parent("/".join(["d"] * 100) + "/l0", create=False)
    assert time.process_time() - started < 1


def test_many_steps_up_at_once_are_one(local: LocalRoot, root: Path) -> None:
    deep = root / "/".join(["d"] * 50)
    deep.mkdir(parents=True)
    (root / "file").write_text("here")
    (deep / "link").symlink_to("../" * 50 + "file")
    assert read(local, "/".join(["d"] * 50) + "/link") == "here"
    (deep / "out").symlink_to("../" * 51 + "file")
    with pytest.raises(PathNotAllowed):
        local.open_parent("/".join(["d"] * 50) + "/out", create=False)


def test_a_listing_of_links_looks_at_its_deadline_at_each_of_them(local: LocalRoot, root: Path) -> None:
    (root / "links").mkdir()
    for number in range(50):
        (root / f"links/{number}").symlink_to("nothing")
    looks: list[int] = []

    def proceed() -> None:
        looks.append(1)
        if len(looks) == 10:
            raise KeyError

    with pytest.raises(KeyError):
        list(local.entries("links", proceed))
