"""A run as types, which :func:`fimi.record.reader.read_run` fills.

Profiles, plans of devices, rounds and phases are the types that were sent and stored; the types
here contain them. Everything but the name may be missing from a run that ended early.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import Struct

from fimi.energy.hardware import Applied
from fimi.energy.joules import Energy
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import DevicePlan
from fimi.optim.known_curve import KnownCurve
from fimi.optim.plans import Expectation as Expectation
from fimi.optim.plans import gap_percent
from fimi.record.clean import clean
from fimi.record.events import DeviceSetAside, LearningRefitted, NotDeployed, SenderSetAside
from fimi.record.insight import Insight
from fimi.record.interventions import Intervention, SetDeadline
from fimi.record.prediction import Residual
from fimi.record.results import (
    Deployment,
    DeviceRound,
    DeviceStretch,
    Preparation,
    RoundResult,
    RunStatus,
)

OWN_IMAGES = "own images"
"""The partition of a run whose devices have brought their images."""


class DatasetInfo(Struct, frozen=True, kw_only=True):
    """What the federation learned from.

    Attributes:
        name: data set.
        limit: samples of it that were used; ``None`` for all.
        split: how the data set was split into public and private part.
        partition: how the private part was dealt to devices.
        alpha: Dirichlet α of the private parts; ``None`` where the partition has none.
        public: samples the generator was trained on.
        validation: public samples that nobody trained on.
        private: samples on the devices.
        test: held-out samples.
        class_names: one per class.
        public_digest: of the public samples.
        validation_digest: of those for validation.
        private_digest: of the private ones.
        test_digest: of the held-out ones.
        partition_digest: of who holds what; empty in older stores, as the others may be.
    """

    name: str = ""
    limit: int | None = None
    split: str = ""
    partition: str = ""
    alpha: float | None = None
    public: int | None = None
    validation: int | None = None
    private: int | None = None
    test: int | None = None
    class_names: tuple[str, ...] = ()
    public_digest: str = ""
    validation_digest: str = ""
    private_digest: str = ""
    test_digest: str = ""
    partition_digest: str = ""


DECIDE_NOTHING = ("carbon.", "trackers.", "otlp.")
"""Sections of a configuration on which no number of a run depends: what is computed from it
afterwards, and which other tools are told of it."""


class RunInfo(Struct, frozen=True, kw_only=True):
    """The table ``run``: how a run was set up and ended. All but its name may be missing.

    Attributes:
        run: its name.
        strategy: short name.
        strategy_title: the same in words.
        fills_devices: whether the strategy gives devices labelled synthetic samples; ``None`` where
            the store does not say.
        seed: of everything that was drawn.
        status: how it ended; ``running`` until then.
        reason: why, in one sentence.
        started_at: ISO 8601.
        finished_at: ISO 8601.
        wall_s: wall time, s.
        stages_wall_s: wall time of the coordinator's stages, s.
        config: dotted key to value.
        origins: dotted key to where the value came from.
        versions: package to version.
        broker: which broker carried the messages.
        exposed: what was open to others on the way to it, in words; empty: nothing; ``None`` in
            older stores.
        dataset: what was learned from.
        instance: random id, the same for all parts of the run that processes have gone on with;
            empty in older stores.
        contract: the data of the run, as devices were asked to confirm them, key to value; empty
            in older stores.
        resumed: how often another process has gone on with it.
        command: that began it, such as ``"dry-run"``; empty in older stores.
        curve: the learning curve that it was planned with; ``None`` in older stores, and where no
            data were planned and none was at hand.
    """

    run: str
    strategy: str = ""
    strategy_title: str = ""
    fills_devices: bool | None = None
    seed: int | None = None
    status: RunStatus = "running"
    reason: str = ""
    started_at: str = ""
    finished_at: str = ""
    wall_s: float | None = None
    stages_wall_s: dict[str, float] = {}
    config: dict[str, Any] = {}
    origins: dict[str, str] = {}
    versions: dict[str, str] = {}
    broker: str = ""
    exposed: str | None = None
    dataset: DatasetInfo = DatasetInfo()
    instance: str = ""
    contract: dict[str, Any] = {}
    resumed: int = 0
    command: str = ""
    curve: KnownCurve | None = None


class Enrolment(Struct, frozen=True, kw_only=True):
    """A device that has asked to take part, and what became of that.

    Attributes:
        device: its id.
        device_index: its share of the data, its place in the plan and its stream of random
            numbers, from 0; ``None`` if it has none.
        since_round: the first round that it was to be used in; ``None`` if it is not used.
        why_not: why it is not used, in one sentence; empty if it is.
    """

    device: str
    device_index: int | None = None
    since_round: int | None = None
    why_not: str = ""


class CheckpointPart(Struct, frozen=True, kw_only=True):
    """A part of what a process needs to go on with the run; the record does not look into it."""

    key: str
    body: bytes


class Resumption(Struct, frozen=True, kw_only=True):
    """When another process went on with the run.

    Attributes:
        after_round: the last round that was stored; 0 for none.
        at: UNIX time, s.
        changes: in what it went on otherwise than it was begun, a sentence each.
    """

    after_round: int
    at: float
    changes: tuple[str, ...] = ()


class SearchStep(Struct, frozen=True, kw_only=True):
    """One iteration of the planner's search.

    Attributes:
        number: from 1.
        best: best energy so far, J; ``None`` before the first feasible candidate.
    """

    number: int
    best: float | None = None


class PlannedEnergy(Struct, frozen=True, kw_only=True):
    """An energy of a plan's round: part of :class:`fimi.optim.plans.Certified`.

    Attributes:
        energy_j: as the plan will run, J.
        bound_j: certified lower bound of any plan's, J.
    """

    energy_j: float | None = None
    bound_j: float | None = None

    @property
    def gap_percent(self) -> float | None:
        """How far ``energy_j`` is above the bound; ``None`` where one of them is unknown."""
        return None if self.energy_j is None else gap_percent(self.energy_j, self.bound_j)


class PlanSummary(Struct, frozen=True, kw_only=True):
    """A plan of the fleet, as far as a report shows it: part of :class:`fimi.optim.plans.Plan`.

    Attributes:
        status: what is known about its quality.
        search: which search produced it.
        objective: the energy that it makes least: ``board`` or ``dynamic``.
        board: of the boards in one round; unknown in stores of before version 3.
        dynamic: compute and upload above idle in one round.
        round_s: how long a round lasts, s; likewise.
        preparation_j: board energy of receiving the synthetic samples once, J; likewise.
        budget_cost_j: how much more a round takes because of the budgets, J; likewise.
        search_energy_j: the objective before rounding to whole samples and settable frequencies, J.
        search_gap_percent: how far that is above the bound.
        error: mean learning error of the plan.
        error_max: the constraint on it.
        synthetic_value: what a synthetic sample was taken to be worth in real ones, q.
        epochs: local epochs of a round that were chosen for a target accuracy; ``None``: those of
            the configuration.
        expected: what the first plan expected of the run, with a target accuracy.
        history: of the search.
        stop: why the search ended.
        evaluations: candidates it evaluated.
        search_s: wall time of the search, s.
        certificate_s: wall time of the certificate, s.
    """

    status: str = ""
    search: str = ""
    objective: str = ""
    board: PlannedEnergy = PlannedEnergy()
    dynamic: PlannedEnergy = PlannedEnergy()
    round_s: float | None = None
    preparation_j: float | None = None
    budget_cost_j: float | None = None
    search_energy_j: float | None = None
    search_gap_percent: float | None = None
    error: float | None = None
    error_max: float | None = None
    synthetic_value: float | None = None
    epochs: int | None = None
    expected: Expectation | None = None
    history: tuple[SearchStep, ...] = ()
    stop: str = ""
    evaluations: int | None = None
    search_s: float | None = None
    certificate_s: float | None = None

    @property
    def least(self) -> PlannedEnergy:
        """The energy that the plan makes least."""
        return self.board if self.objective == "board" else self.dynamic


class Labels(Struct, frozen=True, kw_only=True):
    """How uneven a device's labels are.

    Attributes:
        counts: samples per class.
        emd: distance to the real samples of all devices together, 0 to 2.
        entropy_bits: of its label distribution.
    """

    counts: tuple[int, ...]
    emd: float | None
    entropy_bits: float | None


class Generation(Struct, frozen=True, kw_only=True):
    """What the generator node made for a run.

    Attributes:
        requested: images that were planned.
        delivered: images that came.
        drawn: images drawn for them; those that were in the pool are not among them.
        refused: of those drawn, by the quality gate.
        seconds: that took, wall time.
        energy: the same; ``None`` if any of it was not metered.
        by_receiver: ``delivered`` of each device, and of the server.
    """

    requested: int
    delivered: int
    drawn: int
    refused: int
    seconds: float
    energy: Energy | None
    by_receiver: dict[str, int] = {}

    @property
    def undelivered(self) -> int:
        """Images that were planned and did not come."""
        return self.requested - self.delivered


class RunData(Struct, frozen=True, kw_only=True, dict=True):
    """A whole run.

    Attributes:
        path: the store.
        info: the table ``run``.
        profiles: by device.
        confirmed: digest of the contract that each device has confirmed, by device; none in older
            stores.
        enrolments: devices that have asked to take part, by index; none in older stores.
        resumptions: when another process went on with the run, in order.
        interventions: what people asked of the run while it went on, in order.
        offenders: senders of what could not be used that were set aside, each as it was told last.
        plan: the last one; ``None`` if none was made.
        device_plans: of that plan, by device.
        preparations: receiving the synthetic batches.
        rounds: finished rounds.
        residuals: predicted less measured, every phase; empty in older stores.
        refits: rounds after which boards were fitted again.
        learning_refits: each time that the learning curve was.
        labels: stage (``local`` or ``filled``) and device to how uneven its labels are.
        made: the trained model as files, each time it was exported; a device that was silent has
            trials that say so.
        not_made: why the last time gave none.
        generation: what the generator node made; ``None`` if it was not asked.
        insights: learning metrics, of the rounds that have an insight.
        applied: what each device set and read back for its last plan; empty in older stores.
        notes: what each device could not do as planned, sentence by sentence.
        set_aside: devices that trained no more from some round on; none in older stores.
        warnings: what the store holds but cannot be read.
    """

    path: Path
    info: RunInfo
    profiles: dict[str, Profile] = {}
    confirmed: dict[str, str] = {}
    enrolments: tuple[Enrolment, ...] = ()
    resumptions: tuple[Resumption, ...] = ()
    interventions: tuple[Intervention, ...] = ()
    offenders: tuple[SenderSetAside, ...] = ()
    plan: PlanSummary | None = None
    device_plans: dict[str, DevicePlan] = {}
    preparations: tuple[Preparation, ...] = ()
    rounds: tuple[RoundResult, ...] = ()
    residuals: tuple[Residual, ...] = ()
    refits: tuple[int, ...] = ()
    learning_refits: tuple[LearningRefitted, ...] = ()
    labels: dict[str, dict[str, Labels]] = {}
    made: tuple[Deployment, ...] = ()
    not_made: NotDeployed | None = None
    generation: Generation | None = None
    insights: tuple[Insight, ...] = ()
    applied: dict[str, Applied] = {}
    notes: dict[str, tuple[str, ...]] = {}
    set_aside: tuple[DeviceSetAside, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[float, ...]:
        """Accuracies whose price was asked for, sorted."""
        listed = self.info.config.get("rounds.target_accuracies") or ()
        planned = self.info.config.get("plan.target_accuracy") or 0.0
        return tuple(sorted({each for each in (*listed, planned) if each}))

    @property
    def drawn(self) -> tuple[int, int] | None:
        """K and n where only k of the n planned devices take part in a round, else ``None``."""
        drawn, fleet = self.info.config.get("rounds.participants"), len(self.device_plans)
        return (drawn, fleet) if isinstance(drawn, int) and 0 < drawn < fleet else None

    @property
    def beyond_curve(self) -> str:
        """A sentence where a device has more samples than the learning curve was measured with."""
        held = [
            sum(share.synthetic_counts) + sum(self.profiles[device].label_counts)
            for device, share in self.device_plans.items()
            if device in self.profiles
        ]
        known = self.info.curve
        planned = self.plan is not None and self.plan.error is not None
        return known.beyond(max(held)) if known is not None and planned and held else ""

    @property
    def refitted_curve(self) -> str:
        """The learning curve as last fitted to the run, with its formula; empty if it never was."""
        for refit in self.learning_refits[-1:]:
            return f"fitted to the run after round {refit.round}: {refit.curve.law}"
        return ""

    @property
    def joined_late(self) -> dict[str, int]:
        """Devices that were used from a later round than the first, with that round."""
        since = {each.device: each.since_round or 1 for each in self.enrolments}
        return {device: number for device, number in since.items() if number > 1}

    @property
    def not_used(self) -> dict[str, str]:
        """Devices that have asked to take part and were not used, with the reason."""
        return {e.device: clean(e.why_not, 1000) for e in self.enrolments if e.why_not}

    @property
    def devices_train(self) -> bool:
        """Whether devices were to train in any round; before the first it is taken for granted."""
        return not self.rounds or any(each.participants for each in self.rounds)

    @property
    def changed_by_hand(self) -> tuple[Intervention, ...]:
        """What people have asked for while it went on and was done: it is no undisturbed run."""
        return tuple(each for each in self.interventions if each.done)

    @property
    def deadline_s(self) -> float | None:
        """T_max of the last rounds, s: as configured, or as somebody has set it meanwhile."""
        set_s = [
            each.request.deadline_s
            for each in self.changed_by_hand
            if isinstance(each.request, SetDeadline)
        ]
        configured = self.info.config.get("plan.deadline_s")
        own = float(configured) if isinstance(configured, int | float) else None
        return set_s[-1] if set_s else own

    def rounds_of(self, device: str) -> list[tuple[int, DeviceRound]]:
        """A device in each round that it was there, with the number of the round."""
        return list(self._by_device.get(device, ()))

    def residuals_of(self, device: str) -> list[Residual]:
        """The residuals of a device."""
        return self._residuals_by_device.get(device, [])

    @cached_property
    def _residuals_by_device(self) -> dict[str, list[Residual]]:
        found: dict[str, list[Residual]] = {}
        for each in self.residuals:
            found.setdefault(each.device, []).append(each)
        return found

    @cached_property
    def _by_device(self) -> dict[str, list[tuple[int, DeviceRound]]]:
        """The same of every device; looked up for each of a thousand."""
        found: dict[str, list[tuple[int, DeviceRound]]] = {}
        for result in self.rounds:
            for entry in result.devices:
                found.setdefault(entry.device, []).append((result.number, entry))
        return found

    def accepted_of(self, device: str) -> int:
        """How many updates of a device were accepted."""
        return sum(entry.status == "accepted" for _, entry in self.rounds_of(device))

    def stretches_of(self, device: str) -> list[DeviceStretch]:
        """A device before the first round and in every round."""
        before = [each for each in self.preparations if each.device == device]
        return [*before, *(entry for _, entry in self.rounds_of(device))]

    @property
    def devices(self) -> tuple[str, ...]:
        """All devices in the store, sorted."""
        seen = {device.device for result in self.rounds for device in result.devices}
        return tuple(sorted({*seen, *self.profiles, *self.device_plans}))
