"""Files that appear whole or not at all: real disks that fill, real processes that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi import files
from fimi.files import FileInUse, FileLock, sync_folder, whole_file, write_whole

unix = pytest.mark.skipif(os.name != "posix", reason="permissions and limits are a Unix thing")


@contextlib.contextmanager
def disk_with_room_for(size_bytes: int) -> Iterator[None]:
    """A file may not become larger."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@given(st.lists(st.one_of(st.binary(), st.text()), min_size=1), st.booleans())
def test_the_last_content_is_there_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes | str], durable: bool
) -> None:
    folder = tmp_path_factory.mktemp("files")
    for content in contents:
        write_whole(folder / "a [b]*.txt", content, durable=durable)
    last = contents[-1].encode() if isinstance(contents[-1], str) else contents[-1]
    assert (folder / "a [b]*.txt").read_bytes() == last
    assert len(list(folder.iterdir())) == 1


def test_an_exception_while_it_is_written_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, "old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@unix
@pytest.mark.parametrize("old", [b"old", None])
def test_a_full_disk_keeps_the_old_one(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "x"
    if old is not None:
        write_whole(path, old)
    with disk_with_room_for(1000), pytest.raises(OSError, match="File too large"):
        write_whole(path, bytes(2000))
    assert list(tmp_path.iterdir()) == ([] if old is None else [path])
    assert old is None or path.read_bytes() == old


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "gone" / "x", b"")
    assert list(tmp_path.iterdir()) == []


@unix
class TestPermissions:
    def test_a_new_file_is_as_any_new_file(self, tmp_path: Path) -> None:
        (tmp_path / "usual").touch()
        write_whole(tmp_path / "x", b"")
        assert permissions(tmp_path / "x") == permissions(tmp_path / "usual")

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
    def test_those_of_the_file_that_is_replaced_stay(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"old")
        path.chmod(mode)
        write_whole(path, b"new")
        assert permissions(path) == mode

    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o400])
    def test_those_that_are_asked_for(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "x"
        path.touch(0o666)
        write_whole(path, b"new", mode=mode)
        assert permissions(path) == mode

    def test_a_secret_is_never_readable_by_others(self, tmp_path: Path) -> None:
        with whole_file(tmp_path / "secret", mode=0o600) as file:
            (partial,) = tmp_path.iterdir()
            assert permissions(partial) == 0o600
            file.write(b"secret")
        assert permissions(tmp_path / "secret") == 0o600


@unix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to(Path("folder") / "target")  # dangling at first
    for content in (b"one", b"two"):
        write_whole(link, content)
        assert link.is_symlink()
        assert (tmp_path / "folder" / "target").read_bytes() == content


@unix
def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_whole, args=(pipe, "through it"))
    writer.start()
    assert pipe.read_text() == "through it"
    writer.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, b"a" * 100_000)
    over = threading.Event()

    def write() -> None:
        for letter in b"bcdefghij":
            write_whole(path, bytes([letter]) * 100_000, durable=False)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not over.is_set():
        seen = path.read_bytes()
        assert len(seen) == 100_000
        assert len(set(seen)) == 1
    writer.join()


def test_writers_of_the_same_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "x"
    contents = [bytes([letter]) * 50_000 for letter in b"abcdefgh"]
    writers = [threading.Thread(target=write_whole, args=(path, each)) for each in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@unix
def test_killed_while_it_writes_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, b"old")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom fimi.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as file:\n"
        "    file.write(bytes(100_000))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (left,) = set(tmp_path.iterdir()) - {path}
    write_whole(path, b"new")
    assert left.exists()  # another process may be writing it
    os.utime(left, (0, 0))
    write_whole(path, b"newer")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_synced_or_the_error_says_why(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    if os.name == "posix":
        with pytest.raises(FileNotFoundError):
            sync_folder(tmp_path / "none")


@pytest.mark.skipif(sys.platform == "win32", reason="locks are of another kind there")
def test_who_holds_a_lock_is_told_without_taking_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert FileLock.holder(path) == ""
    lock = FileLock(path)
    assert f"process {os.getpid()} on " in FileLock.holder(path)
    lock.release()
    assert FileLock.holder(path) == ""
    path.write_text("left by a process that was killed\n")
    assert FileLock.holder(path) == ""


@unix
def test_who_looks_at_a_lock_does_not_keep_others_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    path = tmp_path / "lock"
    path.write_text("left by a process that was killed\n")
    with path.open() as looks:
        fcntl.flock(looks, fcntl.LOCK_SH)  # as it is while holder() looks
        waited: list[float] = []

        def sleep(duration_s: float) -> None:
            waited.append(duration_s)
            if len(waited) == 3:
                fcntl.flock(looks, fcntl.LOCK_UN)

        monkeypatch.setattr(files.time, "sleep", sleep)
        lock = FileLock(path)
        assert len(waited) == 3 and f"process {os.getpid()} " in FileLock.holder(path)
        with pytest.raises(FileInUse, match=f"process {os.getpid()} "):
            FileLock(path)
        assert len(waited) == 3, "who holds it is not waited for"
        lock.release()
