"""What becomes of one round's work, and the report of it.

A device that was started again takes up the work of its earlier start: phases, transfers and
seconds of that start belong to the round, and so does its update, where it lies on disk.
"""

from __future__ import annotations

from msgspec import Struct

from fimi.edge_agent.data import MixedData
from fimi.energy.ledger import PhaseRecord
from fimi.energy.ledger_parts import ReadingsPart
from fimi.learning.training.coding import Coded
from fimi.messaging.messages.basis import Goodput
from fimi.messaging.messages.facts import RoundReport
from fimi.messaging.messages.orders import RoundStart


class RoundWork(Struct):
    """The work of one round so far.

    Attributes:
        loss: of training, in the last epoch; ``None``: it did not train to the end.
        accuracy: likewise.
        backend: of the training; empty if it did not train.
        trained_at: when training began and ended, UNIX time, s.
        in_vain_s: seconds of sending to a coordinator that was gone before it had all.
        coded: what the coding of the update did.
        error: what went wrong, or empty.
        phases: of an earlier start of the device, which had begun.
        moved: the transfers of that start.
        busy_s: the seconds of that start, where an emulated clock does not go on by itself.
        samples: local, synthetic and labelled samples of that start's training.
        readings: of that start's meter.
    """

    loss: float | None = None
    accuracy: float | None = None
    backend: str = ""
    trained_at: tuple[float, float] | None = None
    in_vain_s: float = 0.0
    coded: Coded | None = None
    error: str = ""
    phases: tuple[PhaseRecord, ...] = ()
    moved: tuple[Goodput, ...] = ()
    busy_s: float = 0.0
    samples: tuple[int, int, int] | None = None
    readings: tuple[ReadingsPart, ...] = ()

    @classmethod
    def of_earlier(cls, report: RoundReport, *, with_update: bool, waits_count: bool) -> RoundWork:
        """The work of an earlier start, which goes on here.

        An emulated board's clock goes on from where it was, and counts the seconds of that start.

        Args:
            report: what that start had done.
            with_update: whether its update is there; without it its training was in vain.
            waits_count: whether the board's clock is a real one.
        """
        work = cls(phases=report.phases, moved=report.transfers, readings=report.readings)
        if waits_count:
            work.busy_s = report.busy_s + report.waited_s
        if with_update:
            work.loss, work.accuracy = report.training_loss, report.training_accuracy
            work.backend, work.trained_at = report.backend, report.trained_at
            work.coded = report.coded
            work.samples = (report.local_samples, report.synthetic_samples, report.unlabelled)
        return work

    def report(
        self, start: RoundStart, data: MixedData, own: tuple[PhaseRecord, ...], busy_s: float
    ) -> RoundReport:
        """What is known of it.

        Args:
            start: of the round.
            data: the device's samples.
            own: phases of this start of the device.
            busy_s: seconds since the round began for this start.
        """
        phases = (*self.phases, *own)
        waited_s = sum(record.duration_s for record in phases if record.phase == "waiting")
        local, synthetic, unlabelled = self.samples or (
            data.local_samples,
            data.synthetic_samples,
            0 if data.unlabelled is None else len(data.unlabelled),
        )
        return RoundReport(
            run=start.run,
            device=start.device,
            round=start.round,
            local_samples=local,
            synthetic_samples=synthetic,
            training_loss=self.loss,
            training_accuracy=self.accuracy,
            frequency_hz=None,
            busy_s=max(0.0, busy_s + self.busy_s - waited_s - self.in_vain_s),
            waited_s=waited_s,
            phases=phases,
            backend=self.backend,
            transfers=self.moved,
            unlabelled=unlabelled,
            trained_at=self.trained_at,
            coded=self.coded,
        )
