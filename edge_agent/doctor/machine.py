"""The machine to check, and how a check is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from msgspec import Struct

from fimi.energy.control.journal import default_folder
from fimi.energy.control.programs import Run, run_program
from fimi.energy.host_profile import HostProfile
from fimi.messaging.address import BrokerAddress
from fimi.messaging.questions import Check

Status = Literal["ok", "absent", "warning", "failure"]


def judged(name: str, found: str, fix: str = "", otherwise: Status = "warning") -> Check:
    """The result of a check: ``ok`` where there is nothing to fix, ``otherwise`` where there is."""
    return Check(name=name, status=otherwise if fix else "ok", found=found, fix=fix)


def open_files(rules: str, name: str) -> str:
    """The command that lets the group ``fimi`` use files, by tmpfiles rules that stay."""
    return (
        f"sudo groupadd -f fimi && sudo usermod -aG fimi $USER && printf '{rules}\\n' | sudo tee "
        f"/etc/tmpfiles.d/fimi-{name}.conf && sudo systemd-tmpfiles --create, then log in again"
    )


class Machine(Struct, frozen=True, kw_only=True):
    """The machine to check.

    Attributes:
        root: root of the file system.
        profile: profile of the board, if there is one already.
        broker: address of the agent's broker, if known.
        state: folder of the journal; this user's if left out.
        run: runs programs.
    """

    root: Path = Path("/")
    profile: HostProfile | None = None
    broker: BrokerAddress | None = None
    state: Path | None = None
    run: Run = run_program

    @property
    def journal_folder(self) -> Path:
        """Where an agent on this machine keeps its journal."""
        return self.state or default_folder(self.root)
