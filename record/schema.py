"""The tables of a run store, each described once.

A new column is one more entry here, and nothing else: see :mod:`fimi.record.description` for what
follows from an entry. :func:`~fimi.record.description.energy` makes the five columns of a joule:
``energy_j``, ``kind``, ``source``, ``scope``, ``uncertainty_j``. The views are in
:mod:`fimi.record.views`. :data:`VERSION` stays: an older store is read with that column unknown,
and an older reader ignores it. To move or redefine a column, raise :data:`VERSION` and say in
:mod:`fimi.record.migration` where the column was before.

An unknown value is NULL, never zero. ``id`` counts rows in the order in which they were written.
"""

from __future__ import annotations

from typing import Any, get_args

from fimi.energy.cost_model import PHASES, BoardModel, PhaseCost
from fimi.energy.hardware import Observation
from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.learning.training.classifier import FileCheck
from fimi.messaging.messages.basis import Goodput
from fimi.messaging.messages.facts import Profile, Trial
from fimi.messaging.messages.orders import DevicePlan
from fimi.record.description import (
    StoreColumn,
    StoreTable,
    binary,
    energy,
    packed,
    real,
    text,
    whole,
)
from fimi.record.events import Event
from fimi.record.insight import DeviceInsight, Insight
from fimi.record.prediction import Residual
from fimi.record.readings_rows import StoredReadings
from fimi.record.record import CheckpointPart, Enrolment, Labels, PlanSummary, RunInfo
from fimi.record.results import DeviceRound, DeviceStatus, LateUpdate, RoundResult, ServerRound

VERSION = 5
"""Kept in the file as ``PRAGMA user_version``; the first stores have 0."""

ID = whole("id", "rows", "counts up")
ROUND = whole("round", "rounds", "number of the round, from 1")
ROUND_OR_BEFORE = whole("round", "rounds", "number of the round; 0 for the time before the first")
DEVICE = text("device", "id of the device")
PHASE = text("phase", f"{', '.join(PHASES[:-1])}, or {PHASES[-1]}")


def body(meaning: str) -> tuple[StoreColumn, ...]:
    """One column that holds the whole value."""
    return (packed("body", meaning, "."),)


def metered(at: str = "") -> tuple[StoreColumn, ...]:
    """How a stretch of a phase was metered, without its phase."""
    return (
        real("start_s", "s", "beginning on the device's own clock", f"{at}start_s", null=bool(at)),
        real("duration_s", "s", "length", f"{at}duration_s", null=bool(at)),
        *energy(
            "board energy of the stretch, idle power included; its part in sums, and no "
            "figure of its own, where it is not resolved",
            f"{at}energy",
        ),
        whole("readings", "readings", "of the meter behind it", f"{at}sample_count", null=bool(at)),
        whole(
            "resolved",
            "0 or 1",
            "whether the meter tells it from the phases beside it",
            f"{at}resolved",
            null=True,
        ),
        real("most_j", "J", "at most, where it is not resolved", f"{at}most_j", null=True),
        whole("final", "0 or 1", "whether no later reading counts", f"{at}final", null=True),
        real("largest_gap_s", "s", "between readings", f"{at}largest_gap_s", null=bool(at)),
    )


# fmt: off
RUN = StoreTable(
    "run", RunInfo, primary=("run",),
    about="The run itself, in one row.",
    columns=(
        text("run", "name of the run"),
        text("strategy", "short name of the strategy"),
        text("strategy_title", "the same in words"),
        whole("fills_devices", "0 or 1", "whether it gives devices synthetic samples", null=True),
        whole("seed", "1", "of everything that was drawn", null=True),
        text("status", "running (still, or it was killed), completed, interrupted, failed"),
        text("reason", "why it ended, in one sentence"),
        text("started_at", "ISO 8601, with time zone"),
        text("finished_at", "ISO 8601, with time zone; empty while it runs"),
        real("wall_s", "s", "wall time of all of it", null=True),
        packed("stages_wall_s", "stage of the coordinator to its wall time, s"),
        packed("config", "key to value"),
        packed("origins", "key to where its value came from"),
        packed("versions", "package to version"),
        text("broker", "broker and its version"),
        text("exposed", "what was open to others on the way to it; empty: nothing", null=True),
        text("dataset", "data set", "dataset.name"),
        whole("sample_limit", "samples", "of the data set in use", "dataset.limit", null=True),
        text("split", "how public and private part were told apart", "dataset.split"),
        text("partition", "how the private part was dealt to devices", "dataset.partition"),
        real("alpha", "1", "Dirichlet α of the partition", "dataset.alpha", null=True),
        whole("public_samples", "samples", "for the generator", "dataset.public", null=True),
        whole("validation_samples", "samples", "for validation", "dataset.validation", null=True),
        whole("private_samples", "samples", "on the devices", "dataset.private", null=True),
        whole("test_samples", "samples", "held out", "dataset.test", null=True),
        packed("class_names", "of every class", "dataset.class_names"),
        text("public_digest", "SHA-256 of the public samples", "dataset.public_digest"),
        text("validation_digest", "SHA-256 of those for validation", "dataset.validation_digest"),
        text("private_digest", "SHA-256 of the private samples", "dataset.private_digest"),
        text("test_digest", "SHA-256 of the held-out samples", "dataset.test_digest"),
        text("partition_digest", "SHA-256 of who holds what", "dataset.partition_digest"),
        text("instance", "random id, the same after a resume"),
        packed("contract", "the data of the run, as devices were asked to confirm them"),
        whole("resumed", "times", "another process went on with it"),
        text("command", "that began it, without its options"),
        packed("curve", "learning curve of the first plan, with its provenance", null=True),
    ))

EVENT = StoreTable(
    "event", Event,
    about="Everything that happened, in order. Plans and rounds are in tables of their own.",
    beside=(
        ID, real("at", "s", "when it was written, UNIX time"),
        text("event", "what happened"), packed("body", "what there is to say of it"),
    ),
    columns=())

PROFILE = StoreTable(
    "profile", Profile, primary=("device",),
    about="What each device said of itself. View `profiles` has the same in columns.",
    beside=(
        DEVICE, text("contract_digest", "SHA-256 of the contract that it confirmed; empty: none"),
    ),
    columns=body("the profile"))

ENROLMENT = StoreTable(
    "enrolment", Enrolment, primary=("device",),
    about="Devices that have asked to take part, and what became of that.",
    columns=(
        DEVICE,
        whole("device_index", "devices", "share, place in the plan, random stream", null=True),
        whole("since_round", "rounds", "the first that it was to be used in", null=True),
        text("why_not", "why it is not used; empty if it is"),
    ))

CHECKPOINT = StoreTable(
    "checkpoint", CheckpointPart, primary=("key",),
    about="What a process needs to go on with the run; only the coordinator reads it.",
    columns=(text("key", "which part"), binary("body", "the part")))

PLAN = StoreTable(
    "plan", PlanSummary,
    about="Plans of the fleet, the last one in force. View `plans` has the same in columns.",
    beside=(ID,),
    columns=body("the plan with its bound, its gap and the history of the search"))

DEVICE_PLAN = StoreTable(
    "device_plan", DevicePlan, primary=("plan", "device"),
    about="Each device's share of a plan. View `device_plans` has the same in columns.",
    beside=(whole("plan", "rows", "`id` of the plan"), DEVICE),
    columns=body("what the device was told"))

ROUNDS = StoreTable(
    "round", RoundResult, primary=("number",),
    about="Finished rounds. View `rounds` adds their joules.",
    columns=(
        whole("number", "rounds", "number of the round, from 1"),
        real("start_s", "s", "beginning on the fleet's clock"),
        real("duration_s", "s", "length on the fleet's clock"),
        real("accuracy", "0 to 1", "of the new model on the test set", "evaluation.accuracy"),
        real("loss", "nat", "mean cross-entropy on the test set; unknown where not finite",
             "evaluation.loss", null=True),
        packed("class_accuracy", "accuracy of every class, 0 to 1", "evaluation.class_accuracy"),
        whole("test_samples", "samples", "the test set has", "evaluation.samples"),
        real("validation_accuracy", "0 to 1", "on public images that nobody trains on",
             "validation.accuracy", null=True),
        real("validation_loss", "nat", "mean cross-entropy on these", "validation.loss", null=True),
        packed("validation_class_accuracy", "accuracy of every class on these, 0 to 1",
               "validation.class_accuracy", null=True),
        whole("validation_samples", "samples", "how many they are", "validation.samples",
              null=True),
        text("model_kept", "why the model before the round stays; unknown where there is a new one",
             null=True),
        text("model_coding", "of the model that devices were sent", "model_coded.coding",
             null=True),
        whole("model_raw_bytes", "bytes", "of that model in single precision",
              "model_coded.raw_bytes", null=True),
        whole("model_coded_bytes", "bytes", "of it as sent", "model_coded.coded_bytes", null=True),
        real("model_coding_error", "1", "‖decoded − exact‖ over ‖exact‖", "model_coded.error",
             null=True),
        whole("planned_update_bytes", "bytes", "of an update in the plan, where it is coded",
              null=True),
    ))

DEVICE_ROUND = StoreTable(
    "device_round", DeviceRound, primary=("round", "device"),
    about="What became of each device in each round. View `device_rounds` adds its joules.",
    beside=(ROUND,),
    columns=(
        DEVICE,
        text("status", f"of its update: {', '.join(get_args(DeviceStatus))}"),
        text("reason", "a sentence for every status but accepted and resting, or where clipped"),
        real("busy_s", "s", "from the round's start to the end of its upload", null=True),
        real("frequency_hz", "Hz", "CPU frequency achieved", null=True),
        whole("local_samples", "samples", "real ones per epoch"),
        whole("synthetic_samples", "samples", "synthetic ones; of unlabelled ones, those kept"),
        real("training_loss", "nat", "mean of its last epoch", null=True),
        real("training_accuracy", "0 to 1", "of its last epoch, on its own data", null=True),
        real("local_error", "0 to 1", "Δ_i: of its model on validation images", null=True),
        real("planned_error", "0 to 1", "what the learning curve in force said of it", null=True),
        text("backend", "what it trained with; empty if it did not"),
        real("trained_from", "s", "UNIX time when training began", "trained_at.0", null=True),
        real("trained_until", "s", "the same when training ended", "trained_at.1", null=True),
        whole("unlabelled_samples", "samples", "images it looked at for a label", null=True),
        *energy(
            "at most, where nothing was reported; never metered, in no sum",
            "unknown_max", "unknown_", "unknown_max_j",
        ),
        real("share", "0 to 1", "of its update in the mean of the devices' models", null=True),
        real("update_norm", "1", "L2 norm of the change by its update as sent", null=True),
        real("update_scale", "0 to 1", "at which that change was taken; below 1: it was clipped",
             null=True),
        text("coding", "of its update; unknown where it was sent as it is", "coded.coding",
             null=True),
        whole("raw_bytes", "bytes", "of its update in single precision", "coded.raw_bytes",
              null=True),
        whole("coded_bytes", "bytes", "of its update as coded", "coded.coded_bytes", null=True),
        real("coding_error", "1", "‖decoded − exact‖ over ‖exact‖ of what it has changed, by its "
             "own account", "coded.error", null=True),
    ))

LATE_UPDATE = StoreTable(
    "late_update", LateUpdate, primary=("of_round", "device"),
    about="Updates that were late for their round and entered the mean of a later one.",
    beside=(ROUND,),
    columns=(
        DEVICE,
        whole("of_round", "rounds", "for which it was trained"),
        real("weight", "0 to 1", "by which its samples counted less for being late"),
        real("share", "0 to 1", "of it in the mean of the devices' models", null=True),
    ))

SAMPLE = StoreTable(
    "sample", PhaseRecord,
    about="Every metered stretch of a phase; a phase of a round may have several.",
    beside=(ID, ROUND_OR_BEFORE, DEVICE),
    columns=(
        PHASE,
        *metered(),
        *energy("the processor's share, by a meter of its own", "cpu", "cpu_", "cpu_j"),
        *energy("by a second meter, in no sum", "second", "second_", "second_j"),
        whole("second_resolved", "0 or 1", "whether that meter tells it from those beside it",
              "second_resolved", null=True),
    ))

PREDICTION = StoreTable(
    "prediction", PhaseCost,
    about="What the cost model said of a phase: joules of the whole board, modelled.",
    beside=(ID, ROUND_OR_BEFORE, DEVICE),
    columns=(
        PHASE,
        real("duration_s", "s", "length"),
        real("board_j", "J", "whole board, idle power included"),
        real("dynamic_j", "J", "above idle; the paper's energy for compute and upload"),
    ))

TRANSFER = StoreTable(
    "transfer", Goodput,
    about="Every payload that a device moved.",
    beside=(ID, ROUND_OR_BEFORE, DEVICE),
    columns=(
        PHASE,
        whole("size_bytes", "bytes", "of the payload"),
        real("duration_s", "s", "from asking until all of it was there, on the device's clock"),
    ))

EVIDENCE = StoreTable(
    "evidence", Evidence,
    about="What a device's readings said beside the energy of phases.",
    beside=(ID, ROUND_OR_BEFORE, DEVICE),
    columns=(
        packed("powers", "normal equations of the powers of phases", null=True),
        packed("rests", "measurements of resting power"),
    ))

READINGS = StoreTable(
    "readings", StoredReadings, primary=("device", "life", "part"),
    about="What each device's meters showed, part by part: `fimi.read_trace` reads it.",
    beside=(ROUND_OR_BEFORE, DEVICE),
    columns=(
        text("life", "random name of the ledger; another one after each start of the device"),
        whole("part", "parts", "place in that life, from 0, without gaps"),
        packed("series", "whose readings, to how many: total, cpu (its share), second"),
        whole("count", "readings", "of all series"),
        real("from_s", "s", "the first edge of a phase, on the device's own clock", null=True),
        real("until_s", "s", "the last one", null=True),
        text("digest", "SHA-256 of `body`; empty where that is missing"),
        text("missing", "why there is no `body`; empty if there is"),
        binary("body", "the readings, with the edges of phases; docs/bundle.md", null=True),
    ))

OBSERVATION = StoreTable(
    "observation", Observation, primary=("round", "device"),
    about="What a device did in a round besides drawing power; unknown where it did not tell.",
    beside=(ROUND, DEVICE),
    columns=(
        real("frequency_hz", "Hz", "clock of the processor while the agent was busy", null=True),
        text("frequency_source", "who says so: cycles, firmware, cpufreq, emulated"),
        real("cap_hz", "Hz", "frequency cap in force, read back", null=True),
        packed("throttled", "cause to how often it slowed the device down", null=True),
        real("rate_limit_bps", "bit/s", "limit of the sending rate, read back", null=True),
        text("link_interface", "network interface", "link.interface", null=True),
        real("link_rate_bps", "bit/s", "rate of the link", "link.rate_bps", null=True),
        real("link_signal_dbm", "dBm", "of the access point", "link.signal_dbm", null=True),
        real("monitor_cpu_s", "s", "CPU time of watching the meter", "monitor.cpu_s", null=True),
        real("monitor_wall_s", "s", "over this long", "monitor.wall_s", null=True),
        whole("monitor_looks", "looks", "at the meter", "monitor.looks", null=True),
        whole("monitor_failed", "looks", "that gave nothing", "monitor.failed", null=True),
        *energy("what watching the meter took, at most", "monitor_energy", "monitor_", "monitor_j"),
        real("temperature_c", "°C", "of the processor, mean", null=True),
        packed("doubts", "what speaks against the meter's readings, a sentence each", null=True),
    ))

RESIDUAL = StoreTable(
    "residual", Residual,
    about="Predicted less measured board energy of a phase, and what the difference comes from.",
    beside=(ID,),
    columns=(
        ROUND,
        DEVICE,
        PHASE,
        real("predicted_s", "s", "length in the plan in force"),
        real("measured_s", "s", "length as metered"),
        real("predicted_j", "J", "board energy, modelled"),
        real("measured_j", "J", "board energy, of the kind that `sample` says"),
        real("cycles_j", "J", "work took other cycles than predicted", "parts.cycles_j"),
        real("throttling_j", "J", "it ran at another frequency", "parts.throttling_j"),
        real("rate_j", "J", "the link was faster or slower", "parts.rate_j"),
        real("waiting_j", "J", "the round was longer or shorter", "parts.waiting_j"),
        real("power_j", "J", "the board drew another power", "parts.power_j"),
    ))

REFIT = StoreTable(
    "refit", BoardModel, primary=("round", "device"),
    about="Cost parameters that were fitted after a round.",
    beside=(
        ROUND,
        DEVICE,
        real("drift_percent", "%", "how far predictions were off, where that is why", null=True),
    ),
    columns=body("the cost parameters"))

SERVER_ROUND = StoreTable(
    "server_round", ServerRound, primary=("round",),
    about="What the server trained in a round: its own seconds and joules, no device's.",
    beside=(ROUND,),
    columns=(
        whole("images", "images", "it trained on"),
        real("seconds", "s", "wall time of the training"),
        real("loss", "nat", "mean of the last epoch; unknown where it diverged", null=True),
        real("weight", "1", "κ2 of the server's model where models were mixed", null=True),
        real("federated_accuracy", "0 to 1", "of the mean model on public images", null=True),
        real("augmented_accuracy", "0 to 1", "of the server's model on the same", null=True),
        *energy("of the server's machine meanwhile, idle power included", "energy"),
        text("error", "why its training came to nothing, or empty"),
    ))

LABEL_SKEW = StoreTable(
    "label_skew", Labels, primary=("device", "stage"),
    about="How uneven the labels of a device are.",
    beside=(DEVICE, text("stage", "local: its own data; filled: with the planned synthetic ones")),
    columns=(
        packed("counts", "samples of every class"),
        real("emd", "0 to 2", "distance to the real samples of all devices", null=True),
        real("entropy_bits", "bit", "of its label distribution", null=True),
    ))

MODEL_FILE = StoreTable(
    "model_file", FileCheck, primary=("round", "variant"),
    about="The trained model as a file, checked against PyTorch on the coordinator.",
    beside=(ROUND,),
    columns=(
        text("variant", "its arithmetic: fp32 or int8"),
        text("digest", "SHA-256 of the file"),
        whole("size_bytes", "bytes", "of the file"),
        real("accuracy", "0 to 1", "on all test images, by ONNX Runtime"),
        whole("samples", "samples", "how many those are"),
        real("agreement", "0 to 1", "share of images in the same class as PyTorch has them"),
        real("difference", "logit", "largest difference from PyTorch"),
        whole("compared", "samples", "images that were compared"),
    ))

DEPLOYMENT = StoreTable(
    "deployment", Trial, primary=("round", "device", "variant"),
    about="How a device ran a file; unknown, with the reason in `error`, where it could not.",
    beside=(ROUND, DEVICE),
    columns=(
        text("variant", "which file: fp32 or int8"),
        whole("inferences", "inferences", "timed and metered", null=True, only_with="accuracy"),
        whole("images", "images", "different ones among them", null=True, only_with="accuracy"),
        real("accuracy", "0 to 1", "of the inferences", null=True),
        real("latency_median_s", "s", "of an inference", null=True),
        real("latency_p95_s", "s", "95th percentile", null=True),
        text("latency_kind", "measured or emulated", null=True, only_with="accuracy"),
        text("phase", "inference", "metered.phase", null=True),
        *metered("metered."),
        *energy("the processor's share", "metered.cpu", "cpu_", "cpu_j"),
        *energy("by a second meter, in no sum", "metered.second", "second_", "second_j"),
        whole("second_resolved", "0 or 1", "whether that meter tells it from those beside it",
              "metered.second_resolved", null=True),
        *energy("of all inferences above resting", "above", "above_", "above_j"),
        text("error", "why it could not run the file, or empty"),
    ))

INSIGHT = StoreTable(
    "insight", Insight, primary=("round",),
    about="What the updates of a round say of learning.",
    columns=(
        ROUND,
        real("orthogonality", "0 to 1", "how little updates have to do with each other", null=True),
        whole("reference_samples", "samples", "behind the IID update; 0 for none"),
        whole("gradient_samples", "samples", "behind the IID gradient; 0 for none", null=True),
        real("seconds", "s", "wall time of computing this", null=True),
    ))

DEVICE_INSIGHT = StoreTable(
    "device_insight", DeviceInsight, primary=("round", "device"),
    about="What the update of a device says of learning.",
    beside=(ROUND,),
    columns=(
        DEVICE,
        real("local_error", "0 to 1", "of its model on the test set before aggregation"),
        real("similarity", "-1 to 1", "cosine of its update to the IID update", null=True),
        real("gradient_similarity", "-1 to 1", "cosine of its gradient to the IID one", null=True),
    ))
# fmt: on

TABLES: tuple[StoreTable[Any], ...] = (
    RUN, EVENT, PROFILE, ENROLMENT, PLAN, DEVICE_PLAN, ROUNDS, DEVICE_ROUND, LATE_UPDATE, SAMPLE,
    PREDICTION, EVIDENCE, READINGS, TRANSFER, OBSERVATION, RESIDUAL, REFIT, SERVER_ROUND,
    LABEL_SKEW, MODEL_FILE, DEPLOYMENT, INSIGHT, DEVICE_INSIGHT, CHECKPOINT,
)  # fmt: skip
"""All of them, in the order of ``docs/record.md``."""
