"""The trained model as files, and how devices ran them.

Joules here are of inferences alone, whole board, one image at a time; they are in no other figure
of a report. Of several exports the last one is shown.
"""

from __future__ import annotations

import statistics

from fimi.learning.training.classifier import FileCheck
from fimi.messaging.messages.facts import Trial
from fimi.plural import plural
from fimi.record.record import RunData
from fimi.record.results import Deployment
from fimi.report.markup import Column, Html, element, table
from fimi.report.words import MISSING, joules, percent, plus_minus, seconds

FILE_NAMES = {"fp32": "model.onnx", "int8": "model-int8.onnx"}


def words(run: RunData) -> str:
    """What was exported and where it lies."""
    made = _last(run)
    if made is None:
        return ""
    names = " and ".join(_name(file) for file in made.files)
    return (
        f"The global model after round {made.round} as {names}, beside this page: uint8 images "
        "(N, channels, height, width) in, logits out. Joules are of inference alone, one image at "
        "a time, whole board; they are in no other figure of this report."
    )


def absence(run: RunData) -> Html | None:
    """Why there is no file of the last model."""
    why = _why_not(run)
    return element("div", why, class_="notice") if why else None


def lines(run: RunData) -> list[str]:
    """The same for a terminal, one line for each file."""
    made = _last(run)
    why = [_why_not(run)] if run.not_made else []
    if made is None:
        return why
    return why + [
        f"{_name(file)}: {size(file.size_bytes)}, "
        f"{percent(file.accuracy)} on test images{_typical(made, file.variant)}"
        for file in made.files
    ]


def file_table(run: RunData) -> Html | None:
    """One row per file."""
    made = _last(run)
    if made is None:
        return None
    columns: list[Column[FileCheck]] = [
        Column("File", "", _name, "name"),
        Column("Weights", "", lambda f: _bits(f.variant), "name"),
        Column("Size", "", lambda f: size(f.size_bytes)),
        Column("Accuracy", "test images", lambda f: percent(f.accuracy)),
        Column("Same answer as PyTorch", "", lambda f: f"{percent(f.agreement)} of {f.compared}"),
        Column("Largest difference", "of a logit", lambda f: f"{f.difference:.2g}"),
    ]
    return table(columns, made.files)


def _bits(variant: str) -> str:
    return "8 bits" if variant == "int8" else "32 bits"


def trial_table(run: RunData) -> Html | None:
    """One row per device and file."""
    made = _last(run)
    if made is None or not made.trials:
        return None

    def board(device: str) -> str:
        profile = run.profiles.get(device)
        return profile.hardware.board if profile else MISSING

    def ran(trial: Trial, what: str) -> str:
        return what if trial.accuracy is not None else MISSING

    kinds = {said for _, trial in made.tried if (said := _kind(trial))}
    kind = kinds.pop() if len(kinds) == 1 else ""
    failed: Column[tuple[str, Trial]] = Column("Not run", "", lambda r: r[1].error, "text")
    columns: list[Column[tuple[str, Trial]]] = [
        Column("Device", "", lambda r: r[0], "name"),
        Column("Board", "", lambda r: board(r[0]), "name"),
        Column("Weights", "", lambda r: _bits(r[1].variant), "name"),
        Column(
            "Accuracy",
            "own images",
            lambda r: ran(r[1], f"{percent(r[1].accuracy)} of {r[1].images}"),
        ),
        Column("Latency", "median", lambda r: seconds(r[1].latency_median_s)),
        Column("Latency", "95th percentile", lambda r: seconds(r[1].latency_p95_s)),
        Column("Latency", "kind", lambda r: ran(r[1], r[1].latency_kind)),
        Column("Energy per inference", kind, lambda r: _energy(r[1], bare=bool(kind))),
        Column("Energy per inference", "above resting", lambda r: _above(r[1], bare=bool(kind))),
        Column("Inferences", "", lambda r: ran(r[1], str(r[1].inferences))),
        *([failed] if any(trial.error for _, trial in made.tried) else []),
    ]
    return table(columns, made.tried)


def remarks(run: RunData) -> Html | None:
    """How to read the table."""
    made = _last(run)
    if made is None or all(trial.accuracy is None for _, trial in made.tried):
        return None
    said = (
        "A device’s own images are those it trained on, so its accuracy is no test of the model."
        if run.devices_train
        else "No device trained: its own images are its real ones, which the model has not seen."
    )
    if any(t.latency_kind == "emulated" for _, t in made.tried if not t.error):
        said += (
            " On emulated boards, latency and energy follow from the cost model’s cycles of a "
            "forward pass, in virtual time; it knows no 8-bit arithmetic, so both files cost the "
            "same there. Answers and accuracy are those of ONNX Runtime."
        )
    return element("p", said, class_="how")


def size(size_bytes: int) -> str:
    """``43.4 kB``, ``11.3 MB``."""
    return f"{size_bytes / 1e6:.3g} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.3g} kB"


def _name(file: FileCheck) -> str:
    return FILE_NAMES.get(file.variant, file.variant)


def _kind(trial: Trial) -> str:
    """``emulated, board``; empty where the joules of an inference are not known."""
    energy = trial.metered.energy if trial.metered and trial.energy_j is not None else None
    return f"{energy.kind}, {energy.scope}" if energy else ""


def _energy(trial: Trial, *, bare: bool) -> str:
    """Joules of an inference, with their kind where the heading does not say it."""
    kind = _kind(trial)
    if not kind:
        return MISSING
    return joules(trial.energy_j) if bare else f"{joules(trial.energy_j)} ({kind})"


def _above(trial: Trial, *, bare: bool) -> str:
    """The same above resting."""
    if trial.above_one is None:
        return MISSING
    said = plus_minus(trial.above_one)
    return said.removesuffix(f" ({_kind(trial)})") if bare else said


def _typical(made: Deployment, variant: str) -> str:
    """Median over devices of latency and energy."""
    trials = [trial for _, trial in made.tried if trial.variant == variant]
    latencies_s = [t.latency_median_s for t in trials if t.latency_median_s is not None]
    ran = [trial for trial in trials if trial.latency_median_s is not None]
    failed = sum(bool(trial.error) for trial in trials)
    said = ""
    if ran:
        kinds = sorted({trial.latency_kind for trial in ran})
        who = plural(len(ran), "device")
        middle_s = statistics.median(latencies_s)
        said = f"; an inference on {who} {seconds(middle_s)} ({', '.join(kinds)})"
        energies_j = [trial.energy_j for trial in ran if trial.energy_j is not None]
        if energies_j:
            sources = sorted({kind for trial in ran if (kind := _kind(trial))})
            above_j = [one.value_j for trial in ran if (one := trial.above_one) is not None]
            above = f", {joules(statistics.median(above_j))} above resting" if above_j else ""
            said += f" and {joules(statistics.median(energies_j))}{above} ({'; '.join(sources)})"
        said += ", medians"
    return said + (f"; {failed} could not run it" if failed else "")


def _why_not(run: RunData) -> str:
    if run.not_made is None:
        return ""
    return (
        f"No ONNX file could be made of the model after round {run.not_made.round}: "
        f"{run.not_made.reason.rstrip('.')}."
    )


def _last(run: RunData) -> Deployment | None:
    return run.made[-1] if run.made else None
