"""The agent: takes part in the runs that a coordinator invites it to, one after another.

The agent has an id, a broker, a board and a place where its data lie. Everything else comes with a
run. :mod:`fimi.edge_agent.line` hears what is wanted, on a thread of its own; the thread of
:meth:`Agent.run` does it step by step, as :mod:`fimi.edge_agent.course` says, in
:mod:`fimi.edge_agent.member`. Whatever goes wrong in a step is reported, and the agent lives on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from fimi.edge_agent.answering import Answering, Remote
from fimi.edge_agent.backends import Trainers
from fimi.edge_agent.boards import emulated_board
from fimi.edge_agent.course import Forget, Step
from fimi.edge_agent.exchange import Exchange
from fimi.edge_agent.failures import BrokenOff, failed, words
from fimi.edge_agent.joining import join
from fimi.edge_agent.kept import Kept
from fimi.edge_agent.line import Line
from fimi.edge_agent.member import Member
from fimi.edge_agent.outbox import DurableOutbox
from fimi.edge_agent.share import Shelf
from fimi.edge_agent.status import board_status, contract_of, folder_of
from fimi.edge_agent.telemetry import TelemetrySender
from fimi.edge_agent.tools import AgentSettings, Tools
from fimi.edge_agent.turns import Turns
from fimi.energy.cost_model import BoardModel
from fimi.energy.hardware import Hardware
from fimi.energy.ledger import Ledger
from fimi.errors import FimiError, coded
from fimi.learning.data.contract import ContractError
from fimi.messaging.client import Peer
from fimi.messaging.errors import TransferCancelled
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import FactBody, Profile, Refusal, RoundSettled
from fimi.messaging.messages.orders import (
    DeploymentClosed,
    DeploymentTest,
    DevicePlan,
    Invitation,
    RoundClosed,
    RoundStart,
)
from fimi.messaging.questions import BoardStatus, CalibrationRequest
from fimi.messaging.transfers.parts import PartFiles
from fimi.plural import plural

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.2
"""Longest time until a request to stop is seen while there is nothing to do, s."""


class Agent:
    """One edge device.

    Args:
        peer: its connection.
        hardware: its board; ``None``: emulated, as the coordinator says.
        place: where its data lie; see :func:`fimi.edge_agent.share.take`.
        cache: folder for what is fetched once: batches, shares and training graphs.
        turns: shared by the agents of a process; left out, an agent has its own.
        trainers: shared by the same agents.
        shelf: shared by the same agents.
        settings: limits of its transfers.
        remote: what may be asked of it from afar, beside how it is.
        telemetry_s: time between two messages that say how it is, unasked, s; 0 for none.
        looked_s: the same while somebody looks at the fleet, s; 0 for no others.
        outbox: keeps on disk what the coordinator has not stored; ``None``: memory only.
        parts: where payloads are put together while they come; ``None``: in memory.
    """

    def __init__(
        self,
        peer: Peer,
        *,
        hardware: Hardware | None = None,
        place: Path | None = None,
        cache: Path | None = None,
        turns: Turns | None = None,
        trainers: Trainers | None = None,
        shelf: Shelf | None = None,
        settings: AgentSettings | None = None,
        remote: Remote | None = None,
        telemetry_s: float = 0.0,
        looked_s: float = 0.0,
        outbox: DurableOutbox | None = None,
        parts: PartFiles | None = None,
    ) -> None:
        self._peer = peer
        self._hardware = hardware
        self._place = place
        self._cache = cache
        self._turns = turns or Turns()
        self._trainers = trainers or Trainers()
        self._shelf = shelf
        self._settings = settings or AgentSettings()
        self._shares = Kept(cache, "share")
        self.member: Member | None = None
        """What it is in the present run; ``None`` before it has joined one."""
        self._rounds = 0
        self._remote = remote or Remote()
        self._telemetry_s, self._looked_s = telemetry_s, looked_s
        self._outbox = outbox
        self._parts = parts
        self._folder, self._contract = folder_of(cache), contract_of(place)
        self._failed = ""  # what went wrong in the last step

    def run(self, stop: threading.Event) -> None:
        """Take part in runs until ``stop`` is set; then restore the board.

        Raises:
            MessagingError: nothing more can be heard, because another process has this id.
        """
        self._introduce()
        line = Line(self._peer, stop, self._meter_trouble, self._outbox)
        tools = Tools(
            line=line,
            exchange=Exchange(self._peer, line, self._parts),
            turns=self._turns,
            trainers=self._trainers,
            cache=self._cache,
            settings=self._settings,
        )
        self._line = line
        self._answering = answering = Answering(self._peer, self, self._remote)
        telemetry = TelemetrySender(
            self._peer,
            self._telemetry_s,
            self._looked_s,
            line,
            lambda: self._board_now,
            lambda: self._ledger_now,
        )
        try:
            with line, answering, telemetry:
                while not stop.is_set() and line.failure is None:
                    tools.exchange.release(line.unheard)
                    if self.member is None:
                        answering.do_errand()
                    if (step := line.next_step(LOOK_AGAIN_S)) is not None:
                        self._take(step, tools)
        finally:
            self._leave()
            if self._hardware is not None:
                self._hardware.restore()
            done = plural(self._rounds, "round")
            log.info("%s: stopped after %s", self._peer.id, done)
        if line.failure is not None:
            raise line.failure

    def use(self, hardware: Hardware) -> None:
        """Run on this board from now on: it was calibrated. Called in no run only."""
        self._hardware = hardware

    def _meter_trouble(self) -> str:
        return self._hardware.trouble() if self._hardware is not None else ""

    # For the thread that answers.

    def status(self) -> BoardStatus:
        """How the board is."""
        return board_status(
            self._peer,
            self._line,
            self._board_now,
            contract=self._contract,
            errand=self._answering.errand,
            troubles=(
                *((self._failed,) if self._failed else ()),
                *(each.in_words() for each in self._peer.aside[:3]),
            ),
            allows=self._remote.allows,
            can_calibrate=CalibrationRequest in self._remote.errands,
            folder=self._folder,
            update=self._remote.update(),
        )

    def hears(self) -> bool:
        """Whether the thread that hears the coordinator goes on."""
        return self._line.alive

    def model(self) -> BoardModel | None:
        """What the board costs; ``None`` for an emulated one outside of a run."""
        hardware = self._board_now
        return hardware.model() if hardware is not None else None

    @property
    def _board_now(self) -> Hardware | None:
        """Its board; that of the run for an emulated one, which has none outside."""
        member = self.member  # read once: a run may end meanwhile
        return member.hardware if member is not None else self._hardware

    @property
    def _ledger_now(self) -> Ledger | None:
        """Where it meters its phases in the present run; ``None`` outside of one."""
        member = self.member
        return member.ledger if member is not None else None

    def _introduce(self) -> None:
        hardware, board = self._hardware, "an emulated board"
        if hardware is not None:
            found = hardware.describe()
            meter = found.meter
            board = f"{found.board} ({found.kind}), joules from {meter.source} ({meter.kind}, "
            board += f"{meter.scope})"
        log.info(
            "%s: %s, connected to %s, fleet %s, waiting for a coordinator",
            *(self._peer.id, board, self._peer.address, self._peer.fleet),
        )

    def _take(self, step: Step, tools: Tools) -> None:
        """Do a step and report it."""
        try:
            facts, is_failed = self._do(step, tools)
        except (BrokenOff, TransferCancelled):
            return  # the line names what is wanted instead
        except Exception as problem:
            said = words(self._peer.id, problem, type(step).__name__)
            fact = failed(step, said)
            facts, is_failed = (() if fact is None else (fact,)), True
        words_of = (getattr(fact, "error", "") or getattr(fact, "reason", "") for fact in facts)
        self._failed = next(filter(None, words_of), "")[:1000]
        works = self.member is not None and isinstance(step, RoundStart | RoundClosed)
        clock_s = self.member.hardware.clock.now_s() if self.member and works else None
        tools.line.finish(step, *facts, failed=is_failed, clock_s=clock_s)

    def _do(self, step: Step, tools: Tools) -> tuple[tuple[FactBody, ...], bool]:
        """The facts of a step, and whether the device cannot go on from it."""
        line, member = tools.line, self.member
        match step:
            case Forget():
                self._leave()
                line.show("idle")
                return (), False
            case Invitation():
                return self._join(step, tools)
            case RoundClosed() if member is None:
                nothing = RoundSettled(
                    run=step.run, device=step.device, round=step.round, phases=()
                )
                return (nothing,), False
        if member is None:
            raise RuntimeError(f"{type(step).__name__} for a device that has not joined the run")
        match step:
            case DevicePlan():
                applied = member.follow(step)
                line.show("settled", "" if applied.error else "the first round")
                return (applied,), bool(applied.error)
            case RoundStart():
                return (member.work(step),), False
            case RoundClosed():
                idled = member.settle(step)
                line.show("settled", "the next round")
                return idled, False
            case DeploymentTest():
                report = member.try_out(step)
                line.show("settled")
                return (report,), False
            case DeploymentClosed():
                member.go_on(step)
        return (), False

    def _join(self, step: Invitation, tools: Tools) -> tuple[tuple[FactBody, ...], bool]:
        """Take part in a run, or refuse."""
        line, device = tools.line, self._peer.id
        self._leave()
        line.show("fetching")
        desired = line.desired
        instance = desired.instance if desired is not None else ""

        def fetch(offered: Callable[[Invitation], Offer | None]) -> bytes:
            def latest() -> Offer:
                offer = offered(line.latest(step))
                assert offer is not None  # the invitation would be another one
                return offer

            limit = self._settings.batch_max_bytes
            return self._shares.get_or(
                latest().digest, lambda: tools.exchange.fetch(step, latest, limit)
            )

        try:
            joined = join(step, instance, fetch, place=self._place, shelf=self._shelf)
            hardware = self._board(step)
        except (BrokenOff, TransferCancelled):
            raise
        except Exception as problem:
            line.show("idle")
            said = words(device, problem, "cannot take part")
            reason = coded(problem) if isinstance(problem, FimiError) else said
            return (Refusal(run=step.run, device=device, reason=reason),), True
        self.member = member = Member(tools, step, hardware, joined.data)
        board, data = hardware.describe(), joined.data
        meter = board.meter
        log.info(
            "%s: takes part in run %s with %d samples of %s on %s (%s), joules from %s (%s, %s)",
            *(device, step.run, len(data), step.contract.dataset, board.board, board.kind),
            *(meter.source, meter.kind, meter.scope),
        )
        self._peer.describe(f"run {step.run}")
        line.show("idle", "its plan")
        profile = Profile(
            run=step.run,
            device=device,
            boot_id=self._peer.boot_id,
            contract=step.contract.digest,
            fingerprint=joined.fingerprint,
            dataset=step.contract.dataset,
            label_counts=data.label_counts(),
            hardware=board,
            board=hardware.model(),
            backend=member.backend,
            exposed=bool(self._peer.address.exposed()),
        )
        return (profile,), False

    def _board(self, invitation: Invitation) -> Hardware:
        """The board for a run: this device's own, or a new emulated one.

        Raises:
            ContractError: there is neither.
        """
        if self._hardware is not None:
            return self._hardware
        if invitation.emulated is None:
            raise ContractError(
                f"{self._peer.id} has no board of its own and the run describes none to emulate: "
                "start the agent with --host-profile FILE ('fimi calibrate' writes one)"
            )
        return emulated_board(invitation.emulated, invitation.index)

    def _leave(self) -> None:
        """Leave the present run if there is one."""
        if self.member is not None:
            self._rounds += self.member.rounds
            self.member.leave()
            self.member = None
