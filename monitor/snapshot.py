"""A run at one moment, as types: what the feed carries, and every window shows.

Joules are :class:`~fimi.energy.joules.Energy`: with kind, source, scope and uncertainty. What is
unknown is ``None``, never zero. Everything that grows is a mapping with names as keys, so that a
change of one device is a change of one key (:mod:`fimi.monitor.changes`).

* :class:`Snapshot`      all of it
* :class:`RunNow`        the run as a whole
* :class:`JoulesNow`         joules of a run or a device, measured beside predicted
* :class:`DeviceNow`     a device
* :class:`RoundNow`      a finished round
* :class:`GeneratorNow`  drawing of synthetic images
* :class:`StudyNow`      an experiment
* :class:`Said`          an event in words
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fimi.energy.cost_model import Phase
from fimi.energy.joules import Energy, Kind, Scope
from fimi.messaging.messages.basis import Stage

RunState = Literal[
    "starting",
    "gathering",
    "planning",
    "drawing",
    "training",
    "pausing",
    "paused",
    "running",
    "completed",
    "failed",
    "interrupted",
]
"""What a run does. ``drawing``: synthetic images; ``pausing``: its round is the last before it.
``running``: an experiment, whose runs do all of this."""

OVER: tuple[RunState, ...] = ("completed", "failed", "interrupted")
"""A run that does no more."""

Condition = Literal[
    "training",
    "ready",
    "reported",
    "resting",
    "joined",
    "awaited",
    "excluded",
    "set-aside",
    "failed",
    "refused",
    "gone",
]
"""What a device is in a run. ``ready``: its plan is in force. ``resting``: not drawn for the round.
``awaited``: of an earlier process of the run, and not back yet. ``gone``: not connected."""

PROBLEMS: tuple[Condition, ...] = ("gone", "failed", "refused", "set-aside", "awaited")
"""States that need somebody, the worst first."""


class JoulesNow(Struct, frozen=True, kw_only=True):
    """Joules, measured beside predicted.

    Attributes:
        energy: of whole boards, as far as it is known; ``None``: nothing is yet.
        whole: whether nothing of it is missing.
        missing: what is, in words; empty if nothing.
        compared: that part of it which was predicted as well.
        predicted_j: the prediction of ``compared``, J.
        error_percent: (predicted − measured) / measured of these.
    """

    energy: Energy | None = None
    whole: bool = True
    missing: str = ""
    compared: Energy | None = None
    predicted_j: float | None = None
    error_percent: float | None = None


class DeviceNow(Struct, frozen=True, kw_only=True):
    """A device.

    Attributes:
        board: model name.
        kind: ``physical`` or ``emulated``; empty before it has joined.
        samples: own samples.
        synthetic: synthetic samples under its plan, all classes.
        state: what it is in the run.
        problem: what is wrong with it, in one sentence; empty: nothing.
        online: whether it is connected.
        stage: what it does, by its own telemetry; ``None`` without any.
        phase: the phase that its power is of, likewise.
        set_hz: frequency that the plan asks for, Hz.
        applied_hz: frequency in force after applying it, as read back, Hz.
        clock_hz: what its processor ran at, Hz: now by telemetry, else in its last round.
        point: name of the measured operating point in force.
        set_bps: uplink rate that the plan assumes, bit/s.
        sent_bps: payload rate of its last upload, bit/s.
        power_w: what it draws, W; ``None`` if unknown.
        power_kind: kind of that.
        power_scope: what its meter sees.
        meter: name of the meter.
        temperature_c: of its processor, °C.
        round: the last round it reported on; 0: none.
        round_energy: joules of that round.
        total: joules of the run.
        accuracy: of its last training, on its own data.
        seen_unix_s: when anything was heard of it last, UNIX time, s.
    """

    board: str = ""
    kind: str = ""
    samples: int | None = None
    synthetic: int | None = None
    state: Condition = "joined"
    problem: str = ""
    online: bool = True
    stage: Stage | None = None
    phase: Phase | None = None
    set_hz: float | None = None
    applied_hz: float | None = None
    clock_hz: float | None = None
    point: str = ""
    set_bps: float | None = None
    sent_bps: float | None = None
    power_w: float | None = None
    power_kind: Kind | None = None
    power_scope: Scope | None = None
    meter: str = ""
    temperature_c: float | None = None
    round: int = 0
    round_energy: JoulesNow = JoulesNow()
    total: JoulesNow = JoulesNow()
    accuracy: float | None = None
    seen_unix_s: float | None = None


class RoundNow(Struct, frozen=True, kw_only=True):
    """A finished round.

    Attributes:
        accuracy: of the global model on the test set, 0 to 1.
        validation_accuracy: on public images for validation; ``None`` without any.
        loss: on the test set; ``None`` where it is not finite.
        duration_s: on the fleet's clock, s.
        elapsed_s: until its end, on that clock, s.
        accepted: updates in its model.
        participants: devices that were to train.
        energy: joules of the boards in it. Of many sources a few are named, here and in ``so_far``.
        so_far: from the beginning of the run to its end; what is missing of it is not said again.
    """

    accuracy: float
    validation_accuracy: float | None = None
    loss: float | None = None
    duration_s: float
    elapsed_s: float
    accepted: int
    participants: int
    energy: JoulesNow
    so_far: JoulesNow


class GeneratorNow(Struct, frozen=True, kw_only=True):
    """Drawing of synthetic images.

    Attributes:
        batches_asked: batches that the run has asked for.
        batches_done: of them, those that are ready.
        lacking: images still to be drawn; ``None`` before anything was said.
        images_per_s: drawn per second of late.
        delivered: images by device.
        failed: devices without a batch, with the reason.
        energy: of drawing; ``None`` if not metered.
        pictures: an image by class name: a PNG as a data URL.
    """

    batches_asked: int = 0
    batches_done: int = 0
    lacking: int | None = None
    images_per_s: float | None = None
    delivered: dict[str, int] = {}
    failed: dict[str, str] = {}
    energy: Energy | None = None
    pictures: dict[str, str] = {}


class TaskNow(Struct, frozen=True, kw_only=True):
    """A run of an experiment that goes on.

    Attributes:
        done: rounds that are finished, or steps of a training.
        steps: all of them; 0: unknown.
        since_s: for how long it has gone on, s.
    """

    done: int
    steps: int
    since_s: float


class StudyTable(Struct, frozen=True, kw_only=True):
    """A table of results so far; what it says is text, as ``fimi experiment`` prints it.

    Attributes:
        caption: what it shows.
        heading: of its columns; a line break stands before the unit.
        rows: the cells.
    """

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class StudyNow(Struct, frozen=True, kw_only=True):
    """An experiment.

    Attributes:
        name: of the experiment.
        title: what it is about.
        done: runs that have ended.
        runs: runs in all.
        failed: of those that have ended, with the reason.
        running: those that go on, by name.
        left_s: estimate of the wall time until all have ended, s.
        tables: the results so far.
        notes: what is to be said of them.
    """

    name: str
    title: str = ""
    done: int = 0
    runs: int = 0
    failed: dict[str, str] = {}
    running: dict[str, TaskNow] = {}
    left_s: float | None = None
    tables: tuple[StudyTable, ...] = ()
    notes: tuple[str, ...] = ()


class Said(Struct, frozen=True, kw_only=True):
    """An event in words.

    Attributes:
        unix_s: when, UNIX time, s.
        text: one line.
        problem: whether it is one.
        device: whom it is about; empty: the run.
    """

    unix_s: float
    text: str
    problem: bool = False
    device: str = ""


class RunNow(Struct, frozen=True, kw_only=True):
    """The run as a whole.

    Attributes:
        name: of the run.
        title: what was started, in words.
        strategy: in words.
        dataset: what is learned from.
        model: the network.
        seed: of the run.
        kind: kind of the boards: ``emulated``, ``physical`` or ``mixed``; empty before any joined.
        state: what it does.
        doing: the same in one line.
        waiting: who is waited for, in one line; empty: nobody.
        broker: which carries the messages.
        broker_away_s: for how long it has been away, s; ``None`` while it is there.
        began_unix_s: when this process began, UNIX time, s.
        round: the round of now; before the first, 0.
        rounds: planned rounds.
        left_s: estimate of the wall time until the last round's end, s.
        deadline_s: of a round, in the plan in force, s.
        plan: the plan in one line; empty before.
        plan_round_j: predicted joules of one round under it: of the energy that it makes least, J.
        plan_objective: which energy that is.
        accuracy: after the last round, 0 to 1.
        trained: what the devices of the last round trained with, in words.
        target: accuracy that the plan aims at, 0 to 1; ``None``: none.
        energy: joules of the boards so far.
        server: joules of training on the server; ``None`` where it does not train.
        classes: names of the classes.
        exposed: what is open to others on the way to the broker; empty: nothing.
        begun_by: the command of fimi that began it, which goes on with it after a stop.
        reason: why it ended; empty while it runs.
    """

    name: str
    title: str = ""
    strategy: str = ""
    dataset: str = ""
    model: str = ""
    seed: int | None = None
    kind: str = ""
    state: RunState = "starting"
    doing: str = ""
    waiting: str = ""
    broker: str = ""
    broker_away_s: float | None = None
    began_unix_s: float = 0.0
    round: int = 0
    rounds: int = 0
    left_s: float | None = None
    deadline_s: float | None = None
    plan: str = ""
    plan_round_j: float | None = None
    plan_objective: str = ""
    accuracy: float | None = None
    trained: str = ""
    target: float | None = None
    energy: JoulesNow = JoulesNow()
    server: Energy | None = None
    classes: tuple[str, ...] = ()
    exposed: str = ""
    begun_by: str = ""
    reason: str = ""


class Snapshot(Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        unix_s: when it was taken, UNIX time, s.
        run: the run as a whole.
        devices: by id.
        rounds: finished rounds, by number as text.
        generator: drawing of images.
        said: events, by a number that grows, as text; only the latest are kept.
        study: an experiment, in place of a run; ``None`` for a run.
    """

    unix_s: float
    run: RunNow
    devices: dict[str, DeviceNow] = {}
    rounds: dict[str, RoundNow] = {}
    generator: GeneratorNow = GeneratorNow()
    said: dict[str, Said] = {}
    study: StudyNow | None = None
