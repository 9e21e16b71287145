"""The sections ``plan``, ``rounds``, ``transfer``, ``deployment`` and ``strategy``.

The text in the annotation of a key is its description, which ``fimi init`` writes.
:class:`FederationSettings` says what a coordinator reads of a whole configuration.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct

from fimi.learning.training.coding import Coding, Rounding
from fimi.learning.training.robust import AggregationRule, Kind
from fimi.learning.training.trainer import TrainingSettings
from fimi.optim.problem import Objective
from fimi.optim.rounds_defaults import EPOCHS_EXPONENT, ROUNDS_SCALE, ROUNDS_SENSITIVITY

WeightPolicy = Literal["constant", "scheduled", "performance"]
ClientWeights = Literal["size", "quality", "contribution"]

BAND_PER_DEVICE_HZ = 20e3
"""A device's share of the uplink band where none is configured, Hz."""
BAND_ALONE_HZ = 200e3
"""That of a fleet of one, Hz: it has all the data, and little of a round is left for sending."""


def default_band_hz(devices: int) -> float:
    """The uplink band of a fleet of so many devices where none is configured, Hz."""
    return BAND_ALONE_HZ if devices == 1 else BAND_PER_DEVICE_HZ * devices


class PlanSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The limits of the optimisation problem and the search that solves it."""

    objective: Annotated[
        Objective,
        'Energy that a plan makes least. "board": of whole boards, idle power over the whole round '
        'included, as a meter at the plug sees it; "dynamic": compute and upload above idle, the '
        "paper's.",
    ] = "board"
    deadline_s: Annotated[
        float, Meta(gt=0, le=86400), "T_max: a round ends after this time, on the fleet's clock, s."
    ] = 10.0
    deadline_margin: Annotated[
        float,
        Meta(ge=0, lt=1),
        "Share of the deadline that the plan leaves free for fading and load.",
    ] = 0.1
    error_max: Annotated[
        float, Meta(gt=0, le=1), "Δ_max: largest allowed mean local learning error, 0 to 1."
    ] = 0.11
    curve: Annotated[
        str,
        Meta(min_length=1),
        'Learning curve Δ(D) = α D^(−β) + δ0. "auto": curve_* if given, else the built-in one of '
        'this data set, network and training, else "fit"; "fit": measured on the public part when '
        'a run starts, and kept below run.directory; "given": curve_*; or a file that '
        "fimi learning-curve --write has written.",
    ] = "auto"
    curve_alpha: Annotated[float, Meta(ge=0, le=1e6), "α of a curve that is given; 0: none is."] = (
        0.0
    )
    curve_beta: Annotated[float, Meta(ge=0, le=5), "β of a curve that is given."] = 0.0
    curve_delta0: Annotated[
        float, Meta(ge=0, lt=1), "δ0 of a curve that is given: error that no data removes."
    ] = 0.0
    curve_seconds: Annotated[
        float, Meta(gt=0), "Most time for measuring a curve when a run starts, wall time, s."
    ] = 600.0
    synthetic_value: Annotated[
        float,
        Meta(ge=1e-6, le=1),
        "q: how many real samples a synthetic one is worth to the learning curve, "
        'as "fimi generator evaluate" finds it for a number of images; 1: as many as it costs, '
        "one.",
    ] = 1.0
    synthetic_max: Annotated[int, Meta(ge=0), "Most synthetic samples that one device may get."] = (
        500
    )
    bandwidth_hz: Annotated[
        float,
        Meta(ge=0, le=1e11),
        "B: uplink band that all devices share, Hz; 0: 20 kHz for each device, "
        "200 kHz for one alone.",
    ] = 0.0
    device_budget_j: Annotated[
        float,
        Meta(ge=0),
        "Most board energy that each device may take in all rounds, J (a battery); 0: no limit.",
    ] = 0.0
    fleet_budget_j: Annotated[
        float, Meta(ge=0), "The same for the whole fleet, J; 0: no limit."
    ] = 0.0
    candidates: Annotated[
        int,
        Meta(ge=0, le=100_000),
        "Candidates per iteration of the search; 0: follows from the fleet's size.",
    ] = 0
    iterations: Annotated[int, Meta(ge=1, le=10_000), "Most iterations of the search."] = 200
    gap_tolerance_percent: Annotated[
        float, Meta(gt=0), "A plan that is not further above its certified bound counts as optimal."
    ] = 0.01
    search: Annotated[
        Literal["dual", "cold"],
        'Where the cross-entropy search begins: "dual", at the plan of the dual decomposition; '
        '"cold", at even splits, as in the paper, with a number of candidates that grows with the '
        "fleet.",
    ] = "dual"
    inner: Annotated[
        Literal["fast", "reference"],
        'Who solves the inner problems: "fast", our own; "reference", CVXPY, some '
        "hundred times slower.",
    ] = "fast"
    target_accuracy: Annotated[
        float,
        Meta(ge=0, lt=1),
        "Accuracy to reach: error_max, the local epochs, and with them the length of a round, are "
        "then chosen so that the predicted joules to reach it are least; 0: error_max as given.",
    ] = 0.0
    choose_epochs: Annotated[
        bool,
        "With target_accuracy: choose the local epochs of a round among 1, 2, 3, 5, 8, … up to "
        "epochs_max, and training.epochs; false: training.epochs as given.",
    ] = True
    epochs_max: Annotated[
        int, Meta(ge=1, le=1000), "Most local epochs that are chosen; 1: training.epochs or 1."
    ] = 8
    refit_percent: Annotated[
        float,
        Meta(ge=0),
        "A device whose predicted joules or busy time are off by more than this on "
        "average over refit_window rounds makes the coordinator refit all boards and plan "
        "frequency, bandwidth and power again, %; 0: never.",
    ] = 15.0
    refit_window: Annotated[
        int, Meta(ge=1, le=1000), "Rounds that drift and refit look back on."
    ] = 3
    error_drift: Annotated[
        float,
        Meta(ge=0, lt=1),
        "The learning curve is fitted to the run, and data are planned again (devices get the "
        "images that they lack by it), where the errors of devices' models fall to another level "
        "than the planned one by more than this, 0 to 1; 0: never.",
    ] = 0.02
    synthetic_schedule: Annotated[
        tuple[Annotated[float, Meta(ge=0, le=1)], ...],
        "Share of a device's synthetic images that is trained on, in each round from the first; "
        "the last one holds for all rounds after. Frequency, bandwidth and power are planned for "
        "it. Empty: all of them in every round, but for fade_at_target. It is for strategies that "
        "give devices labelled images; others have no images, or use all of them.",
    ] = ()
    fade_at_target: Annotated[
        bool,
        "With target_accuracy and without a schedule: rounds train on local data alone as long as "
        "the global model has that accuracy on images for validation.",
    ] = True
    rounds_scale: Annotated[
        float,
        Meta(gt=0),
        "r of rounds(Δ, E) = r ln(1/(1 − accuracy)) e^(cΔ) (E/5)^(−κ); for target_accuracy only.",
    ] = ROUNDS_SCALE
    rounds_sensitivity: Annotated[
        float, Meta(gt=0), "c of rounds(Δ, E); for target_accuracy only."
    ] = ROUNDS_SENSITIVITY
    rounds_epochs_exponent: Annotated[
        float, Meta(ge=0, le=10), "κ of rounds(Δ, E); for target_accuracy only."
    ] = EPOCHS_EXPONENT

    @property
    def epochs_choices(self) -> tuple[int, ...]:
        """Local epochs to choose among; empty where they are not chosen."""
        if not (self.target_accuracy and self.choose_epochs):
            return ()
        found = [1, 2]
        while found[-1] + found[-2] <= self.epochs_max:
            found.append(found[-1] + found[-2])
        return tuple(each for each in found if each <= self.epochs_max)

    def use_in(self, number: int) -> float:
        """Share of the synthetic images that a round, from 1, trains on."""
        schedule = self.synthetic_schedule
        return schedule[min(number, len(schedule)) - 1] if schedule else 1.0


class RoundSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The number of rounds, participants, and how long to wait for devices."""

    count: Annotated[int, Meta(ge=1, le=100_000), "Rounds of training."] = 20
    participants: Annotated[
        int,
        Meta(ge=0),
        "Devices that take part in a round, drawn anew for each by run.seed; the "
        "others idle, and their idle energy counts. 0: all. If fewer are there, those are.",
    ] = 0
    insight_every: Annotated[
        int,
        Meta(ge=0),
        "Rounds from one look at the devices' updates to the next, the first and the last round "
        "always: local errors, orthogonality, similarity of gradients and updates to those of IID "
        "data. Takes the server about an evaluation and one pass over its data for each device; "
        "0: never.",
    ] = 5
    aggregation: Annotated[
        Kind,
        'How updates become one model. "mean": by training samples; "median" and "trimmed-mean": '
        'each number by itself, every device once; "krum": of the updates that lie nearest to the '
        "others.",
    ] = "mean"
    trimmed_share: Annotated[
        float,
        Meta(ge=0, lt=0.5),
        'aggregation = "trimmed-mean": share of the updates that is left out at each end, rounded '
        "up.",
    ] = 0.1
    byzantine: Annotated[
        int,
        Meta(ge=0, le=1000),
        'aggregation = "krum": how many updates of a round may be wrong; at most (n − 3)/2 of n '
        "are taken into account.",
    ] = 1
    krum_kept: Annotated[
        int,
        Meta(ge=0, le=1000),
        'aggregation = "krum": how many updates are chosen, whose mean is the model; 0: all but '
        "rounds.byzantine.",
    ] = 1
    clip_factor: Annotated[
        float,
        Meta(ge=0, le=1e6),
        "An update is clipped if the norm of its change is above this times the usual one: the "
        "median of the round; 0: never. Honest ones have come to 15.",
    ] = 30.0
    clip_to: Annotated[
        float,
        Meta(gt=0, le=1e6),
        "Norm that such a change is clipped to, times the usual one.",
    ] = 1.0
    refuse_factor: Annotated[
        float,
        Meta(ge=0, le=1e12),
        "An update is refused if the norm of its change is above this times the usual one; 0: "
        "never.",
    ] = 1000.0
    set_aside_after: Annotated[
        int,
        Meta(ge=0, le=100_000),
        "A device whose updates were clipped or refused so many times in a row trains no more in "
        "this run; 0: it may always try again.",
    ] = 3
    target_accuracies: Annotated[
        tuple[Annotated[float, Meta(gt=0, le=1)], ...],
        "Accuracies whose price in rounds, joules, seconds and bytes is reported, "
        "beside plan.target_accuracy; nothing is planned by them.",
    ] = ()
    quorum: Annotated[
        int,
        Meta(ge=0, le=1000),
        "Devices with which a run starts when gather_timeout_s is over; the others are planned "
        "for when they come. 0: more than half of fleet.devices.",
    ] = 0
    min_devices: Annotated[
        int, Meta(ge=1), "With fewer devices to start a round with, the run ends."
    ] = 1
    gather_timeout_s: Annotated[
        float, Meta(gt=0), "Wall time to wait for devices and generator at the start, s."
    ] = 90.0
    wall_timeout_s: Annotated[
        float,
        Meta(gt=0),
        "Wall time after which a round of emulated devices is closed with whoever "
        "reported, s. A round of physical devices is closed at its deadline.",
    ] = 120.0
    grace_s: Annotated[
        float,
        Meta(ge=0, le=86400),
        "Wall time for which a device keeps its place in a round, its plan and its downloads after "
        "its connection was lost, s, as long as the round lasts. Not for one whose agent was ended "
        "in order: it says so.",
    ] = 60.0
    round_quorum: Annotated[
        float,
        Meta(ge=0, le=1000),
        "Updates with which a round may end before its deadline: a number, or below 1 a share of "
        "its participants; 0: it waits for all.",
    ] = 0.0
    round_quorum_grace_s: Annotated[
        float,
        Meta(ge=0, le=86400),
        "With round_quorum: how long the others have from then on, s, on the fleet's clock.",
    ] = 0.0
    round_budget_j: Annotated[
        float,
        Meta(ge=0),
        "Joules of all boards in one round, idle power included, at which it ends: as reported, "
        "and as predicted of those that have not reported yet; 0: no limit.",
    ] = 0.0
    late_updates: Annotated[
        Literal["drop", "add"],
        'What becomes of an update that is ready after its round was over. "drop": nothing, and a '
        'device breaks off what it still does; "add": the device finishes, and its update enters '
        "the mean of a later round with less weight.",
    ] = "drop"
    late_exponent: Annotated[
        float,
        Meta(ge=0, le=10),
        "a of the weight (1 + s)^(−a) of an update that is s rounds late, times its samples.",
    ] = 0.5
    late_rounds: Annotated[
        int, Meta(ge=1, le=20), "s of the latest update that is still added."
    ] = 5
    readings: Annotated[
        bool,
        "Devices report the readings of their meters too, a few kilobytes a round: with them "
        "'fimi verify' computes every joule again.",
    ] = True

    @property
    def rule(self) -> AggregationRule:
        """How updates become one model."""
        return AggregationRule(
            kind=self.aggregation,
            trimmed_share=self.trimmed_share,
            byzantine=self.byzantine,
            kept=self.krum_kept,
        )

    def looks_into(self, number: int) -> bool:
        """Whether there is an insight of a round, counted from 1."""
        every = self.insight_every
        return every > 0 and (number in (1, self.count) or number % every == 0)


class TransferSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How models and updates are coded on their way: fewer bytes, fewer joules, some error."""

    model_coding: Annotated[
        Literal["fp32", "fp16", "int8"],
        'How the global model goes to devices. "fp32": as it is; "fp16": half the bytes; "int8": a '
        "quarter. The coordinator keeps it in single precision, and adds to that what devices have "
        "changed.",
    ] = "fp32"
    update_coding: Annotated[
        Literal["fp32", "fp16", "int8", "top-k"],
        'How updates come back. "fp32": as they are; "fp16", "int8", "top-k" (the largest changes '
        "only): coded is what the device has changed in the model.",
    ] = "fp32"
    rounding: Annotated[
        Rounding,
        'How an update is rounded to 8 bits. "nearest": least error; "stochastic": none on '
        "average, drawn by run.seed.",
    ] = "nearest"
    top_k_share: Annotated[
        float, Meta(gt=0, le=1), "Share of its values that top-k sends of an update."
    ] = 0.05
    error_feedback: Annotated[
        bool,
        "Devices keep what top-k leaves out, and add it to their next update.",
    ] = True
    compress: Annotated[
        bool,
        "Compress both with Zstandard, which loses nothing. A plan then predicts sizes: by the "
        "first model, and when it is made again by the last round.",
    ] = False

    @property
    def of_model(self) -> Coding:
        """The coding of the global model."""
        return Coding(kind=self.model_coding, compress=self.compress)

    @property
    def of_update(self) -> Coding:
        """The coding of updates; what it makes no use of has its default."""
        plain, kind = Coding(), self.update_coding
        return Coding(
            kind=kind,
            share=self.top_k_share if kind == "top-k" else plain.share,
            rounding=self.rounding if kind == "int8" else plain.rounding,
            feedback=self.error_feedback if kind == "top-k" else plain.feedback,
            compress=self.compress,
        )


class DeploymentSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Exporting the trained model as ONNX, and trying it on the devices."""

    export: Annotated[bool, "Write the global model as model.onnx, checked against PyTorch."] = True
    quantise: Annotated[
        bool, "Write model-int8.onnx too: weights in 8 bits, a quarter of the size."
    ] = True
    devices: Annotated[
        int,
        Meta(ge=0, le=1000),
        "Most devices that try the exported model on their own images, the first "
        "by name; 0: none. Its joules are metered apart from the rounds'.",
    ] = 10
    every_rounds: Annotated[
        int, Meta(ge=0), "Export and try after every so many rounds; 0: at the end only."
    ] = 0
    images: Annotated[
        int, Meta(ge=1, le=1_000_000), "Own images that a device classifies, one at a time."
    ] = 50
    seconds: Annotated[
        float,
        Meta(ge=0, le=3600),
        "A device goes on for at least so long, s; a slow meter needs many of its readings.",
    ] = 0.5


class StrategySettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Training on the server (genfl, fimi-genfl, aigc-only, sst) and pseudo-labels (semi)."""

    images_per_round: Annotated[
        int,
        Meta(ge=1, le=100_000),
        "genfl, fimi-genfl, aigc-only: images of each class by which the server's "
        "set grows every round.",
    ] = 10
    images_max: Annotated[
        int, Meta(ge=1, le=1_000_000), "The same: most images of each class in that set."
    ] = 300
    server_epochs: Annotated[
        int,
        Meta(ge=0, le=1000),
        "Passes over its images in each training of the server; 0: training.epochs.",
    ] = 0
    weights: Annotated[
        WeightPolicy,
        'genfl, fimi-genfl: weight κ2 of the server\'s model. "constant": '
        'server_weight; "scheduled": from there in equal steps to server_weight_end in the '
        'last round; "performance": by the errors of both models on validation images.',
    ] = "constant"
    client_weights: Annotated[
        ClientWeights,
        'Weight of a device\'s model in the mean, where devices train. "size": its training '
        'samples; "quality": these over the error of its model on images for validation; '
        '"contribution": these times the error on them of the mean without it.',
    ] = "size"
    server_weight: Annotated[
        float, Meta(ge=0, le=1), "κ2, of the first round where it is scheduled."
    ] = 0.3
    server_weight_end: Annotated[
        float, Meta(ge=0, le=1), 'κ2 of the last round with weights = "scheduled".'
    ] = 0.0
    validation_images: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        'Most images for validation by which models are judged with weights = "performance", or '
        'with client_weights = "quality" or "contribution".',
    ] = 1000
    unlabelled: Annotated[
        Literal["public", "synthetic"],
        'semi: which images devices get without labels: "public", or "synthetic" '
        "ones of the configured generator.",
    ] = "public"
    confidence_min: Annotated[
        float,
        Meta(ge=0, le=1),
        "semi: an image is trained on in a round in which the global model is at "
        "least this sure of its label.",
    ] = 0.9


class RunSection(Protocol):
    """Section ``run``, as far as a coordinator reads it."""

    @property
    def strategy(self) -> str:
        """Name of the strategy, see :mod:`fimi.coordinator.strategies`."""

    @property
    def seed(self) -> int:
        """Seed of everything that is drawn."""


class FleetSection(Protocol):
    """Section ``fleet``, as far as a coordinator reads it."""

    @property
    def devices(self) -> int:
        """Number of devices to wait for."""

    @property
    def members(self) -> tuple[str, ...]:
        """Their names by index; empty: whoever comes."""


class GeneratorSection(Protocol):
    """Section ``generator``, as far as a coordinator reads it."""

    @property
    def images_max(self) -> int:
        """The most images in one request to a generator node."""


class FederationSettings(Protocol):
    """A configuration, as far as a coordinator reads it: its sections by name."""

    @property
    def run(self) -> RunSection:
        """Strategy and seed."""

    @property
    def fleet(self) -> FleetSection:
        """The number of devices."""

    @property
    def training(self) -> TrainingSettings:
        """Training settings of devices."""

    @property
    def plan(self) -> PlanSettings:
        """Limits and search."""

    @property
    def rounds(self) -> RoundSettings:
        """Number of rounds, and limits on waiting."""

    @property
    def transfer(self) -> TransferSettings:
        """Coding of models and updates."""

    @property
    def deployment(self) -> DeploymentSettings:
        """Export and trial of the trained model."""

    @property
    def strategy(self) -> StrategySettings:
        """Settings of strategies that train on the server or with pseudo-labels."""

    @property
    def generator(self) -> GeneratorSection:
        """Limit on a request to the generator node."""
