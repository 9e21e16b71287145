"""Learning curves that say what they were measured on.

A curve holds for one data set, network and way of training. A :class:`KnownCurve` carries these, so
that it is used where it fits and nowhere else.

* :class:`CurveSubject`  what is learned, and how; two of them say in which keys they differ
* :class:`KnownCurve`    a curve with its provenance, as stored, shown and written to files
* :func:`built_in`       the curve of this package for a subject
* :func:`read_curve`     one that ``fimi learning-curve --write`` has written

``built_in_curves.json`` holds the built-in ones; ``benchmarks/learning_curve.py`` measures them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from fimi.errors import InputError
from fimi.optim.learning_curve import ConfidenceInterval, CurveFit, LearningCurve

CurveSource = Literal["given", "built in", "fitted", "file"]
"""``given``: three numbers of the configuration, of which nobody knows where they come from.
``fitted``: at the start of a run."""

_BUILT_IN = Path(__file__).with_name("built_in_curves.json")
_BY_NAME = ("digits", "cifar-10", "cifar-100", "fashion-mnist", "gtsrb")
"""Data sets that are the same wherever they have this name."""


class CurveError(InputError, ValueError):
    """There is no learning curve for a run, or one that is for another run."""

    code = "P006"


class CurveSubject(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is learned, and how.

    Attributes:
        dataset: name of the data set.
        data_digest: SHA-256 of all its samples, before they are divided.
        image_shape: channels, height, width.
        classes: K.
        network: name of the network.
        training: settings that change what so many samples teach, key to value.
    """

    dataset: str
    data_digest: str
    image_shape: tuple[int, int, int]
    classes: int
    network: str
    training: dict[str, int | float | str]

    def differences(self, other: CurveSubject) -> tuple[str, ...]:
        """In what this differs from another, ``key this instead of that``; empty if in nothing.

        Of a data set that is known by its name, other samples (of another release) are no
        difference.
        """
        mine, others = self._keys(), other._keys()
        return tuple(
            f"{key} {mine.get(key, '?')} instead of {others.get(key, '?')}"
            for key in dict.fromkeys((*mine, *others))
            if mine.get(key) != others.get(key)
        )

    def _keys(self) -> dict[str, object]:
        named = {} if self.dataset in _BY_NAME else {"samples": self.data_digest[:12]}
        return {
            "data.dataset": self.dataset,
            **named,
            "images": "×".join(map(str, self.image_shape)),
            "classes": self.classes,
            "training.model": self.network,
            **{f"training.{key}": value for key, value in self.training.items()},
        }


class KnownCurve(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A learning curve with its provenance; ``None`` or empty where it was merely given.

    Attributes:
        curve: the curve.
        source: where it comes from.
        subject: what was learned, and how.
        public_images: images that samples were drawn from; never private ones.
        public_digest: SHA-256 of them.
        validation_images: images behind every error; never those that models are tested with.
        validation_digest: SHA-256 of them.
        amounts: D that were trained with, ascending; outside of them the curve is extrapolated.
        trainings: number of trainings.
        steps: of each training, about.
        alpha: 95 % confidence interval of α.
        beta: of β.
        delta0: of δ0.
        doubts: what the measurements do not determine, a sentence each.
        made: day of the measurement, ISO 8601.
        version: of fimi, that made it.
        file: where it was read from; empty otherwise.
        remark: what else should be known; a few words.
    """

    curve: LearningCurve
    source: CurveSource
    subject: CurveSubject | None = None
    public_images: int | None = None
    public_digest: str = ""
    validation_images: int | None = None
    validation_digest: str = ""
    amounts: tuple[int, ...] = ()
    trainings: int | None = None
    steps: int | None = None
    alpha: ConfidenceInterval | None = None
    beta: ConfidenceInterval | None = None
    delta0: ConfidenceInterval | None = None
    doubts: tuple[str, ...] = ()
    made: str = ""
    version: str = ""
    file: str = ""
    remark: str = ""

    def with_fit(self, fit: CurveFit) -> KnownCurve:
        """The same measurement with another fit."""
        return msgspec.structs.replace(
            self,
            curve=fit.curve,
            alpha=fit.alpha,
            beta=fit.beta,
            delta0=fit.delta0,
            doubts=fit.problems,
        )

    @property
    def law(self) -> str:
        """The formula with its numbers: ``Δ(D) = 5.6 D^(−0.87) + 0.033``."""
        return self.curve.law

    @property
    def origin(self) -> str:
        """Where it comes from, in a few words."""
        if self.subject is None:
            return "given in the configuration"
        return (
            f"{self.file or self.source}: {self.subject.network} on {self.subject.dataset}, "
            f"{self.amounts[0]} to {self.amounts[-1]} samples"
        )

    @property
    def provenance(self) -> str:
        """Where it comes from, in one sentence without a full stop."""
        if self.subject is None:
            return "given in the configuration; what it was measured on is not known"
        subject, beta, delta0 = self.subject, self.beta, self.delta0
        size = "×".join(map(str, subject.image_shape))
        settings = ", ".join(f"{key} {value}" for key, value in subject.training.items())
        said = (
            f"{self.file or self.source}: {subject.network} on {subject.dataset} ({size}), "
            f"{self.trainings} trainings of about {self.steps} steps on {self.amounts[0]} to "
            f"{self.amounts[-1]} of {self.public_images} public images, judged by "
            f"{self.validation_images} for validation; {settings}"
        )
        if beta is not None and delta0 is not None:
            said += (
                f"; β {beta.low:.2g} to {beta.high:.2g}, δ0 {delta0.low:.2g} to "
                f"{delta0.high:.2g} (95 %)"
            )
        remark = f"; {self.remark}" if self.remark else ""
        return f"{said}{remark}; {self.made}, fimi {self.version}"

    def beyond(self, samples: int) -> str:
        """A sentence where so many samples are more than were measured; else empty."""
        if not self.amounts or samples <= self.amounts[-1]:
            return ""
        return (
            f"a device has {samples} samples, more than the {self.amounts[-1]} that the learning "
            "curve was measured with"
        )


def built_in_curves() -> tuple[KnownCurve, ...]:
    """All curves of this package."""
    return msgspec.json.decode(_BUILT_IN.read_bytes(), type=tuple[KnownCurve, ...])


def built_in(subject: CurveSubject) -> KnownCurve | None:
    """The curve of this package for a subject; ``None`` if there is none."""
    for known in built_in_curves():
        if known.subject is not None and not known.subject.differences(subject):
            return known
    return None


def read_curve(path: Path) -> KnownCurve:
    """The curve in a file.

    Raises:
        CurveError: there is no such file, or it holds no curve with a provenance.
    """
    try:
        known = msgspec.json.decode(path.read_bytes(), type=KnownCurve)
    except OSError as error:
        raise CurveError(
            f"plan.curve: {path} cannot be read as a file: {error.strerror}; there are the words "
            '"auto", "fit" and "given" too'
        ) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise CurveError(
            f"{path} is no file of a learning curve ({error}); 'fimi learning-curve --write FILE' "
            "makes one"
        ) from error
    if known.subject is None or not known.amounts:
        raise CurveError(f"{path} does not say what its learning curve was measured on")
    return msgspec.structs.replace(known, source="file", file=str(path))
