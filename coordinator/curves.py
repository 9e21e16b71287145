"""The learning curve that a run is planned with: given, built in, from a file, or fitted now.

* :func:`subject_of`  what a run learns, and how: what its curve must have been measured on
* :func:`chosen`      the curve that is there already, as ``plan.curve`` says
* :func:`measured`    a curve from finished trainings, with its provenance
* :func:`fitted`      one measured at the start of a run
* :func:`kept`        one that an earlier run has measured

Curves are measured on public images and judged by those for validation, never by private or test
images. ``docs/decisions/0078-a-curve-has-a-provenance.md`` says why.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

import msgspec

from fimi.coordinator.settings import PlanSettings
from fimi.files import FileInUse, FileLock, write_whole
from fimi.learning.data.dataset import Dataset, DatasetError, Split
from fimi.learning.training.curve_points import (
    STEPS,
    CurvePoint,
    PointFile,
    amounts_of,
    measure,
    widest_first,
)
from fimi.learning.training.trainer import TrainingCancelled, TrainingSettings
from fimi.optim.known_curve import CurveError, CurveSubject, KnownCurve, built_in, read_curve
from fimi.optim.learning_curve import LearningCurve, fit_curve

AMOUNTS, DRAWS = 7, 3
"""Trainings of a curve at the start of a run, where ``plan.curve_seconds`` leaves time for all."""
_PASSES = 5
"""Over the samples of a training, at least: no more are drawn than that leaves."""
_LEAST = 4
"""Amounts of data that say how certain three parameters are."""
_SAID_S = 10.0
_MATTERS = (
    "batch_size",
    "learning_rate",
    "optimiser",
    "momentum",
    "weight_decay",
    "label_smoothing",
    "clip_norm",
    "augment",
)
"""Settings of a training from scratch that change what so many samples teach."""


def folder_of(directory: str) -> Path:
    """Where the curves are kept that runs in a folder of runs have measured."""
    return Path(directory) / "curves"


def subject_of(
    dataset: str, data_digest: str, public: Dataset, training: TrainingSettings
) -> CurveSubject:
    """What a run learns, and how.

    Args:
        dataset: name of the data set.
        data_digest: of all its samples.
        public: images of the shape and classes that it has in this run.
        training: network and settings.
    """
    return CurveSubject(
        dataset=dataset,
        data_digest=data_digest,
        image_shape=public.image_shape,
        classes=public.classes,
        network=training.model,
        training={key: getattr(training, key) for key in _MATTERS},
    )


def chosen(plan: PlanSettings, subject: CurveSubject) -> KnownCurve | None:
    """The curve of a run that need not be measured; ``None`` if it must be.

    Raises:
        CurveError: ``plan.curve`` names a file that cannot be used, or one of another subject; the
            numbers that are given are impossible.
    """
    if plan.curve_alpha and plan.curve in ("auto", "given"):
        try:
            curve = LearningCurve(
                alpha=plan.curve_alpha, beta=plan.curve_beta, delta0=plan.curve_delta0
            )
        except ValueError as error:
            raise CurveError(f"plan.curve_*: {error}") from error
        return KnownCurve(curve=curve, source="given")
    if plan.curve == "auto":
        return built_in(subject)
    if plan.curve == "fit":
        return None
    known = read_curve(Path(plan.curve).expanduser())
    assert known.subject is not None  # read_curve has looked
    if other := known.subject.differences(subject):
        raise CurveError(
            f"plan.curve: {plan.curve} is not for this run, it was measured with "
            f"{', '.join(other)}; 'fimi learning-curve --write FILE' with this run's configuration "
            'measures the right one, and plan.curve = "auto" does so at the start of the run'
        )
    return known


def measured(
    points: Sequence[CurvePoint], subject: CurveSubject, split: Split, steps: int
) -> KnownCurve:
    """A curve fitted to finished trainings, with its provenance.

    Args:
        points: of the trainings.
        subject: what was learned.
        split: whose public part was trained on, and whose validation part judged.
        steps: of each training, about; 0: as many epochs as configured.

    Raises:
        CurveError: there are too few points, or their errors do not change.
    """
    images = [float(len(split.validation))] * len(points)
    try:
        fit = fit_curve([p.samples for p in points], [p.error for p in points], images)
    except ValueError as error:
        raise CurveError(str(error), code="P007") from error
    return KnownCurve(
        curve=fit.curve,
        source="fitted",
        subject=subject,
        public_images=len(split.public),
        public_digest=split.public.digest(),
        validation_images=len(split.validation),
        validation_digest=split.validation.digest(),
        amounts=tuple(sorted({point.samples for point in points})),
        trainings=len(points),
        steps=steps,
        made=date.today().isoformat(),
        version=_version(),
    ).with_fit(fit)


def kept(subject: CurveSubject, split: Split, folder: Path) -> KnownCurve | None:
    """The curve that an earlier run has measured; ``None`` if none has, or it cannot be read."""
    path, _ = _place(subject, split, folder)
    with suppress(OSError, msgspec.DecodeError, ValueError):
        return msgspec.json.decode(path.read_bytes(), type=KnownCurve)
    return None


def _place(subject: CurveSubject, split: Split, folder: Path) -> tuple[Path, dict[str, str]]:
    """Where a curve is kept, and all that decides its measurements."""
    what = {
        "subject": msgspec.json.encode(subject).decode(),
        "data": f"{split.public.digest()} {split.validation.digest()}",
        "steps": str(STEPS),
        "version": _version(),
    }
    name = hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:16]
    return folder / f"{name}.json", what


def fitted(
    subject: CurveSubject,
    split: Split,
    training: TrainingSettings,
    folder: Path,
    *,
    seconds: float,
    say: Callable[[str], None],
    cancelled: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> KnownCurve:
    """Measure the curve of a run, or take what an earlier run has measured.

    Seven amounts of data, three draws of each, in an order in which the first few trainings span
    the range. What takes longer than ``seconds`` is left out, down to four amounts. Finished
    trainings are kept, so that a measurement that was broken off goes on; another process that
    measures the same is waited for.

    Args:
        subject: what is learned.
        split: its public part is trained on, its validation part judges.
        training: network and settings.
        folder: where curves are kept; made if there is none.
        seconds: most wall time, s.
        say: told how far it is.
        cancelled: stops the measurement by returning true.
        clock: gives monotonic seconds.

    Raises:
        TrainingCancelled: ``cancelled`` returned true.
        CurveError: four amounts take longer than ``seconds``, or give no curve.
        DatasetError: the public part is too small, or lacks a class.
        OSError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, what = _place(subject, split, folder)
    lock = _lock(path.with_suffix(".lock"), say, cancelled)
    try:
        if (known := kept(subject, split, folder)) is not None:
            return known
        part = path.with_suffix(".jsonl")
        try:
            file = PointFile(part, what)
        except DatasetError:  # damaged: measured again
            part.unlink()
            file = PointFile(part, what)
        points = _points(
            file, split, training, seconds=seconds, say=say, cancelled=cancelled, clock=clock
        )
        known = measured(points, subject, split, STEPS)
        write_whole(path, msgspec.json.encode(known))
        part.unlink()
        return known
    finally:
        lock.release()


def _points(
    file: PointFile,
    split: Split,
    training: TrainingSettings,
    *,
    seconds: float,
    say: Callable[[str], None],
    cancelled: Callable[[], bool],
    clock: Callable[[], float],
) -> tuple[CurvePoint, ...]:
    """Trainings of a curve, as many as there is time for; those in the file count."""
    from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters

    batch = training.batch_size
    amounts = widest_first(amounts_of(split.public, batch, AMOUNTS, STEPS * batch // _PASSES))
    wanted = len(amounts) * DRAWS
    classes, shape = split.public.classes, split.public.image_shape
    began_s, said_s, before = clock(), clock(), len(file.points)
    say(
        f"learning curve: {wanted - before} trainings of {training.model} on up to {amounts[0]} "
        f"public images, at most {seconds:g} s"
    )

    def over() -> bool:
        # with less than four trainings in the time there is no curve: known after the first
        share = 1.0 if len(file.points) > before else 1.0 / _LEAST
        return cancelled() or clock() - began_s > seconds * share

    try:
        for point in measure(
            TorchTrainer.of(training, classes, shape),
            initial_parameters(training.model, classes, shape, seed=0),
            split.public,
            split.validation,
            training,
            amounts=amounts,
            draws=DRAWS,
            steps=STEPS,
            seed=0,
            done=file.points,
            cancelled=over,
            clock=clock,
        ):
            file.add(point)
            if clock() - said_s > _SAID_S:
                said_s = clock()
                each_s = (said_s - began_s) / (len(file.points) - before)
                left_s = min(each_s * (wanted - len(file.points)), seconds - (said_s - began_s))
                say(
                    f"learning curve: {len(file.points)} of {wanted} trainings, about "
                    f"{left_s:.0f} s left"
                )
    except TrainingCancelled:
        if cancelled():
            raise
    if len({point.samples for point in file.points}) < _LEAST:
        raise CurveError(
            f"the learning curve of {training.model} on these data cannot be measured within "
            f"plan.curve_seconds {seconds:g} here ({len(file.points)} trainings of about {STEPS} "
            f"steps were done, {_LEAST} amounts are the least): raise it, or let 'fimi "
            "learning-curve --write FILE' measure it on a faster machine and set plan.curve to "
            "the file, or give plan.curve_alpha, curve_beta and curve_delta0",
            code="P007",
        )
    return file.points


def _version() -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("fimi-testbed")
    return ""


def _lock(path: Path, say: Callable[[str], None], cancelled: Callable[[], bool]) -> FileLock:
    """The lock of a measurement, waited for as long as another process has it."""
    said = False
    while True:
        try:
            return FileLock(path)
        except FileInUse as error:
            if not said:
                say(f"learning curve: {error} measures it; waiting for it")
            said = True
        if cancelled():
            raise TrainingCancelled("learning curve: cancelled while another process measures it")
        time.sleep(0.2)
