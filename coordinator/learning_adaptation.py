"""When planned errors drift, and the learning curve as fitted to the run; docs/model.md (48), (49).

What :mod:`fimi.coordinator.adaptation` does for boards is done here for learning. The plan says to
which error Δ the devices' local training falls. :class:`LearningAdaptation` foresees from it the
mean error of each round (:mod:`fimi.optim.progress`), takes in what was measured, and says when the
two do not fit. :mod:`fimi.coordinator.data_replanning` then plans the data again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from fimi.coordinator.settings import PlanSettings
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.progress import Progress, foresee
from fimi.optim.rounds_model import RoundsModel
from fimi.record.results import DeviceRound, RoundResult

_SURE = 2.0
"""Standard deviations by which a measured level must differ from the planned one."""
_BEYOND, _STAYS = 2.0, 0.8
"""What is wrong on other images alone tells a level beyond so many times the error that was
expected of the round, if it is at least this share of what it was in the round before."""
_WIDE = 1.5
"""Devices whose classes would be even with so many times their samples show more than a level."""
_STRAY, _STRAY_ERROR = 3.0, 0.05
"""A device's error counts up to so many times the median, and this."""
_LEVEL_MAX, _BETA_MAX = 0.95, 5.0
"""Highest level and exponent of a fitted curve."""


class LearningState(Struct, frozen=True, kw_only=True):
    """What was learned of learning so far.

    Attributes:
        curve: learning curve in force.
        rounds: rounds(Δ) in force.
        planned: Δ of the plan in force, by that curve.
        expected: the errors that were expected with that plan, before it was in force.
        numbers: rounds under that plan whose errors were measured.
        errors: their mean local errors, 0 to 1.
        gaps: by how much each of them is above the devices' errors on their own samples.
        accuracies: of the global model on images for validation, of all rounds so far.
    """

    curve: LearningCurve
    rounds: RoundsModel
    planned: float
    expected: Progress
    numbers: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()
    gaps: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()

    @property
    def progress(self) -> Progress:
        """The errors to come, from what was expected and measured."""
        return foresee(self.expected, self.numbers, self.errors)


class Holding(Struct, frozen=True, kw_only=True):
    """What devices hold, as the geometric means of samples.

    Attributes:
        now: worth in real samples of what they have.
        even: the same if no class had fewer samples than their largest one, as far as they may
            get synthetic samples.
    """

    now: float
    even: float


class LearningAdaptation:
    """Planned and measured errors, and the refits that follow from them.

    Args:
        settings: window, limit of the drift, and q.
        state: what is known before the first round (:func:`begin`), or from an earlier coordinator.
    """

    def __init__(self, settings: PlanSettings, state: LearningState) -> None:
        self._settings = settings
        self._progress = state.progress
        self.state = state

    def planned(self, number: int, entry: DeviceRound) -> float:
        """What the curve and the rounds so far say of a device's error in a round."""
        state = self.state
        worth = entry.local_samples + self._settings.synthetic_value * entry.synthetic_samples
        own = float(state.curve.error(max(worth, 1.0))) / state.planned
        return min(1.0, self._progress.error(number) * own)

    def learn(self, result: RoundResult) -> None:
        """Take in a round whose participants trained on all of their images."""
        state, errors = self.state, [e.local_error for e in result.participants]
        measured = [error for error in errors if error is not None]
        if measured:
            error = _without_strays(measured)
            own = [e.training_accuracy for e in result.participants if e.local_error is not None]
            known = [accuracy for accuracy in own if accuracy is not None]
            own_error = 1.0 - math.fsum(known) / len(known) if known else error
            state = replace(
                state,
                numbers=(*state.numbers, result.number),
                errors=(*state.errors, error),
                gaps=(*state.gaps, error - own_error),
            )
        if result.validation is not None:
            state = replace(state, accuracies=(*state.accuracies, result.validation.accuracy))
        self.state = state
        self._progress = state.progress

    @property
    def level(self) -> float | None:
        """To which error the devices' training falls, where that is not Δ of the plan.

        It is the level of the rounds so far where they tell it. Earlier it is what is wrong on
        other images and right on the devices' own, where that is far more than was expected of the
        round, and stays: training is done then, and the data lack something. ``None`` before a
        whole window of rounds, where nothing drifts, and where refits are off.
        """
        settings, state, found = self._settings, self.state, self._progress
        if not settings.error_drift or len(state.numbers) < settings.refit_window:
            return None
        apart = abs(math.log(found.floor / state.expected.floor))
        if (
            abs(found.floor - state.planned) > settings.error_drift
            and apart > _SURE * found.floor_sd
        ):
            return found.floor
        before, gap = state.gaps[-2:][0], state.gaps[-1]
        expected = state.expected.error(state.numbers[-1])
        if gap > _BEYOND * expected + settings.error_drift and gap > _STAYS * before:
            return gap
        return None

    def refit(self, level: float, held: Holding) -> LearningState:
        """(49) Curve and rounds(Δ) fitted to the run; they are in force from now on.

        A fleet shows the level at one amount of data. If its classes are even, the curve is scaled.
        Else a level above the curve is laid to what classes lack: with even classes the curve
        holds, and between the two amounts the error falls by a power law.
        """
        state, level = self.state, min(level, _LEVEL_MAX)
        scale = level / state.planned
        curve = LearningCurve(
            alpha=state.curve.alpha * scale,
            beta=state.curve.beta,
            delta0=state.curve.delta0 * scale,
        )
        even = float(state.curve.error(held.even)) - state.curve.delta0
        if scale > 1.0 and held.even > _WIDE * held.now:
            above = level - state.curve.delta0
            beta = math.log(above / even) / math.log(held.even / held.now)
            beta = min(max(beta, state.curve.beta), _BETA_MAX)
            curve = replace(state.curve, alpha=above * held.now**beta, beta=beta)
        rounds = _refitted(state.rounds, state.accuracies, level)
        self.state = replace(state, curve=curve, rounds=rounds)
        return self.state

    def begin_again(self, planned: float) -> None:
        """A plan of that Δ is in force from now on; errors fall on from the last one."""
        state = self.state
        expected = _expected(planned, state.rounds, 1.0)
        if state.numbers:
            above = max(state.errors[-1] - planned, 0.01)
            gone = min((state.numbers[-1] - 1) / expected.rounds, 50.0)
            expected = replace(expected, start=above * math.exp(gone))
        self.state = replace(
            state, planned=planned, expected=expected, numbers=(), errors=(), gaps=()
        )
        self._progress = self.state.progress


def _without_strays(errors: Sequence[float]) -> float:
    """The mean, where a device whose training has diverged counts no more than a bad one."""
    most = _STRAY * statistics.median(errors) + _STRAY_ERROR
    return math.fsum(min(error, most) for error in errors) / len(errors)


def begin(curve: LearningCurve, rounds: RoundsModel, planned: float, classes: int) -> LearningState:
    """What is known before the first round of a plan of error Δ; ``classes`` are guessed from."""
    return LearningState(
        curve=curve,
        rounds=rounds,
        planned=planned,
        expected=_expected(planned, rounds, 1.0 - 1.0 / classes),
    )


def _expected(planned: float, model: RoundsModel, first: float) -> Progress:
    """The errors of rounds that begin with a ``first`` one and fall to Δ, as rounds(Δ) falls."""
    falls = min(model.fall(planned), 1e9)
    return Progress(floor=planned, start=max(first - planned, 0.01), rounds=max(falls, 0.1))


def _refitted(model: RoundsModel, accuracies: Sequence[float], error: float) -> RoundsModel:
    """rounds(Δ) with the scale at which it gives the rounds that accuracies really took.

    The rounds that brought a new best count, as far as it is neither a guess nor beyond what so
    few images tell; the scale before counts as one of them.
    """
    logs, best = [0.0], 0.5
    for number, accuracy in enumerate(accuracies, 1):
        if best < accuracy < 0.995:
            best = accuracy
            logs.append(math.log(number / max(model.rounds(error, accuracy), 1e-9)))
    return replace(model, scale=model.scale * math.exp(math.fsum(logs) / len(logs)))
