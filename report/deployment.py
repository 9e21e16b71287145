"""What the federation made: the trained model as files, and how devices ran them.

Joules here are of inferences alone, whole board, one image at a time; they are in no other figure
of a report. Of several exports the last one is shown.
"""

from __future__ import annotations

import statistics

from fimi.record.record import FileTrial, Made, RunData
from fimi.report.markup import Child, Column, Html, element, table
from fimi.report.words import MISSING, joules, percent, seconds

FILE_NAMES = {"fp32": "model.onnx", "int8": "model-int8.onnx"}


def words(run: RunData) -> str:
    """What was exported and where it lies."""
    made = _last(run)
    if made is None:
        return ""
    names = " and ".join(FILE_NAMES.get(file.variant, file.variant) for file in made.files)
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
        f"{FILE_NAMES.get(file.variant, file.variant)}: {size(file.size_bytes)}, "
        f"{percent(file.accuracy)} on test images{_typical(made, file.variant)}"
        for file in made.files
    ]


def file_table(run: RunData) -> Html | None:
    """One row per file."""
    made = _last(run)
    if made is None:
        return None
    return table(
        [
            Column("File", css="name"),
            Column("Weights", css="name"),
            Column("Size"),
            Column("Accuracy", "test images"),
            Column("Same answer as PyTorch"),
            Column("Largest difference", "of a logit"),
        ],
        (
            [
                FILE_NAMES.get(file.variant, file.variant),
                "8 bits" if file.variant == "int8" else "32 bits",
                size(file.size_bytes),
                percent(file.accuracy),
                f"{percent(file.agreement)} of {file.compared}",
                f"{file.difference:.2g}",
            ]
            for file in made.files
        ),
    )


def trial_table(run: RunData) -> Html | None:
    """One row per device and file."""
    made = _last(run)
    if made is None or not made.trials:
        return None
    return table(
        [
            Column("Device", css="name"),
            Column("Board", css="name"),
            Column("Weights", css="name"),
            Column("Accuracy", "own images"),
            Column("Latency", "median"),
            Column("Latency", "95th percentile"),
            Column("Latency", "kind"),
            Column("Energy per inference"),
            Column("Inferences"),
            Column("Not run", css="text"),
        ],
        (_trial_row(run, each) for each in made.trials),
    )


def remarks(run: RunData) -> Html | None:
    """How to read the table."""
    made = _last(run)
    if made is None or not any(each.trial.accuracy is not None for each in made.trials):
        return None
    said = "A device’s own images are those it trained on, so its accuracy is no test of the model."
    if any(each.trial.latency_kind == "emulated" for each in made.trials if not each.trial.error):
        said += (
            " On emulated boards, latency and energy follow from the cost model’s cycles of a "
            "forward pass, in virtual time; it knows no 8-bit arithmetic, so both files cost the "
            "same there. Answers and accuracy are those of ONNX Runtime."
        )
    return element("p", said, class_="how")


def size(size_bytes: int) -> str:
    """``43.4 kB``, ``11.3 MB``."""
    return f"{size_bytes / 1e6:.3g} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.3g} kB"


def _trial_row(run: RunData, each: FileTrial) -> list[Child]:
    trial, profile = each.trial, run.profiles.get(each.device)
    ran = trial.accuracy is not None
    return [
        each.device,
        profile.hardware.board if profile else MISSING,
        "8 bits" if trial.variant == "int8" else "32 bits",
        f"{percent(trial.accuracy)} of {trial.images}" if ran else MISSING,
        seconds(trial.latency_median_s),
        seconds(trial.latency_p95_s),
        trial.latency_kind if ran else MISSING,
        _energy(each),
        str(trial.inferences) if ran else MISSING,
        trial.error,
    ]


def _energy(each: FileTrial) -> str:
    energy = each.trial.metered.energy if each.trial.metered else None
    if energy is None or each.trial.energy_j is None:
        return MISSING
    return f"{joules(each.trial.energy_j)} ({energy.kind}, {energy.scope})"


def _typical(made: Made, variant: str) -> str:
    """Median over devices of latency and energy."""
    ran = [
        each.trial
        for each in made.trials
        if each.trial.variant == variant and each.trial.latency_median_s is not None
    ]
    failed = sum(each.trial.variant == variant and bool(each.trial.error) for each in made.trials)
    said = ""
    if ran:
        latency_s = statistics.median(trial.latency_median_s or 0.0 for trial in ran)
        kinds = sorted({trial.latency_kind for trial in ran})
        who = f"{len(ran)} device{'' if len(ran) == 1 else 's'}"
        said = f"; an inference on {who} {seconds(latency_s)} ({', '.join(kinds)})"
        metered = [
            (trial.energy_j, trial.metered.energy)
            for trial in ran
            if trial.energy_j is not None and trial.metered and trial.metered.energy
        ]
        if metered:
            sources = sorted({f"{energy.kind}, {energy.scope}" for _, energy in metered})
            middle_j = statistics.median(value_j for value_j, _ in metered)
            said += f" and {joules(middle_j)} ({'; '.join(sources)})"
        said += ", medians"
    return said + (f"; {failed} could not run it" if failed else "")


def _why_not(run: RunData) -> str:
    if run.not_made is None:
        return ""
    return (
        f"No ONNX file could be made of the model after round {run.not_made.round}: "
        f"{run.not_made.reason.rstrip('.')}."
    )


def _last(run: RunData) -> Made | None:
    return run.made[-1] if run.made else None
