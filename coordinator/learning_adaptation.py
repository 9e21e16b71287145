"""When the planned errors drift, and the learning curve as fitted to the run.

What :mod:`fimi.coordinator.adaptation` does for boards is done here for learning. The plan says to
which error Δ the devices' local training falls. :class:`LearningAdaptation` foresees from it the
mean error of each round (:mod:`fimi.optim.progress`), takes in what was measured, and says when the
two do not fit. :mod:`fimi.coordinator.data_replanning` then plans the data again.

A fleet shows one level: its devices hold about the same amounts. So a refit scales the curve and
leaves its exponent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from fimi.coordinator.settings import PlanSettings
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.progress import Progress, foresee
from fimi.optim.target import RoundsModel
from fimi.record.results import DeviceRound, RoundResult

_SURE = 2.0
"""Standard deviations by which a measured level must differ from the planned one."""
_ERROR_MAX = 0.95
"""Highest level of a fitted curve."""


class LearningState(Struct, frozen=True, kw_only=True):
    """What was learned of learning so far.

    Attributes:
        curve: learning curve in force.
        rounds: rounds(Δ) in force.
        planned: Δ of the plan in force, by that curve.
        expected: the errors that were expected with that plan, before it was in force.
        numbers: rounds under that plan whose errors were measured.
        errors: their mean local errors, 0 to 1.
        accuracies: of the global model on images for validation, of all rounds so far.
    """

    curve: LearningCurve
    rounds: RoundsModel
    planned: float
    expected: Progress
    numbers: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()

    @property
    def progress(self) -> Progress:
        """The errors to come, from what was expected and measured."""
        return foresee(self.expected, self.numbers, self.errors)


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
        errors = [e.local_error for e in result.participants if e.local_error is not None]
        state = self.state
        if errors:
            state = replace(
                state,
                numbers=(*state.numbers, result.number),
                errors=(*state.errors, math.fsum(errors) / len(errors)),
            )
        if result.validation is not None:
            state = replace(state, accuracies=(*state.accuracies, result.validation.accuracy))
        self.state = state
        self._progress = state.progress

    def drifted(self) -> bool:
        """Whether Δ of the plan in force is not where the errors fall to.

        Not before a whole window of rounds, and where refits are off.
        """
        settings, state, found = self._settings, self.state, self._progress
        if not settings.error_drift or len(state.numbers) < settings.refit_window:
            return False
        apart = abs(math.log(found.floor / state.expected.floor))
        return (
            abs(found.floor - state.planned) > settings.error_drift
            and apart > _SURE * found.floor_sd
        )

    def refit(self) -> LearningState:
        """Curve and rounds(Δ) fitted to the run; they are in force from now on."""
        state, found = self.state, self._progress
        scale = min(found.floor / state.planned, _ERROR_MAX / state.planned)
        curve = LearningCurve(
            alpha=state.curve.alpha * scale,
            beta=state.curve.beta,
            delta0=state.curve.delta0 * scale,
        )
        self.state = replace(
            state, curve=curve, rounds=_refitted(state.rounds, state.accuracies, found.floor)
        )
        return self.state

    def begin_again(self, planned: float) -> None:
        """A plan of that Δ is in force from now on."""
        found = self._progress
        self.state = replace(
            self.state,
            planned=planned,
            expected=replace(found, floor=planned),
            numbers=(),
            errors=(),
        )
        self._progress = self.state.progress


def begin(curve: LearningCurve, rounds: RoundsModel, planned: float, classes: int) -> LearningState:
    """What is known before the first round of a plan of error Δ; ``classes`` are guessed from."""
    guessing = max(1.0 - 1.0 / classes - planned, 0.01)
    falls = rounds.scale * math.exp(min(rounds.sensitivity * planned, 50.0))
    return LearningState(
        curve=curve,
        rounds=rounds,
        planned=planned,
        expected=Progress(floor=planned, start=guessing, rounds=max(falls, 0.1)),
    )


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
