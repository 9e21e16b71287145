"""How many rounds an accuracy takes, docs/model.md (34), and the fit of it to runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

from fimi.energy.units import hint
from fimi.optim.problem import ProblemError
from fimi.optim.rounds_defaults import (
    EPOCHS,
    EPOCHS_EXPONENT,
    ROUNDS_SCALE,
    ROUNDS_SENSITIVITY,
)


class RoundsModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """(34) rounds(Δ, E, a) = r ln(1/(1 − a)) e^(cΔ) (E/E0)^(−κ), at least 1.

    The factor ln(1/ε) is that of linear convergence; the exponential and the power are empirical.

    Attributes:
        scale: r, the factor with E0 local epochs.
        sensitivity: c.
        epochs_exponent: κ; 0: local epochs save no rounds, 1: twice as many halve them.
        epochs: E, the local epochs for which rounds are asked; E0 if left out.
    """

    scale: float = ROUNDS_SCALE
    sensitivity: float = ROUNDS_SENSITIVITY
    epochs_exponent: float = EPOCHS_EXPONENT
    epochs: int = EPOCHS

    def __post_init__(self) -> None:
        for field, value in (("scale", self.scale), ("sensitivity", self.sensitivity)):
            if not (math.isfinite(value) and value > 0):
                raise ProblemError(f"rounds model: {field} is {value}; it must be finite, > 0")
        if not (math.isfinite(self.epochs_exponent) and self.epochs_exponent >= 0):
            raise ProblemError(
                f"rounds model: epochs_exponent is {self.epochs_exponent}; it must be finite, ≥ 0"
            )
        if self.epochs < 1:
            raise ProblemError(f"rounds model: epochs is {self.epochs}; it must be 1 or more")

    def at(self, epochs: int) -> RoundsModel:
        """The same model for so many local epochs."""
        return msgspec.structs.replace(self, epochs=epochs)

    def fall(self, error: float) -> float:
        """Rounds in which the error of the global model falls by a factor e."""
        exponent = self.sensitivity * error - self.epochs_exponent * math.log(self.epochs / EPOCHS)
        return self.scale * math.exp(min(exponent, 690.0))

    def rounds(self, error: float, accuracy: float) -> float:
        """Rounds to an accuracy in (0, 1) at mean local learning error Δ, a real number ≥ 1."""
        if not 0 < accuracy < 1:
            meant = f"; {said}" if (said := hint("accuracy", accuracy)) else ""
            raise ProblemError(f"target accuracy is {accuracy}; it must be between 0 and 1{meant}")
        return max(1.0, -math.log1p(-accuracy) * self.fall(error))

    @classmethod
    def fit(
        cls,
        errors: Sequence[float],
        accuracies: Sequence[float],
        rounds: Sequence[float],
        epochs: Sequence[int] | None = None,
    ) -> RoundsModel:
        """Least squares in the logarithm of the rounds.

        Args:
            errors: Δ of each run, (n,), at least two different ones.
            accuracies: the accuracy that each reached, (n,).
            rounds: number of rounds to it, (n,), ≥ 1.
            epochs: local epochs of each, (n,); E0 for all if left out. Where all are the same, the
                exponent is the default.

        Raises:
            ValueError: there are too few runs, values are out of range, or rounds grow as the
                error falls, or with the epochs.
        """
        delta, target, count = (np.asarray(v, float) for v in (errors, accuracies, rounds))
        passes = np.full(delta.shape, float(EPOCHS)) if epochs is None else np.array(epochs, float)
        if not (delta.shape == target.shape == count.shape == passes.shape):
            raise ValueError("rounds model: give an error, accuracy, rounds and epochs of each run")
        if np.unique(delta).size < 2:
            raise ValueError("rounds model: give runs at two or more different learning errors")
        if not ((target > 0) & (target < 1) & (count >= 1) & np.isfinite(delta)).all():
            raise ValueError("rounds model: accuracies must be in (0, 1) and rounds 1 or more")
        if not (passes >= 1).all():
            raise ValueError("rounds model: epochs must be 1 or more")
        y = np.log(count) - np.log(-np.log1p(-target))
        x = np.log(passes / EPOCHS)
        columns = [np.ones_like(delta), delta]
        if np.unique(passes).size > 1:
            columns.append(-x)
        else:
            y = y + EPOCHS_EXPONENT * x
        found, _, rank, _ = np.linalg.lstsq(np.stack(columns, axis=1), y, rcond=None)
        if rank < len(columns):
            raise ValueError(
                "rounds model: errors and epochs of these runs change together; vary one at a time"
            )
        if found[1] <= 0:
            raise ValueError("rounds model: these runs took no fewer rounds with less error")
        exponent = float(found[2]) if len(columns) > 2 else EPOCHS_EXPONENT
        if exponent < 0:
            raise ValueError("rounds model: these runs took no fewer rounds with more epochs")
        return cls(scale=math.exp(found[0]), sensitivity=float(found[1]), epochs_exponent=exponent)
