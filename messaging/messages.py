"""The types of all messages between coordinator, generator node and edge agents.

A message is one JSON object; unknown fields are refused.

Coordinator and device talk in two documents, which the broker keeps. :class:`Desired` holds the
latest *order* of every kind to one device: :class:`Invitation`, :class:`DevicePlan`,
:class:`RoundStart`, :class:`RoundClosed`, :class:`DeploymentTest`, :class:`DeploymentClosed`,
:class:`RunEnded`. :class:`Reported` holds the *facts* of that device that are not in the run store
yet: :class:`Profile` or :class:`Refusal`, :class:`PlanApplied`, :class:`UpdateReady`,
:class:`RoundReport`, :class:`RoundSettled`, :class:`DeploymentReport`. Either side publishes its
document again until the other one's says that it was heard (docs/conversation.md).

The generator node gets a :class:`SyntheticRequest` for each device, and answers with
:class:`SyntheticProgress` and a :class:`SyntheticBatch`. Large payloads never travel in a message:
a message names them by an :class:`Offer`, and the receiver pulls them
(:mod:`fimi.messaging.transfers.exchange`). Beside all that, a device may say at a steady rate how
it is: :class:`Telemetry`, for which nothing waits.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fimi.energy.cost_model import BoardModel, OperatingPoint, Phase, PhaseCost
from fimi.energy.hardware import Applied, HardwareDescription, Observation
from fimi.energy.joules import Energy, Kind, Scope, share
from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.learning.data.contract import Contract, Way
from fimi.learning.data.use import in_use
from fimi.learning.training.classifier import Variant
from fimi.learning.training.coding import Coded, Coding
from fimi.learning.training.trainer import TrainingSettings

Count = Annotated[int, Meta(ge=0, le=2**48)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Hertz = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Role = Literal["device", "generator", "coordinator"]
MAX_EARLIER = 16
"""Most earlier starts of a device of which it has something to tell."""
Stage = Literal["idle", "fetching", "training", "offering", "settled"]
"""What a device does: nothing; it fetches samples, batch or model; it trains, or tries a model; its
update is ready; it has settled its last round."""


class Message(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """Base of all messages; the field ``type`` of the JSON object names the class."""


class RunMessage(Message, frozen=True, kw_only=True):
    """Base of the messages of a run, ``run``, and of what they hold."""

    run: str


class DeviceMessage(RunMessage, frozen=True, kw_only=True):
    """Base of the messages to, from or for one device of a run, ``device``, and their parts."""

    device: str


class RoundMessage(DeviceMessage, frozen=True, kw_only=True):
    """Base of the messages of one device in one round, ``round``, counted from 1."""

    round: Annotated[int, Meta(ge=1, le=2**48)]


class Offer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A payload that its holder serves to other peers.

    Attributes:
        holder: peer id of the holder.
        digest: SHA-256 of the whole payload.
        size_bytes: its size.
        media: type of the payload, for example ``"safetensors"``.
        rate_bps: highest rate at which the holder sends it, bit/s; ``None`` for unlimited.
        shared: whether it comes over a topic that all who want it may hear.
    """

    holder: str
    digest: Digest
    size_bytes: Count
    media: str
    rate_bps: Annotated[float, Meta(gt=0)] | None = None
    shared: bool = False


class Goodput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Size and duration of one transfer of payload.

    Attributes:
        phase: the phase it belongs to.
        size_bytes: size of the payload.
        duration_s: from the request until all of it had arrived, on the device's clock, s.
    """

    phase: Phase
    size_bytes: Count
    duration_s: Seconds

    @property
    def rate_bps(self) -> float | None:
        """Payload bits per second; ``None`` if no time has passed."""
        return 8.0 * self.size_bytes / self.duration_s if self.duration_s > 0.0 else None


class DeviceState(Message, frozen=True, kw_only=True, tag="state"):
    """Birth, heartbeat and death of a peer (retained; the last will says ``offline``).

    Attributes:
        peer: id of the peer.
        role: what kind of process it is.
        status: online or offline.
        boot_id: differs after every start, so that a late last will is recognised.
        protocol: version of the conversation that it speaks; the first one did not say.
        session: how many connections this start has had, the present one included: when it has
            grown, what was under way on the one before is lost. 0 in a last will.
        goodbye: its process has ended and says so itself; in a last will it is false, because the
            peer may be back in a second.
    """

    peer: str
    role: Role
    status: Literal["online", "offline"]
    boot_id: str
    protocol: Count = 1
    session: Count = 0
    goodbye: bool = False


class Telemetry(Message, frozen=True, kw_only=True, tag="telemetry"):
    """What a device says of itself at a steady rate; the latest counts.

    Attributes:
        device: id of the device.
        boot_id: of its start.
        number: grows by one with each of them, from 1: a gap is one that was lost.
        unix_s: when it was said, by the device's clock, UNIX time, s; shown, never compared.
        stage: what the device does.
        run: the run in which it works; empty outside of one.
        round: its latest round there; 0 for none.
        power_w: what it drew when its meter was read last, W; ``None`` if unknown.
        kind: kind of that power; ``None`` for a device that has no board yet.
        source: name of the meter.
        scope: what the meter sees.
        temperature_c: of the processor, °C; ``None`` if unknown.
    """

    device: str
    boot_id: str
    number: Annotated[int, Meta(ge=1, le=2**53)]
    unix_s: Annotated[float, Meta(ge=0, le=1e12)]
    stage: Stage
    run: str = ""
    round: Count = 0
    power_w: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    kind: Kind | None = None
    source: Annotated[str, Meta(max_length=200)] = ""
    scope: Scope | None = None
    temperature_c: Annotated[float, Meta(ge=-300, le=1000)] | None = None


class Lease(Message, frozen=True, kw_only=True, tag="lease"):
    """Who holds a peer id (retained, on the peer's own topic).

    Attributes:
        peer: the id.
        role: what kind of process holds it.
        boot_id: of the process.
        epoch: grows with every process that takes the id over.
        host: name of its machine.
        pid: its number there.
        since: when it took the id, ISO 8601, by its own clock; shown, never compared.
        held: whether it still does; false after an orderly end.
        what: what it does, for example ``"run desk-3"``; may be empty.
        nonce: of the :class:`Claim` that it answers; empty otherwise.
    """

    peer: str
    role: Role
    boot_id: str
    epoch: Annotated[int, Meta(ge=1, le=2**53)]
    host: str = ""
    pid: Count = 0
    since: str = ""
    held: bool = True
    what: str = ""
    nonce: str = ""


class Claim(Message, frozen=True, kw_only=True, tag="claim"):
    """A newcomer asks whether the holder of its id, ``peer``, is alive; answered by a lease."""

    peer: str
    nonce: str


class EmulatedDevice(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The board of a device that has no meter, so that it is the same in every process.

    Attributes:
        board: name of its make.
        seed: of the fleet.
        emulation: ``"model"`` or ``"physical"``.
        profile_error: relative standard deviation between the board and its profile.
        cycles_per_sample: CPU cycles to train on one sample on the reference board.
        radio: ``"wifi"``, the make's own, or ``"paper"``, whose power can be set.
        meter: family of its meter (:data:`fimi.energy.emulation.meter_families.MeterFamily`).
    """

    board: str
    seed: Count
    emulation: Literal["model", "physical"]
    profile_error: Annotated[float, Meta(ge=0, le=1)]
    cycles_per_sample: Annotated[float, Meta(gt=0)]
    radio: Literal["wifi", "paper"] = "wifi"
    meter: Literal["preset", "counter", "chip", "averaging", "plug", "battery"] = "preset"


class Invitation(DeviceMessage, frozen=True, kw_only=True, tag="invitation"):
    """Coordinator to device: take part, with these samples.

    Attributes:
        index: of the device in this run, from 0; fixed for the run.
        contract: the data of the run.
        way: how the device gets its samples.
        share: its indices, or its samples; ``None`` where it has a file of its own.
        hashes: salted hashes of the test and the public images; ``None``: nothing to compare with.
        emulated: the board of a device without a meter.
    """

    index: Count
    contract: Contract
    way: Way
    share: Offer | None = None
    hashes: Offer | None = None
    emulated: EmulatedDevice | None = None


class Refusal(DeviceMessage, frozen=True, kw_only=True, tag="refusal"):
    """Device to coordinator: it cannot take part, and why, in one sentence."""

    reason: str


class Profile(DeviceMessage, frozen=True, kw_only=True, tag="profile"):
    """The profile of a device, which confirms the contract.

    Attributes:
        boot_id: id of this start.
        contract: digest of the contract that it has checked its data against.
        fingerprint: salted digest of its images, by which equal data are noticed.
        dataset: name of the data set, which defines the labels, for example ``"digits"``.
        label_counts: local samples per class; nothing else about its data leaves the device.
        hardware: board and meter.
        board: cost parameters.
        backend: trainers that are installed, for example ``"onnxruntime 1.31, torch 2.6"``.
        exposed: whether it reaches the broker without TLS, or without a password or certificate.
    """

    run: str = ""
    boot_id: str
    exposed: bool = False
    contract: str = ""
    fingerprint: str = ""
    dataset: str
    label_counts: tuple[Count, ...]
    hardware: HardwareDescription
    board: BoardModel
    backend: str


class SyntheticRequest(DeviceMessage, frozen=True, kw_only=True, tag="synthetic-request"):
    """Coordinator to generator node: make these images for this device.

    Attributes:
        instance: of the run.
        contract: the data of the run; a node with other data refuses.
        counts: images per class.
        seed: determines the images.
        unlabelled: whether the batch holds the images alone, in an order that does not show their
            classes.
        skip: images of each class that earlier requests brought; these follow them. Empty: none.
    """

    instance: str = ""
    contract: Contract | None = None
    counts: tuple[Count, ...]
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    unlabelled: bool = False
    skip: tuple[Count, ...] = ()


class SyntheticBatch(DeviceMessage, frozen=True, kw_only=True, tag="synthetic-batch"):
    """Generator node to coordinator: a device's batch is ready (or as much of it as could be made).

    Attributes:
        instance: of the run that has asked for it.
        skip: of the request: what earlier batches had brought.
        delivered: images per class in the batch.
        offer: the offer of the batch; ``None`` if it is empty.
        seconds: wall time of making it, s.
        generator: its generator, for example ``"digits-ddpm (dpm++, 20 steps)"``.
        drawn: images that were drawn for it now, without those from the node's pool.
        refused: how many of those the quality gate refused, by reason.
        energy: energy of drawing them on the node, idle power included; ``None`` if unmetered.
        error: why it has fewer images than requested, or empty.
    """

    instance: str = ""
    skip: tuple[Count, ...] = ()
    delivered: tuple[Count, ...]
    offer: Offer | None
    seconds: Seconds
    generator: str
    drawn: Count = 0
    refused: dict[str, Count] = {}
    energy: Energy | None = None
    error: str = ""


class SyntheticProgress(RunMessage, frozen=True, kw_only=True, tag="synthetic-progress"):
    """Generator node to coordinator, at most once a second while it draws: its progress.

    Attributes:
        instance: of the run that has asked.
        devices_done: batches that are ready.
        devices_asked: batches that were requested.
        lacking: images still to be drawn for the other batches, if none is refused.
        images_per_s: images drawn per second since the last such message.
    """

    instance: str = ""
    devices_done: Count
    devices_asked: Count
    lacking: Count
    images_per_s: Annotated[float, Meta(ge=0)]


class TopUp(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Images that a device gets in a run beside its first batch.

    Attributes:
        skip: images of each class that it had before; empty: none.
        counts: images per class, as delivered.
        batch: their offer.
        fleet_time_s: when they were sent, on the fleet's clock, s.
        booked: their receipt is in the run store: an emulated board gets them at no cost.
    """

    skip: tuple[Count, ...]
    counts: tuple[Count, ...]
    batch: Offer
    fleet_time_s: Seconds
    booked: bool = False


class DevicePlan(DeviceMessage, frozen=True, kw_only=True, tag="plan"):
    """Coordinator to device: its plan, which holds until another one comes.

    Attributes:
        device_index: position in the plan; with the round it seeds the batch order.
        synthetic_counts: synthetic samples per class, as delivered, those of top-ups included.
        synthetic_use: share of them that rounds train on, the first of each class.
        batch: the offer of the synthetic batch; ``None`` for no synthetic data.
        top_ups: what was sent later, in order.
        point: the operating point.
        predicted: seconds and joules per phase of one round.
        fleet_time_s: present time of the fleet's clock, s; emulated boards set theirs by it.
        unlabelled: number of images in a batch without labels, else 0; the device labels them again
            every round with the global model.
        confidence_min: least probability of a label for its image to be trained on.
        booked: the batch's receipt is in the run store: an emulated board gets it at no cost.
    """

    device_index: Count
    synthetic_counts: tuple[Count, ...]
    synthetic_use: Share = 1.0
    batch: Offer | None
    top_ups: tuple[TopUp, ...] = ()
    point: OperatingPoint
    predicted: tuple[PhaseCost, ...]
    fleet_time_s: Seconds = 0.0
    unlabelled: Count = 0
    confidence_min: Share = 0.0
    booked: bool = False

    @property
    def used_counts(self) -> tuple[int, ...]:
        """Synthetic samples per class that rounds train on."""
        return in_use(self.synthetic_counts, self.synthetic_use)


class PlanApplied(DeviceMessage, frozen=True, kw_only=True, tag="plan-applied"):
    """Device to coordinator: the plan is in force, and the synthetic batch has arrived.

    Attributes:
        applied: what was set and read back.
        phases: the metered phase of receiving the batch.
        error: why the plan could not be followed, or empty.
        transfers: goodput of the batch.
        evidence: what readings said so far, beside the energy of phases: the resting power.
        top_ups: how many of the plan's top-ups the device holds.
    """

    applied: Applied | None
    phases: tuple[PhaseRecord, ...]
    error: str = ""
    transfers: tuple[Goodput, ...] = ()
    evidence: Evidence | None = None
    top_ups: Count = 0


class RoundStart(RoundMessage, frozen=True, kw_only=True, tag="round-start"):
    """Coordinator to device: train.

    Attributes:
        model: the global model.
        graphs: training and evaluation as ONNX graphs; ``None`` if devices need PyTorch.
        training: training settings.
        seed: seed of the run; with device and round it determines the order of batches.
        fleet_time_s: the round's beginning on the fleet's clock (virtual time of emulated boards).
        model_coding: how ``model`` is coded.
        update_coding: how the update is to be coded; anything but ``"fp32"`` is the difference from
            the decoded ``model``.
        model_bytes: size of the model in single precision; 0: that of ``model``.
        late_rounds: so many rounds late the update may still be: it enters the mean of another
            round then. 0: whoever is not done when the round is closed breaks off.
    """

    model: Offer
    training: TrainingSettings
    seed: Count
    fleet_time_s: Seconds
    graphs: Offer | None = None
    model_coding: Coding = Coding()
    update_coding: Coding = Coding()
    model_bytes: Count = 0
    late_rounds: Count = 0


class UpdateReady(RoundMessage, frozen=True, kw_only=True, tag="update-ready"):
    """Device to coordinator: it has trained, and ``update`` can be pulled, coded as asked."""

    update: Offer


class RoundReport(RoundMessage, frozen=True, kw_only=True, tag="round-report"):
    """Device to coordinator: the round report, after the update was pulled.

    Attributes:
        local_samples: real samples trained on per epoch.
        synthetic_samples: synthetic samples trained on per epoch; of unlabelled ones, those kept.
        training_loss: mean loss of the last epoch; ``None`` if it did not train to the end.
        training_accuracy: accuracy of the last epoch; ``None`` likewise.
        frequency_hz: achieved CPU frequency, or ``None`` if unknown.
        busy_s: from the round's start until the upload ended, device's clock; without ``waited_s``
            and without what was sent to a coordinator that was gone before it had all.
        waited_s: in which the update was ready and the coordinator did not pull it yet, s.
        phases: phases metered since the last report.
        backend: backend of the training, for example ``"onnxruntime 1.31"``; empty if it did not
            train.
        error: what went wrong, or empty.
        transfers: goodput of model and update.
        observed: frequency, throttling, link and the cost of monitoring since the last report.
        unlabelled: number of images that it labelled.
        trained_at: when training began and ended by the machine's own clock, UNIX time, s; wall
            time also where ``phases`` are emulated.
        evidence: what readings said since the last report, beside the energy of phases.
        coded: what the coding of the update did; ``None`` where it went as it is, or not at all.
    """

    local_samples: Count
    synthetic_samples: Count
    training_loss: float | None
    training_accuracy: Share | None
    frequency_hz: Hertz | None
    busy_s: Seconds
    waited_s: Seconds = 0.0
    phases: tuple[PhaseRecord, ...]
    backend: str = ""
    error: str = ""
    transfers: tuple[Goodput, ...] = ()
    observed: Observation | None = None
    unlabelled: Count = 0
    trained_at: tuple[float, float] | None = None
    evidence: Evidence | None = None
    coded: Coded | None = None


class RoundClosed(RoundMessage, frozen=True, kw_only=True, tag="round-closed"):
    """Coordinator to device: the round is over for all devices.

    Attributes:
        accepted: whether this device's update went into the model.
        late: it did not, and may still enter that of a later round.
        began_s: the round's beginning on the fleet's clock.
        fleet_time_s: the round's end on the fleet's clock.
        last: no round follows: the device rests until its meter can tell what it draws then.
    """

    accepted: bool
    late: bool = False
    last: bool = False
    began_s: Seconds = 0.0
    fleet_time_s: Seconds


class RoundSettled(RoundMessage, frozen=True, kw_only=True, tag="round-settled"):
    """Device to coordinator: the idle phase, in which it waited for the others.

    Attributes:
        phases: phases metered since the last report, and those of that report that readings which
            came later say more of.
        error: what went wrong, or empty.
        evidence: what readings said since the last report, beside the energy of phases.
    """

    phases: tuple[PhaseRecord, ...]
    error: str = ""
    evidence: Evidence | None = None


class ModelFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A trained network as an ONNX file, with the arithmetic ``variant``."""

    variant: Variant
    model: Offer


class DeploymentTest(RoundMessage, frozen=True, kw_only=True, tag="deployment-test"):
    """Coordinator to device: run the model exported after ``round`` as a user would.

    Attributes:
        files: the files to run.
        images: number of its own images to classify, one at a time, from the first again after the
            last.
        seconds: least duration on the device's clock, s.
        training_share: work of an inference over that of training on one sample, by which emulated
            boards let time pass.
    """

    files: tuple[ModelFile, ...]
    images: Annotated[int, Meta(ge=1, le=2**24)]
    seconds: Seconds
    training_share: Annotated[float, Meta(gt=0, le=1)]


class Trial(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a device ran a file.

    Attributes:
        variant: which file.
        inferences: number of timed and metered inferences, one image each.
        images: number of different images.
        accuracy: share of those that it classified right; ``None`` if it could not run the file.
        latency_median_s: median latency of an inference, s.
        latency_p95_s: 95th percentile, s.
        latency_kind: ``measured``, or ``emulated`` in virtual time.
        metered: the phase of all inferences.
        above: the energy of all inferences above resting, which is measured before and after them;
            ``None`` where it was not.
        error: why it could not run the file, or empty.
    """

    variant: Variant
    inferences: Count = 0
    images: Count = 0
    accuracy: Share | None = None
    latency_median_s: Seconds | None = None
    latency_p95_s: Seconds | None = None
    latency_kind: Literal["measured", "emulated"] = "measured"
    metered: PhaseRecord | None = None
    above: Energy | None = None
    error: str = ""

    @property
    def energy_j(self) -> float | None:
        """Energy of one inference, whole board, J; ``None`` if unmetered or not resolved."""
        if self.metered is None or not self.metered.resolved:
            return None
        energy = self.metered.energy
        return energy.value_j / self.inferences if energy and self.inferences else None

    @property
    def above_one(self) -> Energy | None:
        """Energy of one inference above resting; ``None`` if unknown."""
        return share(self.above, 1.0 / self.inferences) if self.above and self.inferences else None


class DeploymentReport(RoundMessage, frozen=True, kw_only=True, tag="deployment-report"):
    """Device to coordinator: how the trained model ran.

    Attributes:
        trials: one for each file.
        seconds: duration of all trials, downloads included, on the device's clock, s.
    """

    trials: tuple[Trial, ...]
    seconds: Seconds


class DeploymentClosed(RoundMessage, frozen=True, kw_only=True, tag="deployment-closed"):
    """Coordinator to device: the trial after ``round`` is over, and rounds go on.

    ``fleet_time_s`` is the present time of the fleet's clock. The energy since the last round
    belongs to no round.
    """

    fleet_time_s: Seconds


class RunEnded(RunMessage, frozen=True, kw_only=True, tag="run-ended"):
    """Coordinator to all: the run is over for now: ``completed``, or why it ended early.

    Attributes:
        reason: why, in one sentence.
        instance: of the run.
    """

    reason: str
    instance: str = ""


class Heard(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All facts of a device's start ``boot_id`` up to ``fact`` are in the run store.

    ``earlier`` says the same of starts before it, of which the device has told facts since: the
    number of the last one by boot id.
    """

    boot_id: str = ""
    fact: Count = 0
    earlier: Annotated[dict[str, Count], Meta(max_length=MAX_EARLIER)] = {}


class Desired(DeviceMessage, frozen=True, kw_only=True, tag="desired"):
    """Coordinator to device: what is wanted of it (retained; a later one replaces it).

    Of two documents the one with the greater ``(epoch, number)`` holds. The orders are the latest
    of their kind; :mod:`fimi.edge_agent.course` says what follows from them.

    Attributes:
        instance: of the run.
        epoch: of the coordinator.
        number: grows with every change.
        heard: what is in the run store.
    """

    instance: str
    epoch: Annotated[int, Meta(ge=1, le=2**53)]
    number: Annotated[int, Meta(ge=1, le=2**53)]
    heard: Heard = Heard()
    invitation: Invitation | None = None
    plan: DevicePlan | None = None
    start: RoundStart | None = None
    closed: RoundClosed | None = None
    test: DeploymentTest | None = None
    resume: DeploymentClosed | None = None
    ended: RunEnded | None = None

    @property
    def fleet_time_s(self) -> float:
        """The latest time of the fleet's clock that it tells, s; emulated boards begin there."""
        told = (self.plan, self.closed, self.resume, self.start)
        return max((order.fleet_time_s for order in told if order is not None), default=0.0)


FactBody = (
    Profile | Refusal | PlanApplied | UpdateReady | RoundReport | RoundSettled | DeploymentReport
)
"""What a device can report."""


class Fact(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fact with its number; a device counts from 1 after each of its starts."""

    number: Annotated[int, Meta(ge=1, le=2**53)]
    body: FactBody


class EarlierFacts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Facts of a start of a device that is over, as that start has numbered them."""

    boot_id: str
    facts: tuple[Fact, ...]


class Reported(DeviceMessage, frozen=True, kw_only=True, tag="reported"):
    """Device to coordinator: what has become of its orders (retained; a later one replaces it).

    Attributes:
        instance: of the run that it takes part in.
        boot_id: of this start of the device.
        number: grows with every change.
        epoch: of the newest :class:`Desired` that it has taken in.
        heard: the number of that document.
        stage: what the device does.
        waits_for: for whom or what it waits, in words; empty if it does not.
        meter: that its meter shows nothing, or that it reads again; empty if it always did.
        facts: what is not in the run store yet, as far as the device has been told.
        earlier: the same of earlier starts, oldest first.
    """

    instance: str
    boot_id: str
    number: Annotated[int, Meta(ge=1, le=2**53)]
    epoch: Annotated[int, Meta(ge=0, le=2**53)]
    heard: Annotated[int, Meta(ge=0, le=2**53)]
    stage: Stage
    waits_for: str = ""
    meter: Annotated[str, Meta(max_length=400)] = ""
    facts: tuple[Fact, ...] = ()
    earlier: Annotated[tuple[EarlierFacts, ...], Meta(max_length=MAX_EARLIER)] = ()


AnyMessage = (
    DeviceState
    | Lease
    | Claim
    | Desired
    | Reported
    | Telemetry
    | SyntheticRequest
    | SyntheticBatch
    | SyntheticProgress
    | RunEnded
)
"""Every message, for decoding: the field ``type`` decides."""
