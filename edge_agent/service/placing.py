"""Files that an installation writes, and what becomes of them when their user has changed them.

:class:`Placing` keeps the digest of each file as it was written. A file that is still so is
replaced; one that was changed since stays, the new one is laid beside it as ``NAME.new``, and that
is said. With ``force`` the changed one is kept as ``NAME.old``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.files import write_whole

RECORD = "etc/fimi/installed.json"


class Installed(Struct, kw_only=True):
    """What an installation has made.

    Attributes:
        files: digest of each file as it was written, by its path below the root.
        folders: folders that were not there before.
        made_user: whether the user was not there before.
    """

    files: dict[str, str] = {}
    folders: list[str] = []
    made_user: bool = False


class Placing:
    """Writes files below a root.

    Args:
        root: root of the file system.
        force: whether changed files are replaced.

    Attributes:
        said: what was done, a line each.
    """

    def __init__(self, root: Path, *, force: bool = False) -> None:
        self._root = root
        self._force = force
        self.said: list[str] = []
        self.record = read_record(root)

    def put(
        self, path: str, text: str | bytes, *, mode: int = 0o644, owner: tuple[int, int] = (0, 0)
    ) -> bool:
        """Write a file, if its user has not changed it.

        Args:
            path: below the root.
            text: its content.
            mode: its permissions.
            owner: user and group, by number.

        Returns:
            Whether the file now has this content.
        """
        data = text.encode() if isinstance(text, str) else text
        target = self._root / path
        known = self.record.files.get(path)
        self.folder(str(Path(path).parent))
        there = target.read_bytes() if target.exists() else None
        if there == data:
            own(target, mode, owner)
            self.record.files[path] = _digest(data)
            _beside(target, ".new").unlink(missing_ok=True)
            return True
        if there is not None and _digest(there) != known:
            if not self._force:
                self._write(_beside(target, ".new"), data, mode, owner)
                self.said.append(
                    f"/{path} was changed by hand and stays; the new one is /{path}.new "
                    "(--force takes it, and keeps the old one)"
                )
                return False
            self._write(_beside(target, ".old"), there, mode, owner)
            self.said.append(f"/{path} is replaced; what was there is /{path}.old")
        else:
            self.said.append(f"/{path} {'written' if there is None else 'replaced'}")
        self._write(target, data, mode, owner)
        _beside(target, ".new").unlink(missing_ok=True)
        self.record.files[path] = _digest(data)
        return True

    def changed(self, path: str) -> bool:
        """Whether a file's user has changed it."""
        target = self._root / path
        return target.exists() and _digest(target.read_bytes()) != self.record.files.get(path)

    def drop(self, path: str) -> None:
        """Remove a file of an earlier installation that is not needed any more."""
        target = self._root / path
        if path in self.record.files and target.exists():
            if self.changed(path) and not self._force:
                self.said.append(f"/{path} is not needed any more; it was changed and stays")
                return
            target.unlink()
            self.said.append(f"/{path} removed")
        self.record.files.pop(path, None)

    def folder(self, path: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> None:
        """Make a folder and those above it."""
        target = self._root / path
        missing = [each for each in (target, *target.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir()
            own(each, 0o755, (0, 0))
            self.record.folders.append(str(each.relative_to(self._root)))
        if missing or mode != 0o755 or owner != (0, 0):
            own(target, mode, owner)

    def close(self) -> None:
        """Keep the record."""
        self.folder(str(Path(RECORD).parent))
        write_whole(self._root / RECORD, msgspec.json.encode(self.record), mode=0o644)

    def _write(self, target: Path, data: bytes, mode: int, owner: tuple[int, int]) -> None:
        target.unlink(missing_ok=True)
        write_whole(target, data, mode=mode & 0o600)
        own(target, mode, owner)


def read_record(root: Path) -> Installed:
    """What the last installation has made; nothing if there was none."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((root / RECORD).read_bytes(), type=Installed)
    return Installed()


def own(path: Path, mode: int, owner: tuple[int, int]) -> None:
    """Set owner and permissions; the owner by root only.

    No link is followed: the agent may own the folder, and would be given what its link names.

    Raises:
        OSError: it is a link, or cannot be changed.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(
                error.errno, "it is a link: put the file itself there", str(path)
            ) from None
        raise
    try:
        if os.geteuid() == 0:
            os.fchown(handle, *owner)
        os.fchmod(handle, mode)
    finally:
        os.close(handle)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
