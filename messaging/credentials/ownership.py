"""Whose the files of a fleet's folder are: the broker has what it reads, and is no root.

The folder belongs to whoever has made it, and the broker runs as that user. If root makes it,

* with ``sudo``, it is given to whoever has called that;
* else the broker runs as ``mosquitto`` (``nobody`` where there is no such user). It owns the files
  that it reads and what it keeps, and enters the folder by its group: authority, bundles and keys
  of updates stay root's;
* where that user cannot come to the folder, as below ``/root``, the broker runs as root, and
  :attr:`Ownership.warning` says so.

Mosquitto warns of files that are not its user's own, and is to refuse them one day: so they are
given to it, and not only readable by its group. It changes to its user before it reads them. Its
configuration stays root's: that is read before, and says as whom it runs and what code it loads.

Whoever runs the broker can put anything into ``state``, as a user into a folder of his own. So root
gives away only what it finds there by open folders, and no file that has another name elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from msgspec import Struct

from fimi.messaging.credentials import settings as conf

ROOT_UID = 0
BROKER_READS = (
    *(conf.CONFIGURATION, conf.RULES, conf.PASSWORDS, conf.REVOKED),
    *("ca.pem", "broker.pem", "broker.key"),
)
"""The files of a folder that the broker reads."""

_UNPRIVILEGED = ("mosquitto", "nobody")
"""As whom a broker of root's runs; the first that there is."""


class Account(Struct, frozen=True, kw_only=True):
    """A user of this machine.

    Attributes:
        name: its name.
        uid: its number.
        gid: number of its first group.
    """

    name: str
    uid: int
    gid: int

    @property
    def groups(self) -> tuple[int, ...]:
        """Numbers of all its groups."""
        return tuple(os.getgrouplist(self.name, self.gid))


class Ownership:
    """Whose the files of a folder are. It changes nothing where this process is not root.

    Args:
        folder: of a fleet; it is there.

    Attributes:
        account: as whom the broker runs; ``None`` where users have no names.
        warning: why it runs as root, and what to do; empty if it does not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = folder.stat().st_uid
        self.warning = ""
        self.account = _account(self._owner)
        if self._owner != ROOT_UID or self.account is None:
            return
        found = next(filter(None, map(_named, _UNPRIVILEGED)), None)
        if found is None:
            self.warning = (
                "the broker runs as root: this machine has no user mosquitto; make one (useradd "
                "--system mosquitto)"
            )
        elif (closed := _closed_to(found, folder)) is not None:
            self.warning = (
                f"the broker runs as root: user {found.name} may not enter {closed}; make the "
                "folder of the fleet where others may enter, as in /var/lib"
            )
        else:
            self.account = found

    def of(self, name: str) -> tuple[int, int] | None:
        """User and group of a file of the folder; ``None``: of this process."""
        if not is_root() or self.account is None:
            return None
        if name == conf.CONFIGURATION:
            return self._owner, self.account.gid
        if name in BROKER_READS:
            return self.account.uid, self.account.gid
        owner = _account(self._owner)
        return (self._owner, 0 if owner is None else owner.gid)

    def mode(self, name: str) -> int:
        """Permissions of a file of the folder."""
        mine = self.of(name)
        by_group = mine is not None and self.account is not None and mine[0] != self.account.uid
        return 0o640 if name == conf.CONFIGURATION and by_group else 0o600

    def settle(self) -> None:
        """Let everything that is there belong to whom it should.

        Raises:
            OSError: the system refuses that.
        """
        if not is_root() or self.account is None:
            return
        user = self.account
        if self._owner != ROOT_UID:  # what root has written in somebody's folder
            _give_all(self._folder, user.uid, user.gid, only_of=ROOT_UID)
            return
        if user.uid == ROOT_UID:
            return
        for name in BROKER_READS:
            if name != conf.CONFIGURATION:
                _give(self._folder / name, user.uid, user.gid)
        kept = self._folder / conf.KEPT
        _give(kept, user.uid, user.gid)
        _give_all(kept, user.uid, user.gid)
        for name, mode in (
            (conf.CONFIGURATION, self.mode(conf.CONFIGURATION)),
            (conf.OWN_LINES, 0o750),
            ("", 0o710),
        ):
            os.chown(self._folder / name, ROOT_UID, user.gid)
            (self._folder / name).chmod(mode)


def is_root() -> bool:
    """Whether this process may give files to others."""
    return hasattr(os, "geteuid") and os.geteuid() == ROOT_UID


def caller_of_sudo(folder: Path) -> Account | None:
    """Who has called sudo, if this process is root by it, and that user can come to the folder."""
    if not is_root():
        return None
    found = _named(os.environ.get("SUDO_USER", ""))
    if found is None or found.uid == ROOT_UID or _closed_to(found, folder) is not None:
        return None
    return found


def _account(uid: int) -> Account | None:
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        row = pwd.getpwuid(uid)
        return Account(name=row.pw_name, uid=row.pw_uid, gid=row.pw_gid)
    return None


def _named(name: str) -> Account | None:
    with contextlib.suppress(ImportError, KeyError):
        import pwd

        row = pwd.getpwnam(name)
        return Account(name=row.pw_name, uid=row.pw_uid, gid=row.pw_gid)
    return None


def _closed_to(account: Account, folder: Path) -> Path | None:
    """The uppermost folder above this one that a user may not enter; ``None`` if it may all."""
    groups = account.groups
    for place in reversed(folder.resolve().parents):
        status = place.stat()
        if status.st_uid == account.uid:
            needed = stat.S_IXUSR
        else:
            needed = stat.S_IXGRP if status.st_gid in groups else stat.S_IXOTH
        if not status.st_mode & needed:
            return place
    return None


def _give(path: Path, uid: int, gid: int) -> None:
    """Give a file, folder or link itself to a user; what is not there is left out."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        if (status.st_uid, status.st_gid) != (uid, gid):
            os.chown(path, uid, gid, follow_symlinks=False)


def _give_all(folder: Path, uid: int, gid: int, *, only_of: int | None = None) -> None:
    """Give everything in a folder to a user, as far as it belongs to ``only_of``."""
    for _, folders, files, handle in os.fwalk(folder):  # which follows no links
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=handle, follow_symlinks=False)
                elsewhere = stat.S_ISREG(status.st_mode) and status.st_nlink > 1
                whose = only_of is None or status.st_uid == only_of
                if whose and not elsewhere and (status.st_uid, status.st_gid) != (uid, gid):
                    os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)
