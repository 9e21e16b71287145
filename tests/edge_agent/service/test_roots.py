"""Files of root's against somebody who owns a folder on the way: nothing is lost to him."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fimi.edge_agent.service.roots import NotRootsError, Roots, part_name, write_in

ATTACKER = 4711
SECRET = b"of root, and as long as what is written elsewhere"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to others")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A system that everybody may look into, with a file that is root's alone."""
    place = tmp_path / "system"
    (place / "etc/fimi").mkdir(parents=True)
    (place / "etc/shadow").write_bytes(SECRET)
    (place / "etc/shadow").chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents[:-1]):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o711)
    return place


@contextlib.contextmanager
def attacked(what: Callable[[], None]) -> Iterator[None]:
    """A process of another user does something again and again, as fast as it can."""
    ready, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(ATTACKER)
            os.setuid(ATTACKER)
            os.write(writer, b".")
            while True:
                with contextlib.suppress(OSError):
                    what()
        finally:
            os._exit(1)
    try:
        assert os.read(ready, 1) == b"."
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(writer)


def unharmed(system: Path) -> None:
    secret = system / "etc/shadow"
    kept = secret.stat()
    assert secret.read_bytes() == SECRET
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (0, 0, 0o600)


def handles_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def swapper(folder: Path, name: str, to: Path) -> Callable[[], None]:
    """Puts now a file and now a link under a name, and under the one that root writes beside it."""
    target, link, part = folder / name, folder / "link", folder / part_name(name)

    def swap() -> None:
        link.unlink(missing_ok=True)
        link.symlink_to(to)
        link.replace(target)
        with contextlib.suppress(OSError):
            part.symlink_to(to)
        target.unlink()
        target.write_bytes(b"harmless")

    return swap


@needs_root
def test_a_name_that_is_swapped_while_root_writes(system: Path) -> None:
    """Below the check of folders: what is written lands under the name, or not at all."""
    folder = system / "etc/fimi/profile"
    folder.mkdir()
    os.chown(folder, ATTACKER, ATTACKER)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    won = written = 0
    try:
        with attacked(swapper(folder, "board.toml", system / "etc/shadow")):
            until_s = time.monotonic() + 0.5
            while time.monotonic() < until_s or not (won and written):
                try:
                    write_in(handle, "board.toml", b"of root", 0o644, (0, 0))
                    written += 1
                except OSError:  # the attacker had the name first
                    won += 1
                unharmed(system)
    finally:
        os.close(handle)


@needs_root
def test_root_neither_writes_nor_reads_where_others_can_write(system: Path) -> None:
    folder = system / "etc/fimi/profile"
    folder.mkdir()
    (folder / "board.toml").write_bytes(b"as installed")
    os.chown(folder, ATTACKER, ATTACKER)
    roots, path = Roots(system), "etc/fimi/profile/board.toml"
    attempts: list[Callable[[], object]] = [
        lambda: roots.read(path),
        lambda: roots.write(path, b"of root", 0o644),
        lambda: roots.own(path, 0o644),
        lambda: roots.remove(path),
        lambda: roots.link(path, "/etc/shadow"),
    ]
    with attacked(swapper(folder, "board.toml", system / "etc/shadow")):
        for attempt in attempts * 20:
            with pytest.raises(NotRootsError, match=f"profile belongs to user {ATTACKER}"):
                attempt()
    unharmed(system)


@needs_root
def test_a_folder_that_is_swapped_while_root_walks(system: Path) -> None:
    """Whoever owns a folder on the way may put a link into it: root does not go there."""
    home = system / "home"
    (home / "etc").mkdir(parents=True)
    (home / "etc/shadow").write_bytes(b"harmless")
    os.chown(home, ATTACKER, ATTACKER)
    aside = home / "aside"

    def swap() -> None:
        (home / "etc").rename(aside)
        (home / "etc").symlink_to(system / "etc")
        (home / "etc").unlink()
        aside.rename(home / "etc")

    with attacked(swap):
        for _ in range(200):
            with pytest.raises(NotRootsError):
                Roots(system).write("home/etc/shadow", b"of root", 0o644)
    unharmed(system)


@needs_root
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_into(system: Path, mode: int) -> None:
    (system / "etc/fimi").chmod(mode)
    with pytest.raises(NotRootsError, match=f"mode {mode:o}.*chmod go-w .*/etc/fimi"):
        Roots(system).read("etc/fimi/agent.toml")


@needs_root
def test_a_file_of_others_and_no_file_at_all(system: Path) -> None:
    roots, file = Roots(system), system / "etc/fimi/agent.toml"
    assert roots.read("etc/fimi/agent.toml") is None
    file.write_text("x = 1")
    assert roots.read("etc/fimi/agent.toml") == b"x = 1"
    os.chown(file, ATTACKER, 0)
    with pytest.raises(NotRootsError, match=rf"agent\.toml belongs to user {ATTACKER}"):
        roots.read("etc/fimi/agent.toml")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(OSError, match="it is no file"):
        roots.read("etc/fimi/agent.toml")
    file.unlink()
    file.symlink_to("/etc/shadow")
    with pytest.raises(OSError, match="it is a link"):
        roots.read("etc/fimi/agent.toml")
    roots.write("etc/fimi/agent.toml", b"new", 0o640, (0, ATTACKER))
    assert not file.is_symlink() and file.read_bytes() == b"new"
    kept = file.stat()
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (0, ATTACKER, 0o640)
    assert [each.name for each in file.parent.iterdir()] == ["agent.toml"]


@pytest.mark.parametrize("to", ["/data/fimi", "../data/fimi", "../../../../../data/fimi"])
def test_links_of_roots_own_lead_into_the_card_and_not_out_of_it(tmp_path: Path, to: str) -> None:
    card = tmp_path / "card"
    (card / "data/fimi").mkdir(parents=True)
    (card / "etc").mkdir()
    (card / "etc/fimi").symlink_to(to)
    roots, made = Roots(card), list[str]()
    with roots.folder("etc/fimi/profile", make=made.append):
        pass
    roots.write("etc/fimi/profile/board.toml", b"x", 0o644)
    assert (card / "data/fimi/profile/board.toml").read_bytes() == b"x"
    assert made == ["data/fimi/profile"]
    assert not Path("/data/fimi").exists()


def test_links_in_a_circle_and_files_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "file").write_text("x")
    handles = handles_open()
    with pytest.raises(OSError, match="symbolic links"):
        Roots(tmp_path).read("a/x")
    with pytest.raises(NotADirectoryError, match="file"):
        Roots(tmp_path).read("file/x")
    with pytest.raises(FileNotFoundError):
        Roots(tmp_path).write("nowhere/x", b"", 0o644)
    assert not Roots(tmp_path).remove("nowhere/x")
    assert handles_open() == handles


def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = Roots(tmp_path)
    roots.write("x", b"before", 0o644)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        roots.write("x", b"after", 0o644)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("x", b"before")]
