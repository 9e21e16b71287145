"""The versions of an agent that came over the broker: taken over, tried, kept, or left again.

They lie in a folder that belongs to root, which the agent only reads::

    trust.json       fleet and public key whose updates are accepted; 'fimi agent install' writes it
    current          link to the version in force; none: the one that was installed by hand
    0.2.0-3fa9…/     a version: its package, and what its wheel says of itself
    last.json        serial of the last release that was taken over
    trial.json       the version that has to report, and the one before it
    outcome.json     what became of the last update, in words

The agent leaves what it has received in a folder of its own in memory (``/run/fimi/update``)::

    release.json     the signed release
    wheel            what has come of the wheel
    reported         the version that has reported to the broker

:meth:`Versions.switch` runs as root before every start, :meth:`Versions.confirm` behind it. Both
are of the version that was installed by hand, so that no update can spoil the way back. A version
that has not reported within :data:`TRIAL_S`, or ends before it has, is left for the one before.
What root reads of the agent's folder it reads once, with a limit, follows no link, and checks
again.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from fimi.edge_agent.service.release import (
    MAX_WHEEL_BYTES,
    Release,
    SignedRelease,
    UpdateError,
    check_newer,
    check_wheel,
    unpack,
    verified,
)
from fimi.files import write_whole
from fimi.sources import version

TRIAL_S = 60.0
"""Within this a new version reports to the broker, s."""

EXIT_UPDATE = 75
"""Exit code of an agent that makes room for an update."""

_LOOK_AGAIN_S = 0.2
_MAX_STATEMENT_BYTES = 16 << 10


class Trust(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose updates are accepted: name of the fleet, public key (32 bytes as base64)."""

    fleet: str
    update_key: str


class LastRelease(Struct, frozen=True, kw_only=True):
    """The last release that was taken over here, by its serial."""

    serial: int = 0


class VersionTrial(Struct, frozen=True, kw_only=True):
    """A version on trial, and the one before; empty: the one that was installed by hand."""

    version: str
    before: str = ""


class UpdateOutcome(Struct, frozen=True, kw_only=True):
    """What became of the last update, and in words.

    Attributes:
        what: ``trial``, ``installed``, ``returned`` or ``refused``.
        words: a sentence.
    """

    what: str
    words: str

    @property
    def stays(self) -> bool:
        """Whether the board is in the version that was sent, and stays there."""
        return self.what == "installed"


_Kept = TypeVar("_Kept", Trust, LastRelease, VersionTrial, UpdateOutcome)


def spool_folder() -> Path:
    """The agent's folder for what it has received; the service manager names it."""
    return Path(os.environ.get("RUNTIME_DIRECTORY") or "/run/fimi") / "update"


class Versions:
    """The versions of the agent of this machine.

    Args:
        folder: where they are.
        spool: the agent's own folder.
    """

    def __init__(self, folder: Path, spool: Path) -> None:
        self.folder, self.spool = folder, spool

    @property
    def current(self) -> str:
        """Name of the version in force; empty: the one that was installed by hand."""
        link = self.folder / "current"
        return str(link.readlink()) if link.is_symlink() else ""

    @property
    def version(self) -> str:
        """The version of fimi in force; empty if unknown."""
        return self.current.rpartition("-")[0] or version()

    @property
    def trial(self) -> VersionTrial | None:
        """The version on trial."""
        return self._read("trial.json", VersionTrial)

    @property
    def outcome(self) -> UpdateOutcome | None:
        """What became of the last update."""
        return self._read("outcome.json", UpdateOutcome)

    def trust(self) -> Trust:
        """Whose updates are accepted.

        Raises:
            UpdateError: nobody's.
        """
        trust = self._read("trust.json", Trust)
        if trust is None or not trust.update_key:
            raise UpdateError(
                "this board knows no key for updates: enroll it in a fleet that has one, and run "
                "'fimi agent install --bundle FILE --allow update' again"
            )
        return trust

    def acceptable(self, signed: SignedRelease) -> Release:
        """What a signed release says, if it may be taken over here.

        Raises:
            UpdateError: it may not; says why.
        """
        trust = self.trust()
        release = verified(signed, trust.update_key, trust.fleet)
        last = self._read("last.json", LastRelease) or LastRelease()
        check_newer(release, last.serial, self.version)
        return release

    # As root, before and behind the start of an agent.

    def switch(self) -> UpdateOutcome | None:
        """Go back from a version that has not reported; take over an update that has come.

        Returns:
            What was done; ``None``: nothing was to be done.
        """
        done = None
        if (trial := self.trial) is not None:
            done = self._end(trial) if self._has_reported(trial) else self._go_back(trial)
        spool = _Foreign(self.spool)
        if spool.has("release.json"):
            try:
                done = self._take_over(spool)
            except (UpdateError, OSError, msgspec.DecodeError) as error:
                done = self._tell("refused", f"the update is not taken over: {error}")
            spool.clear("release.json", "wheel", "reported")
        return done

    def confirm(self, wait_s: float = TRIAL_S) -> bool:
        """Wait until the version on trial has reported; returns whether it has, or none is."""
        if (trial := self.trial) is None:
            return True
        until_s = time.monotonic() + wait_s
        while not self._has_reported(trial):
            if time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_AGAIN_S)
        self._end(trial)
        return True

    def _take_over(self, spool: _Foreign) -> UpdateOutcome:
        signed = msgspec.json.decode(
            spool.read("release.json", _MAX_STATEMENT_BYTES), type=SignedRelease
        )
        release = self.acceptable(signed)
        wheel = spool.read("wheel", MAX_WHEEL_BYTES)
        check_wheel(wheel, release)
        target = self.folder / release.name
        if not target.exists():
            made = self.folder / f".{release.name}.part"
            shutil.rmtree(made, ignore_errors=True)
            try:
                unpack(wheel, made)
                compileall.compile_dir(made, quiet=2, workers=1)
                for each in (made, *made.rglob("*")):
                    each.chmod(0o755 if each.is_dir() else 0o644)
                made.rename(target)
            finally:
                shutil.rmtree(made, ignore_errors=True)
        os.sync()  # a version that is not whole on the disk must not come into force
        before = self.current
        self._write("last.json", LastRelease(serial=release.serial))
        self._write("trial.json", VersionTrial(version=release.name, before=before))
        self._point_to(release.name)
        return self._tell(
            "trial", f"version {release.name} is tried: it has {TRIAL_S:.0f} s to report"
        )

    def _end(self, trial: VersionTrial) -> UpdateOutcome:
        """A version has passed its trial; those that are neither it nor the one before go."""
        done = self._tell("installed", f"version {trial.version} has reported and stays")
        (self.folder / "trial.json").unlink(missing_ok=True)
        for each in self.folder.iterdir():
            kept = each.name in (trial.version, trial.before)
            if each.is_dir() and not each.is_symlink() and not kept:
                shutil.rmtree(each, ignore_errors=True)
        return done

    def _go_back(self, trial: VersionTrial) -> UpdateOutcome:
        self._point_to(trial.before)
        to = f"version {trial.before}" if trial.before else "the version that was installed by hand"
        done = self._tell(
            "returned",
            f"version {trial.version} has not reported within {TRIAL_S:.0f} s, or has ended "
            f"before: the board is back at {to}",
        )
        (self.folder / "trial.json").unlink(missing_ok=True)
        if trial.version != trial.before:
            shutil.rmtree(self.folder / trial.version, ignore_errors=True)
        return done

    def _has_reported(self, trial: VersionTrial) -> bool:
        try:
            return _Foreign(self.spool).read("reported", 256).decode() == trial.version
        except (OSError, UpdateError, UnicodeDecodeError):
            return False

    def _point_to(self, name: str) -> None:
        """Let a version be in force; empty: the one that was installed by hand."""
        link = self.folder / "current"
        if not name:
            link.unlink(missing_ok=True)
            return
        second = self.folder / ".current.part"
        second.unlink(missing_ok=True)
        second.symlink_to(name)
        second.replace(link)

    def _tell(self, what: str, words: str) -> UpdateOutcome:
        outcome = UpdateOutcome(what=what, words=words)
        self._write("outcome.json", outcome)
        return outcome

    def _read(self, name: str, kind: type[_Kept]) -> _Kept | None:
        """A file of root's; ``None`` if there is none or it is damaged."""
        try:
            return msgspec.json.decode((self.folder / name).read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError):
            return None

    def _write(self, name: str, body: Struct) -> None:
        write_whole(self.folder / name, msgspec.json.encode(body), mode=0o644)


def write_trust(folder: Path, trust: Trust) -> None:
    """Note whose updates are accepted."""
    write_whole(folder / "trust.json", msgspec.json.encode(trust), mode=0o644)


class _Foreign:
    """The agent's folder, as root looks into it: nothing in it is trusted, and no link followed.

    Args:
        folder: where it is; its parent belongs to the service manager.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)

    def has(self, name: str) -> bool:
        """Whether something of that name is there."""
        try:
            with self._opened() as folder:
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        return True

    def read(self, name: str, limit: int) -> bytes:
        """A regular file of at most so many bytes.

        Raises:
            UpdateError: it is none.
            OSError: it cannot be read.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self._opened() as folder, os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UpdateError(f"{self._folder / name} is no file")
            data = file.read(limit + 1)
        if len(data) > limit:
            raise UpdateError(f"{self._folder / name} has more than {limit} B")
        return data

    def clear(self, *names: str) -> None:
        """Remove files."""
        with contextlib.suppress(OSError), self._opened() as folder:
            for name in names:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=folder)
