"""Files of root's, below the root of a system: nobody else can put anything in their way.

What root reads decides what the agent is granted, and what root writes may go anywhere. So every
folder on the way to such a file must be root's, and writable for root only (:class:`NotRootsError`
names the one that is not). Folders are held open while one is in them and each name is looked up in
the folder above it: what is checked is what is used. A file is made beside its place, closed for
all others, and then takes the name: nothing that stands there already is written to.

Links on the way are followed as the system itself would (``/etc/fimi`` may lie on another disk),
but never out of the root: below the root of a mounted card an absolute link leads into the card.
A file that is a link is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from fimi.errors import SurroundingsError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS = 40


class NotRootsError(SurroundingsError):
    """Somebody else can change a file or a folder that root relies on."""

    code = "F010"


class Roots:
    """The files below a root.

    Args:
        root: root of the file system. Who is not root is taken for the root of what he owns: so an
            image can be made by anybody.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def folder(self, path: str, make: Callable[[str], None] | None = None) -> Iterator[int]:
        """A handle of a folder, by its path below the root.

        Args:
            path: of the folder.
            make: called with the path of each folder that was missing and is made; ``None``: none
                is made.

        Raises:
            NotRootsError: others can write there, or on the way.
            OSError: it is not there, or is no folder.
        """
        # The folders from the root down, open, by their names.
        way: list[tuple[str, int]] = []
        try:
            way.append(("", os.open(self.root, _FOLDER)))
            self._check(way[-1][1], "")
            names, links = _names(path), 0
            while names:
                name = names.pop()
                above, handle = way[-1]
                if name == "..":
                    if len(way) > 1:
                        os.close(way.pop()[1])
                    continue
                here = f"{above}/{name}"
                try:
                    if make is not None and not _there(name, handle):
                        _make(name, handle)
                        make(here.lstrip("/"))
                    way.append((here, os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)))
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                        raise OSError(error.errno, error.strerror, str(self._full(here))) from None
                    to = self._link(name, handle, here)
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(
                            errno.ELOOP, os.strerror(errno.ELOOP), str(self._full(here))
                        ) from None
                    if to.startswith("/"):
                        while len(way) > 1:
                            os.close(way.pop()[1])
                    names += _names(to)
                    continue
                self._check(way[-1][1], here)
            yield way[-1][1]
        finally:
            for _, handle in way:
                os.close(handle)

    def read(self, path: str) -> bytes | None:
        """A file's content; ``None`` if it is not there.

        Raises:
            NotRootsError: somebody else can change it.
            OSError: it is a link or no file, or cannot be read.
        """
        with contextlib.suppress(FileNotFoundError), self._opened(path) as handle:
            self._check(handle, f"/{path}")
            with os.fdopen(os.dup(handle), "rb") as file:
                return file.read()
        return None

    def write(self, path: str, data: bytes, mode: int, owner: tuple[int, int] = (0, 0)) -> None:
        """Put a file in place, whole or not at all; its folder must be there.

        Args:
            path: below the root.
            data: its content.
            mode: its permissions.
            owner: user and group, by number; set by root only.

        Raises:
            NotRootsError: others can write into its folder.
            OSError: it cannot be written; what was there before is untouched.
        """
        with self.folder(_above(path)) as folder:
            write_in(folder, Path(path).name, data, mode, owner)

    def own(self, path: str, mode: int, owner: tuple[int, int] = (0, 0)) -> None:
        """Set a file's permissions, and its owner (by root only).

        Raises:
            NotRootsError, OSError: as :meth:`read`, or it is not there.
        """
        with self._opened(path) as handle:
            _own(handle, mode, owner)

    def remove(self, path: str) -> bool:
        """Remove a file or a link; returns whether one was there.

        Raises:
            NotRootsError: others can write into its folder.
            OSError: it cannot be removed.
        """
        try:
            with self.folder(_above(path)) as folder:
                os.unlink(Path(path).name, dir_fd=folder)
        except FileNotFoundError:
            return False
        return True

    def link(self, path: str, to: str) -> None:
        """Put a link in place, if there is none.

        Raises:
            NotRootsError: others can write into its folder.
            OSError: it cannot be made.
        """
        with self.folder(_above(path)) as folder:
            name = Path(path).name
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    return
            os.symlink(to, name, dir_fd=folder)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        """A regular file, open for reading."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self.folder(_above(path)) as folder:
            try:
                handle = os.open(Path(path).name, flags, dir_fd=folder)
            except OSError as error:
                why = "it is a link: put the file itself there"
                said = why if error.errno == errno.ELOOP else error.strerror
                raise OSError(error.errno, said, str(self._full(path))) from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "it is no file", str(self._full(path)))
            yield handle
        finally:
            os.close(handle)

    def _check(self, handle: int, path: str) -> None:
        """Refuse what others can write.

        Raises:
            NotRootsError: they can.
        """
        found, self_id = os.fstat(handle), os.geteuid()
        full = self._full(path)
        if found.st_uid not in (0, self_id):
            raise NotRootsError(
                f"{full} belongs to user {found.st_uid}, and root relies on what is in it: see "
                f"whether it is as it should be, then: sudo chown root: {full}"
            )
        if self_id == 0 and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotRootsError(
                f"{full} is writable for others than root (mode {stat.S_IMODE(found.st_mode):o}), "
                "and root relies on what is in it: see whether it is as it should be, then: sudo "
                f"chmod go-w {full}"
            )

    def _link(self, name: str, folder: int, path: str) -> str:
        """Where a link leads; only root can have made it, since the folder is root's.

        Raises:
            OSError: it is no link, and no folder either.
        """
        try:
            return os.readlink(name, dir_fd=folder)
        except OSError:
            full = str(self._full(path))
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), full) from None

    def _full(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def write_in(folder: int, name: str, data: bytes, mode: int, owner: tuple[int, int]) -> None:
    """Put a file into an open folder, whole or not at all.

    Whatever has its name is replaced and not written to, a link included; even where others can
    write into the folder, they can have no more than the name.

    Args:
        folder: handle of the folder.
        name: of the file.
        data: its content.
        mode: its permissions.
        owner: user and group, by number; set by root only.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    part = part_name(name)
    with contextlib.suppress(FileNotFoundError):  # of an installation that was killed
        os.unlink(part, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(part, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            _own(file.fileno(), mode, owner)
            os.fsync(file.fileno())
        os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part, dir_fd=folder)
        raise
    with contextlib.suppress(OSError):  # some file systems do not know it
        os.fsync(folder)


def part_name(name: str) -> str:
    """Name of a file while it is written."""
    return f".{name}.part"


def own_kernel_file(path: Path, mode: int, owner: tuple[int, int]) -> None:
    """Set owner and permissions of a file of the kernel's; the owner by root only.

    Raises:
        OSError: it is a link, or cannot be changed.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _own(handle, mode, owner)
    finally:
        os.close(handle)


def _own(handle: int, mode: int, owner: tuple[int, int]) -> None:
    if os.geteuid() == 0:
        os.fchown(handle, *owner)
    os.fchmod(handle, mode)  # after the owner: a new one takes bits away


def _above(path: str) -> str:
    return str(Path(path).parent)


def _names(path: str) -> list[str]:
    """The names of a path, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make(name: str, folder: int) -> None:
    """Make a folder of root's that everybody may enter, whatever the umask."""
    os.mkdir(name, 0o700, dir_fd=folder)
    handle = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    try:
        _own(handle, 0o755, (0, 0))
    finally:
        os.close(handle)
