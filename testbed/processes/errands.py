"""What an agent does for a console while it is in no run, on the machine that it runs on."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from fimi.edge_agent.answering import Errand
from fimi.edge_agent.doctor import examine
from fimi.edge_agent.doctor.machine import Machine
from fimi.energy.host_profile import load_profile
from fimi.messaging.address import BrokerAddress
from fimi.messaging.questions import (
    AnyQuestion,
    AnyReply,
    DoctorQuestion,
    DoctorReply,
    Restarting,
    RestartRequest,
)

Say = Callable[[str], None]


class Errands:
    """The errands of one agent.

    Args:
        broker: the broker.
        root: root of this machine's file system.
        profile: file of its profile; ``None`` for an emulated board.
        stop: ends the agent when it is set.

    Attributes:
        again: whether the agent is to be started again once it has ended.
    """

    def __init__(
        self,
        broker: BrokerAddress,
        *,
        root: Path,
        profile: Path | None,
        stop: threading.Event,
    ) -> None:
        self._broker, self._root, self._profile = broker, root, profile
        self._stop = stop
        self.again = False

    def by_question(self) -> dict[type, Errand]:
        """Them, by the type of question."""
        return {DoctorQuestion: self._examine, RestartRequest: self._restart}

    def _examine(self, _: AnyQuestion, say: Say) -> AnyReply:
        say("the doctor looks")
        profile = load_profile(self._profile) if self._profile is not None else None
        machine = Machine(root=self._root, profile=profile, broker=self._broker)
        return DoctorReply(checks=examine(machine, metered=profile is not None))

    def _restart(self, _: AnyQuestion, say: Say) -> AnyReply:
        self.again = True
        self._stop.set()
        return Restarting()


def start_again() -> NoReturn:
    """Replace this process by itself, with the same arguments and the code as it is now."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
