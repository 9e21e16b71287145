"""How a board receives a signed update: piece by piece, into memory, checked before and after.

A console offers a release; only one that this board would take over is received at all
(:meth:`Receiving.offer`), and no more bytes of it than were signed (:meth:`Receiving.add`). What
has come stays when the agent or the console starts again, so that only the rest is sent.
:meth:`Receiving.complete` checks the whole of it and leaves it for the next start
(:mod:`fimi.edge_agent.service.versions`), which alone brings it into force.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import shutil
from pathlib import Path

import msgspec

from fimi.edge_agent.service.release import (
    MAX_WHEEL_BYTES,
    Release,
    SignedRelease,
    UpdateError,
    check_wheel,
)
from fimi.edge_agent.service.versions import Versions
from fimi.files import write_whole


class Receiving:
    """Updates on their way to this board. For one thread.

    Args:
        versions: of this machine.
    """

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._wheel = versions.spool / "wheel"
        self._signed: SignedRelease | None = None
        self._release: Release | None = None

    def offer(self, signed: SignedRelease) -> int:
        """Begin to receive a release, or go on; returns how many bytes of it are here.

        Raises:
            UpdateError: this board would not take it over, or has no room for it.
        """
        release = self._versions.acceptable(signed)
        self._spool()
        mark = self._versions.spool / "receiving"
        if _text(mark) != release.sha256:
            self._wheel.unlink(missing_ok=True)
            mark.write_text(release.sha256)
        self._signed, self._release = signed, release
        here = min(self._here(), release.size_bytes)
        free = shutil.disk_usage(self._versions.spool).free
        if free < release.size_bytes - here + (1 << 20):
            raise UpdateError(
                f"{free} B are free in {self._versions.spool}, the update needs "
                f"{release.size_bytes - here}: free memory, or make /run larger"
            )
        return here

    def add(self, sha256: str, offset: int, data: bytes) -> int:
        """Take in a piece; returns how many bytes are here. A piece of elsewhere changes nothing.

        Raises:
            UpdateError: no such release was offered to this start of the agent, or it has more
                bytes than were signed.
        """
        release = self._offered(sha256)
        here = self._here()
        if offset != here:
            return here
        if here + len(data) > release.size_bytes:
            raise UpdateError(
                f"the wheel has more than the {release.size_bytes} B that were signed"
            )
        with self._wheel.open("ab") as file:
            file.write(data)
        return here + len(data)

    def complete(self, sha256: str) -> Release:
        """Check what has come, and leave it for the next start.

        Raises:
            UpdateError: it is not whole, another wheel, or needs what is not here.
        """
        release = self._offered(sha256)
        assert self._signed is not None
        if (here := self._here()) < release.size_bytes:
            raise UpdateError(f"{here} of {release.size_bytes} B have come: send the rest")
        wheel = self._wheel.read_bytes()[: MAX_WHEEL_BYTES + 1]
        try:
            check_wheel(wheel, release)
        except UpdateError:
            if hashlib.sha256(wheel).hexdigest() != release.sha256:
                self._wheel.unlink(missing_ok=True)  # else the rest of it would never come
            raise
        body = msgspec.json.encode(self._signed)
        write_whole(self._versions.spool / "release.json", body, mode=0o600)
        return release

    def report(self) -> None:
        """This version has reported to the broker."""
        self._spool()
        write_whole(self._versions.spool / "reported", running_version(), mode=0o600, durable=False)

    def _spool(self) -> None:
        try:
            self._versions.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UpdateError(f"{self._versions.spool} cannot be made: {error.strerror}") from error

    def _offered(self, sha256: str) -> Release:
        if self._release is None or self._release.sha256 != sha256:
            raise UpdateError("this update was not offered to this start of the agent")
        return self._release

    def _here(self) -> int:
        try:
            return self._wheel.stat().st_size
        except FileNotFoundError:
            return 0


def running_version() -> str:
    """Name of the folder that the package of this process lies in."""
    return Path(str(importlib.resources.files("fimi"))).resolve().parent.name


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
