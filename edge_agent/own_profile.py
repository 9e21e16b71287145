"""The profile of this machine: as it was given, and as a calibration from afar has found it.

A profile decides which meters and controls an installation grants (:mod:`fimi.edge_agent.service`),
so the agent of a service must not be able to change it. What it finds by a calibration goes into a
folder of its own then, under the digest of the profile that it began with: a profile that is
replaced leaves the calibrations of the former one behind. Without such a folder the profile itself
is replaced.

Only the costs are taken from a calibration. What may be asked of the board from afar stands in the
profile that was given.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

from fimi.energy.host_profile import HostProfile, ProfileError, load_profile
from fimi.errors import RunFailedError
from fimi.files import write_whole
from fimi.messaging.questions import Allowed

log = logging.getLogger(__name__)


class OwnProfile:
    """The profile of this machine.

    Args:
        given: its file.
        calibrated: folder for what calibrations find; ``None``: they replace ``given``.
    """

    def __init__(self, given: Path, calibrated: Path | None = None) -> None:
        self.given, self._folder = given, calibrated

    def load(self) -> HostProfile:
        """The profile in force.

        Raises:
            ProfileError: neither the calibrated one nor the one that was given can be used.
        """
        return load_profile(self.in_force())

    def in_force(self) -> Path:
        """The file in force: of the last calibration of the profile that was given, else that one.

        A calibrated profile that cannot be used (a card that was not written to the end, say) is
        named in the log and left alone.
        """
        if self._folder is None:
            return self.given
        try:
            made = self._target()
        except OSError:  # it says so itself, when it is loaded
            return self.given
        if not made.exists():
            return self.given
        try:
            load_profile(made)
        except ProfileError as error:
            log.warning("%s; %s is used, calibrate the board again", error, self.given)
            return self.given
        return made

    def allows(self) -> tuple[Allowed, ...]:
        """What may be asked from afar by the profile that was given."""
        return load_profile(self.given).remote.allow

    def target(self) -> Path:
        """The file that a calibration is to write, whose folder is there.

        Raises:
            RunFailedError: it cannot be written.
        """
        with contextlib.suppress(OSError):
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access((target := self._target()).parent, os.W_OK):
            raise RunFailedError(
                f"its agent may not write into {target.parent.absolute()}", code="U004"
            )
        return target

    def replace(self, made: Path) -> None:
        """Let a profile that was found be in force; the one before stays beside it.

        Raises:
            OSError: it cannot be written; the one before is in force then.
        """
        target = self.target()
        before = self.in_force().read_bytes()
        write_whole(target.with_name(f"{target.stem}.previous{target.suffix}"), before)
        write_whole(target, made.read_bytes())
        if self._folder is not None:
            for other in self._folder.glob(f"{self.given.stem}-*"):  # of profiles of before
                if not other.name.startswith(f"{target.stem}."):
                    other.unlink(missing_ok=True)

    def result(self) -> Path:
        """Where the answer to the last calibration is kept."""
        target = self._target()
        return target.with_name(f"{target.stem}.calibration.json")

    def _target(self) -> Path:
        if self._folder is None:
            return self.given
        digest = hashlib.sha256(self.given.read_bytes()).hexdigest()[:12]
        return self._folder / f"{self.given.stem}-{digest}{self.given.suffix}"
