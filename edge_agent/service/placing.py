"""Files that an installation writes, and what becomes of them when their user has changed them.

:class:`Placing` keeps the digest of each file as it was written. A file that is still so is
replaced; one that was changed since stays, the new one is laid beside it as ``NAME.new``, and that
is said. With ``force`` the changed one is kept as ``NAME.old``. Files are read and written by
:class:`~fimi.edge_agent.service.roots.Roots`: nobody but root can have had a hand in them.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.edge_agent.service.roots import Roots

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

    Raises:
        NotRootsError: somebody else can change the record of the last installation.
    """

    def __init__(self, root: Path, *, force: bool = False) -> None:
        self._roots = Roots(root)
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

        Raises:
            NotRootsError: somebody else can change it.
            OSError: it is a link, or cannot be written.
        """
        data = text.encode() if isinstance(text, str) else text
        known = self.record.files.get(path)
        self.folder(str(Path(path).parent))
        there = self._roots.read(path)
        if there == data:
            self._roots.own(path, mode, owner)
            self.record.files[path] = _digest(data)
            self._roots.remove(path + ".new")
            return True
        if there is not None and _digest(there) != known:
            if not self._force:
                self._roots.write(path + ".new", data, mode, owner)
                self.said.append(
                    f"/{path} was changed by hand and stays; the new one is /{path}.new "
                    "(--force takes it, and keeps the old one)"
                )
                return False
            self._roots.write(path + ".old", there, mode, owner)
            self.said.append(f"/{path} is replaced; what was there is /{path}.old")
        else:
            self.said.append(f"/{path} {'written' if there is None else 'replaced'}")
        self._roots.write(path, data, mode, owner)
        self._roots.remove(path + ".new")
        self.record.files[path] = _digest(data)
        return True

    def changed(self, path: str) -> bool:
        """Whether a file's user has changed it."""
        there = self._roots.read(path)
        return there is not None and _digest(there) != self.record.files.get(path)

    def drop(self, path: str) -> None:
        """Remove a file of an earlier installation that is not needed any more."""
        if path in self.record.files:
            if self.changed(path) and not self._force:
                self.said.append(f"/{path} is not needed any more; it was changed and stays")
                return
            if self._roots.remove(path):
                self.said.append(f"/{path} removed")
        self.record.files.pop(path, None)

    def folder(self, path: str) -> None:
        """Make a folder of root's and those above it."""
        with self._roots.folder(path, make=self.record.folders.append):
            pass

    def link(self, path: str, to: str) -> None:
        """Put a link in place, if there is none."""
        self.folder(str(Path(path).parent))
        self._roots.link(path, to)

    def close(self) -> None:
        """Keep the record."""
        self.folder(str(Path(RECORD).parent))
        self._roots.write(RECORD, msgspec.json.encode(self.record), 0o644)


def read_record(root: Path) -> Installed:
    """What the last installation has made; nothing if there was none.

    Raises:
        NotRootsError: somebody else can change it.
    """
    with contextlib.suppress(OSError, msgspec.DecodeError):
        if (data := Roots(root).read(RECORD)) is not None:
            return msgspec.json.decode(data, type=Installed)
    return Installed()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
