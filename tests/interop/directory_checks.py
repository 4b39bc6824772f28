"""The checks of the matrix with directories, and with small contents that are no file on this side."""

from __future__ import annotations

import os
from functools import partial

from tests.interop.checks import LIMIT, MODIFIED, OTHER_BYTES, Target, check, refused, sftp_lists, sftp_of_size
from tests.interop.peers import PeerFailed

from iot.sftp.client import PermissionDenied, SFTPSession


def _sftp_makes_directories(target: Target) -> None:
    # In a drop box, where nothing can be looked at, a second call cannot know that it is there already
    target.openssh.run(f"mkdir {target.remote('a')}", f"mkdir {target.remote('a/b')}", f"ls {target.remote('a')}")
    if not target.on_disk("a/b").is_dir():
        raise PeerFailed("it makes none")


@check(_sftp_makes_directories, slow=True)
def makes_a_directory_with_its_parents(target: Target) -> None:
    target.write(target.on_disk("file"), 5)
    with target.session() as session:
        for _ in range(2):
            session.create_directory(target.remote("a/b/c"), timeout=LIMIT)
            assert target.on_disk("a/b/c").is_dir()
        for name in ("file", "file/below"):
            refused("not_a_directory", partial(session.create_directory, target.remote(name), timeout=LIMIT))


def _tree(target: Target) -> None:
    target.write(target.on_disk("kept/precious"), 5)
    for name in ("file", "-rf", "a/b/c/deep", "a/other"):
        target.write(target.on_disk("tree") / name, 5)
    target.on_disk("tree/empty").mkdir()
    target.on_disk("tree/link").symlink_to("../kept")
    target.on_disk("tree/dead").symlink_to("nowhere")


def _sftp_deletes_directories(target: Target) -> None:
    target.write(target.on_disk("tree/a/file"), 5)
    target.on_disk("kept").mkdir(exist_ok=True)
    target.on_disk("tree/link").symlink_to("../kept")
    target.on_disk("tree/dead").symlink_to("nowhere")
    tree = target.remote("tree")
    # By patterns, as it has to find them: MySecureShell lists no link that leads nowhere
    steps = f"rm {tree}/a/file", f"rm {tree}/l*", f"rm {tree}/d*", f"rmdir {tree}/a", f"rmdir {tree}"
    target.openssh.run(*steps)


@check(_sftp_deletes_directories)
def deletes_a_directory_with_all_that_is_in_it(target: Target) -> None:
    _tree(target)
    tree = target.remote("tree")
    with target.session() as session:
        refused("not_empty", lambda: session.delete_directory(tree, timeout=LIMIT))
        refused("not_a_directory", lambda: session.delete_directory(f"{tree}/file", recursive=True, timeout=LIMIT))
        session.delete_directory(f"{tree}/empty", timeout=LIMIT)
        session.delete_directory(tree, recursive=True, timeout=LIMIT)
        assert not target.on_disk("tree").exists()
        for recursive in (True, False):
            refused("not_found", partial(session.delete_directory, tree, recursive=recursive, timeout=LIMIT))
        for root in (".", "/", f"{target.folder}/.."):
            refused("path_not_allowed", partial(session.delete_directory, root, recursive=True, timeout=LIMIT))
    assert target.on_disk("kept/precious").exists()


def _sftp_moves_directories(target: Target) -> None:
    target.write(target.on_disk("source/file"), 5)
    move = f"rename {target.remote('source')} {target.remote('new/dest')}"
    target.openssh.run(f"mkdir {target.remote('new')}", move, f"ls {target.remote('new')}")
    if not target.on_disk("new/dest/file").exists():
        raise PeerFailed("it moves nothing")


@check(_sftp_moves_directories, slow=True)
def moves_a_directory_to_where_nothing_is(target: Target) -> None:
    for name in ("source/file", "taken/file", "file"):
        target.write(target.on_disk(name), 5)
    source, dest = target.remote("source"), target.remote("new/folder/dest")
    with target.session() as session:
        for name in ("taken", "file"):
            refused("already_exists", partial(session.move_directory, source, target.remote(name), timeout=LIMIT))
        refused("not_a_directory", lambda: session.move_directory(target.remote("file"), dest, timeout=LIMIT))
        refused("invalid_request", lambda: session.move_directory(source, f"{source}/inside", timeout=LIMIT))
        session.move_directory(source, dest, timeout=LIMIT)
        refused("not_found", lambda: session.move_directory(source, target.remote("x"), timeout=LIMIT))
    assert target.on_disk("new/folder/dest/file").exists()
    assert not target.on_disk("source").exists()


def _nothing_is_below_a_file(target: Target, session: SFTPSession) -> None:
    """Look below a file: not every server says that nothing is there, and none may say that something is."""
    try:
        below = session.stat(target.remote("b file/below"), timeout=LIMIT)
    except PermissionDenied as error:  # FAILURE: lsh
        target.notes.append(f"below a file: {error.code}")
        return
    if below is not None:  # attributes of which none is set: Erlang's ssh_sftpd
        assert below.kind is None, below
        target.notes.append("below a file: something without attributes")


@check(sftp_lists)
def describes_everything_in_a_directory(target: Target) -> None:
    target.write(target.on_disk("b file"), 1234)
    os.utime(target.on_disk("b file"), (MODIFIED, MODIFIED))
    target.on_disk("folder").mkdir()
    target.on_disk("a link").symlink_to("folder")
    with target.session() as session:
        listed = session.list_directory(target.folder, timeout=LIMIT)
        found = {entry.path: entry for entry in listed}
        file, folder = found[target.remote("b file")], found[target.remote("folder")]
        assert (file.kind, file.size, file.modified) == ("file", 1234, MODIFIED), file
        assert folder.kind == "directory", folder
        assert [entry.path for entry in listed] == sorted(found)
        page = session.list_directory(target.folder, limit=1, after=target.remote("b file"), timeout=LIMIT)
        assert [entry.path for entry in page] == [target.remote("folder")], page
        assert session.stat(target.remote("b file"), timeout=LIMIT) == file
        told = session.stat(target.remote("folder"), timeout=LIMIT)
        assert told is not None, "the folder is not there"
        assert told.kind == "directory", told
        assert session.stat(target.remote("missing"), timeout=LIMIT) is None
        _nothing_is_below_a_file(target, session)
        refused("not_found", lambda: session.list_directory(target.remote("missing"), timeout=LIMIT))
        refused("not_a_directory", lambda: session.list_directory(target.remote("b file"), timeout=LIMIT))


@check(sftp_of_size(10_000), slow=True)
def reads_and_writes_small_contents(target: Target) -> None:
    target.on_disk("folder").mkdir()
    with target.session() as session:
        for content in (b"", b"first", os.urandom(60_000), b"last"):
            session.write_file(target.remote("new/content"), content, timeout=LIMIT)
            written = target.write(target.local("written"), 0)
            written.write_bytes(content)
            target.same(target.on_disk("new/content"), written)
            assert session.read_file(target.remote("new/content"), timeout=LIMIT).content == content, OTHER_BYTES
        refused("too_large", lambda: session.read_file(target.remote("new/content"), longest=3, timeout=LIMIT))
        refused("not_found", lambda: session.read_file(target.remote("missing"), timeout=LIMIT))
        for call in (session.read_file, partial(session.write_file, content=b"no")):
            refused("is_a_directory", partial(call, target.remote("folder"), timeout=LIMIT))
    target.nothing_left(target.on_disk("new"))
