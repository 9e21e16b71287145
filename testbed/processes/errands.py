"""What an agent does for a console while it is in no run, on the machine that it runs on.

* :class:`OwnBoard`  the board of this machine, which is let go while it is calibrated
* :class:`Errands`   doctor, restart, calibration, update
* :func:`start_again`  what follows a restart
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

import msgspec

from fimi.edge_agent.agent import Agent
from fimi.edge_agent.answering import Errand
from fimi.edge_agent.doctor import examine
from fimi.edge_agent.doctor.machine import Machine
from fimi.edge_agent.own_profile import OwnProfile
from fimi.edge_agent.service.receiving import Receiving
from fimi.edge_agent.service.release import SignedRelease
from fimi.edge_agent.service.versions import Versions
from fimi.energy.host import HostHardware
from fimi.energy.host_profile import load_profile
from fimi.errors import RunFailedError
from fimi.files import write_whole
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.questions import (
    AnyQuestion,
    AnyReply,
    Calibrated,
    CalibrationQuestion,
    CalibrationRequest,
    DoctorQuestion,
    DoctorReply,
    Restarting,
    RestartRequest,
    UpdateHeld,
    UpdateOffer,
    UpdatePart,
    UpdateRequest,
    encode,
)

Say = Callable[[str], None]

_LOOK_AGAIN_S = 0.2
_LEAVE_S = 30.0
_LAST_LINES = 12


class OwnBoard:
    """The board of this machine. A context manager: inside it, the board is metered and steered.

    Args:
        profile: its profile.
        root: root of this machine's file system.
        peer: the agent's connection, whose sending rate is limited.
        broker: the broker, which decides the network interface.

    Attributes:
        hardware: the board.
    """

    hardware: HostHardware

    def __init__(self, profile: OwnProfile, root: Path, peer: Peer, broker: BrokerAddress) -> None:
        self.profile, self.root = profile, root
        self._peer, self._broker = peer, broker

    def __enter__(self) -> OwnBoard:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()

    def take(self) -> HostHardware:
        """Read the profile, meter and steer the board.

        Raises:
            ProfileError: the profile cannot be used.
            MeterUnavailableError: there is no meter, and no power is declared.
        """
        self.hardware = HostHardware(
            self.profile.load(),
            root=self.root,
            uplink=self._peer,
            broker_host=self._broker.host,
        )
        return self.hardware

    def let_go(self) -> None:
        """Restore the board, and stop reading its meter."""
        self.hardware.close()


class Errands:
    """The errands of one agent.

    Args:
        broker: the broker.
        root: root of this machine's file system.
        board: its board; ``None`` for an emulated one.
        cache: where it keeps training graphs, for a calibration; ``None``: nowhere.
        stop: ends the agent when it is set.
        versions: of the agent on this machine; ``None``: it cannot be updated from afar.

    Attributes:
        agent: whose errands they are.
        again: whether the agent is to be started again once it has ended.
        updated: whether the service manager is to start it again, in another version.
        failure: why the board cannot be used any more after a calibration.
    """

    agent: Agent

    def __init__(
        self,
        broker: BrokerAddress,
        *,
        root: Path,
        board: OwnBoard | None,
        cache: Path | None,
        stop: threading.Event,
        versions: Versions | None = None,
    ) -> None:
        self._broker, self._root, self._board = broker, root, board
        self._cache, self._stop = cache, stop
        self._receiving = None if versions is None else Receiving(versions)
        self.again = self.updated = False
        self.failure: Exception | None = None

    def by_question(self) -> dict[type, Errand]:
        """Them, by the type of question."""
        always: dict[type, Errand] = {DoctorQuestion: self._examine, RestartRequest: self._restart}
        if self._receiving is not None:
            always[UpdateOffer] = always[UpdatePart] = self._receive
            always[UpdateRequest] = self._update
        if self._board is None:
            return always
        return {
            **always,
            CalibrationRequest: self._calibrate,
            CalibrationQuestion: self._last_calibration,
        }

    def _examine(self, _: AnyQuestion, say: Say) -> AnyReply:
        say("the doctor looks")
        profile = self._board.profile.load() if self._board is not None else None
        machine = Machine(root=self._root, profile=profile, broker=self._broker)
        return DoctorReply(checks=examine(machine, metered=profile is not None))

    def reported(self) -> None:
        """The broker has the first status of this start."""
        if self._receiving is not None:
            self._receiving.report()

    def _receive(self, question: AnyQuestion, _: Say) -> AnyReply:
        assert self._receiving is not None
        if isinstance(question, UpdateOffer):
            signed = SignedRelease(statement=question.statement, signature=question.signature)
            return UpdateHeld(size_bytes=self._receiving.offer(signed))
        assert isinstance(question, UpdatePart)
        here = self._receiving.add(question.sha256, question.offset, question.payload)
        return UpdateHeld(size_bytes=here)

    def _update(self, question: AnyQuestion, _: Say) -> AnyReply:
        """Leave for the version that has come; the start of the next one takes it over."""
        assert isinstance(question, UpdateRequest)
        assert self._receiving is not None
        self._receiving.complete(question.sha256)
        self.updated = True
        self._stop.set()
        return Restarting()

    def _restart(self, _: AnyQuestion, say: Say) -> AnyReply:
        self.again = True
        self._stop.set()
        return Restarting()

    def _calibrate(self, question: AnyQuestion, say: Say) -> AnyReply:
        """Let the board go, run ``fimi calibrate``, use the new profile from now on."""
        assert isinstance(question, CalibrationRequest)
        assert self._board is not None
        profile = self._board.profile
        target = profile.target()
        made = target.with_name(f"{target.stem}.new{target.suffix}")
        self._board.let_go()
        try:
            found = self._run(self._command(question, made), say)
            load_profile(made)  # what cannot be used replaces nothing
            profile.replace(made)
        finally:
            made.unlink(missing_ok=True)
            try:
                self.agent.use(self._board.take())
            except Exception as error:
                self.failure = error  # without its board it must take part in no run
                self._stop.set()
        parts = msgspec.json.decode(found, type=dict[str, msgspec.Raw])
        reply = Calibrated(
            profile=target.read_text("utf-8"),
            calibration=msgspec.Raw(bytes(parts["calibration"])),
            unix_s=time.time(),
        )
        write_whole(profile.result(), encode(reply))
        return reply

    def _last_calibration(self, _: AnyQuestion, say: Say) -> AnyReply:
        assert self._board is not None
        try:
            kept = self._board.profile.result().read_bytes()
        except FileNotFoundError:
            raise RunFailedError("it was not calibrated from afar yet", code="M005") from None
        return msgspec.json.decode(kept, type=Calibrated)

    def _command(self, asked: CalibrationRequest, made: Path) -> list[str]:
        assert self._board is not None
        options = {
            "--host-profile": self._board.profile.in_force(),
            "--out": made,
            "--root": self._root,
            "--seconds": asked.seconds,
            "--settle": asked.settle,
            "--repeats": asked.repeats,
            "--frequencies": asked.frequencies,
            "--format": "json",
        }
        graphs = sorted(
            self._cache.glob("*.graphs") if self._cache is not None else (),
            key=lambda path: path.stat().st_mtime,
        )
        if graphs:
            options["--graphs"] = graphs[-1]
        given = [str(word) for pair in options.items() for word in pair]
        fimi = [sys.executable, "-m", "fimi.testbed.cli"]
        return [*fimi, "calibrate", "--force", "--progress", *given]

    def _run(self, command: list[str], say: Say) -> bytes:
        """Run a command to its end, telling each line of its progress; returns its output.

        Raises:
            RunFailedError: it failed, or the agent is to end; with its last lines.
        """
        last: deque[str] = deque(maxlen=_LAST_LINES)
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
            assert process.stderr is not None
            teller = threading.Thread(target=_tell, args=(process.stderr, say, last), daemon=True)
            teller.start()
            while process.poll() is None:
                if self._stop.wait(_LOOK_AGAIN_S):
                    process.terminate()  # it puts everything back
                    try:
                        process.wait(_LEAVE_S)
                    except subprocess.TimeoutExpired:
                        process.kill()
            teller.join()
            if process.returncode or self._stop.is_set():
                raise RunFailedError(
                    "; ".join(last) or f"exit code {process.returncode}", code="M005"
                )
            output.seek(0)
            return output.read()


def _tell(lines: IO[str], say: Say, last: deque[str]) -> None:
    for line in lines:
        if line.startswith("["):  # [3/26] 1.2 GHz, 160 s left
            say(line.rstrip()[:400])
        else:
            last.append(line.strip())


def start_again() -> NoReturn:
    """Replace this process by itself, with the same arguments and the code as it is now."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
