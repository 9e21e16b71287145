"""What became of each participant of a round, and how long the round was.

A report is late if the device was busy, on its own clock, beyond the round's deadline or beyond
what ended the round early. The latter is decided while the round goes on where the fleet's clock is
that of the wall. Emulated devices report in any order, whatever their clocks say: theirs are put in
order afterwards, by the same rule. So a round of emulated devices ends at the same moment however
busy this machine was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import dropwhile

from msgspec import Struct

from fimi.coordinator import round_end
from fimi.coordinator.context import Context
from fimi.coordinator.round_end import AtDeadline, BoardDraw, SoFar
from fimi.coordinator.round_order import RoundOrder, RoundOutcome
from fimi.coordinator.round_updates import UpdateIntake
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.tensors import UpdateRefusedError
from fimi.messaging.errors import PayloadUnusable, TransferError
from fimi.messaging.messages.facts import RoundReport
from fimi.record.credit import reported
from fimi.record.events import UpdateRejected
from fimi.record.results import DeviceRound, DeviceStatus

CHECK_TIMEOUT_S = 20.0
"""Wall time to wait for the check of an update that has come, s."""


class EndedEarly(Struct, frozen=True):
    """A rule has ended a round while devices were at work: when, s since it began, and which."""

    at_s: float
    why: str


class Verdict:
    """Judges a round that is over.

    Args:
        context: the context of the run.
        order: what the round began with.
        reports: that have come, by device.
        intake: the updates that have come.
        spool: where those are.
        ended: what ended it while it went on; ``None``: everybody was done, or the time was over.
    """

    def __init__(
        self,
        context: Context,
        order: RoundOrder,
        reports: Mapping[str, RoundReport],
        intake: UpdateIntake,
        spool: UpdateStore,
        ended: EndedEarly | None,
    ) -> None:
        self._context = context
        self._order = order
        self._intake = intake
        self._spool = spool
        self._reports = reports
        self._plausible = {
            device: report
            for device, report in reports.items()
            if not implausible(report, order.samples(device, report))
        }
        self._deadline_s = context.deadline_s
        self._ended = ended

    def judge(self) -> RoundOutcome:
        """The outcome of the round, without idle phases; says who is left out of the model."""
        order = self._order
        limit_s, why = self._limit()
        devices: dict[str, DeviceRound] = {}
        accepted: list[str] = []
        late: list[str] = []
        for device in sorted(order.plans):
            status, reason = self._of(device, limit_s, why)
            report = self._plausible.get(device)
            devices[device] = DeviceRound(
                device=device,
                status=status,
                reason=reason,
                predicted=order.foreseen(device),
                **(reported(report) if report is not None else {}),
            )
            if status == "accepted":
                accepted.append(device)
                continue
            if status == "late" and report is not None and self._intake.is_kept(device):
                late.append(device)
            self._context.notify(UpdateRejected(round=order.number, device=device, reason=reason))
        everybody = order.plans.keys() <= self._reports.keys()
        punctual = all(entry.status != "late" for entry in devices.values())
        busy = [e.busy_s + e.waited_s for e in devices.values() if e.busy_s is not None]
        ended_s = max(busy, default=0.0) if everybody and punctual else 0.0
        return RoundOutcome(
            duration_s=ended_s or limit_s,
            updates=Updates(self._spool, accepted, self._intake.model),
            weights=[float(sum(order.samples(d, self._plausible[d]))) for d in accepted],
            devices=devices,
            late=tuple(late),
        )

    def _limit(self) -> tuple[float, str]:
        """After how many seconds a device is late, and why then, in words."""
        deadline = AtDeadline(self._deadline_s)
        early = round_end.early(self._context.settings.rounds)
        if self._ended is not None:
            if self._ended.at_s < self._deadline_s:
                return self._ended.at_s, self._ended.why
        elif early is not None and not self._order.by_wall_clock:
            so_far = self._by_own_clocks()
            limit_s = (deadline | early).ends_s(so_far)
            if limit_s < self._deadline_s:
                return limit_s, early.why(so_far)
        return self._deadline_s, ""

    def _by_own_clocks(self) -> SoFar:
        """The round as the clocks of its devices tell it."""
        return SoFar(
            invited=len(self._order.plans),
            updates_s=tuple(
                report.busy_s
                for device, report in self._plausible.items()
                if not report.error and self._intake.is_kept(device)
            ),
            draws=draws(self._order, self._plausible),
        )

    def _of(self, device: str, limit_s: float, why: str) -> tuple[DeviceStatus, str]:
        report = self._reports.get(device)
        if report is None:
            return self._silent(device, why)
        if report.error:
            return "failed", report.error
        if reason := implausible(report, self._order.samples(device, report)):
            return "refused", reason
        if report.busy_s > self._deadline_s:
            return "late", f"busy {report.busy_s:.3f} s, deadline {self._deadline_s:g} s"
        if report.busy_s > limit_s and not self._order.by_wall_clock:
            return "late", f"busy {report.busy_s:.3f} s, the round ended at {limit_s:.3f} s, {why}"
        try:
            self._intake.require(device, CHECK_TIMEOUT_S)
        except KeyError:
            return "refused", f"{device} reported without offering an update"
        except (UpdateRefusedError, PayloadUnusable) as error:
            return "refused", str(error)
        except TransferError as error:  # perhaps the network's fault
            return "failed", str(error)
        except OSError as error:  # no fault of the device
            return "failed", f"the coordinator could not keep its update: {error}"
        return "accepted", ""

    def _silent(self, device: str, why: str) -> tuple[DeviceStatus, str]:
        """What became of a device that has not reported."""
        if (unusable := self._intake.unusable(device)) is not None:
            return "refused", str(unusable)
        answer = self._context.registry.answer(device)
        if answer is not None and answer.error:
            return "failed", answer.error
        if not self._context.registry.has_joined(device):
            return "failed", f"{device} came back in the round and was refused"
        if not self._context.registry.is_online(device):
            return "missing", f"{device} went offline"
        document = self._context.conversation.reported(device)
        if document is None or not self._context.conversation.answered(device):
            return "missing", f"{device} is online and does not answer"
        waits = f", waiting for {document.waits_for}" if document.waits_for else ""
        over = f" when the round ended at {why}" if why else ""
        return "late", f"{device} did not report; it was {document.stage}{waits}{over}"


def draws(order: RoundOrder, reports: Mapping[str, RoundReport]) -> tuple[BoardDraw, ...]:
    """What each board of the fleet takes: as it has reported, else as predicted."""
    found = []
    for device, costs in sorted(order.predicted.items()):
        draw, report = BoardDraw.predicted(costs), reports.get(device)
        if report is None:
            found.append(draw)
            continue
        own: Iterable[PhaseRecord] = report.phases
        if device in order.paused:  # the joules of a pause are not those of a round
            own = dropwhile(lambda phase: phase.phase == "idle", own)
        found.append(draw.with_report(own))
    return tuple(found)


def implausible(report: RoundReport, samples: tuple[int, int]) -> str:
    """Why a report is implausible, or an empty string. An implausible report is not used."""
    if (report.local_samples, report.synthetic_samples) != samples:
        return (
            f"reports {report.local_samples} local and {report.synthetic_samples} synthetic "
            f"samples, its profile and plan say {samples[0]} and {samples[1]}"
        )
    return ""
