"""How parameters are put into fewer bytes: half precision, 8 bits, the largest changes only.

* :class:`Coding`      which coding, with its options
* :class:`Coded`       what it did to one payload: bytes before and after, and its error
* :func:`halves`, :func:`from_halves`    single precision as 16 bits, with an exponent of its own
* :func:`eighths`, :func:`from_eighths`  as 8 bits, with a scale for each channel
* :func:`kept`, :func:`largest`          how many values top-k keeps, and which
* :func:`relative_error`                 the error that coding made

Only tensors of two and more dimensions are coded. Vectors (biases, norms and their statistics) are
about a hundredth of a network and travel in single precision: a variance that came back negative
would ruin the model. The bytes are made in :mod:`fimi.learning.training.coded`; the equations and
their sources stand in docs/model.md, "Codings".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Kind = Literal["fp32", "fp16", "int8", "top-k"]
Rounding = Literal["nearest", "stochastic"]

LEVELS = 127
"""Largest whole number of 8 bits; the scale is symmetric, so that zero stays zero."""
_SCALE_MOST = np.nextafter(np.finfo(np.float32).max / np.float32(LEVELS), np.float32(0.0))
"""So that this many of it are a number."""
_HALF_TOP = 15
"""Half precision ends at 65,504: the largest value of a tensor comes to lie below 2¹⁵."""
_HALF_MOST = np.float16(2.0**15 - 2.0**4)
"""The number below that: what is rounded up to 2¹⁵ might be too large in single precision."""
_BLOCK = 1 << 16
"""Values that are looked at together."""
EXPONENTS = (-_HALF_TOP - 149, 128 - _HALF_TOP)
"""Least and largest exponent that :func:`halves` gives."""


class Coding(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How parameters are coded.

    Attributes:
        kind: ``"fp32"``, as they are; ``"fp16"``; ``"int8"``; ``"top-k"``, for updates only.
        share: of the values that top-k sends.
        rounding: of ``"int8"``.
        feedback: whether what top-k leaves out is added to the next update.
        compress: whether Zstandard follows, which loses nothing.
    """

    kind: Kind = "fp32"
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    rounding: Rounding = "nearest"
    feedback: bool = True
    compress: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the parameters travel as they are."""
        return self.kind == "fp32" and not self.compress

    @property
    def takes_difference(self) -> bool:
        """Whether an update is coded as its difference from the model of the round."""
        return self.kind != "fp32"

    @property
    def words(self) -> str:
        """For people and the record, for example ``"top-k 5 % + zstd"``."""
        said: str = self.kind
        if self.kind == "top-k":
            said += f" {100.0 * self.share:g} %{'' if self.feedback else ' without feedback'}"
        if self.kind == "int8" and self.rounding == "stochastic":
            said += " stochastic"
        return f"{said} + zstd" if self.compress else said


class Coded(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a coding did to one payload.

    Attributes:
        coding: which, in words.
        raw_bytes: size of the same parameters in single precision.
        coded_bytes: size as sent.
        error: ‖decoded − exact‖₂ over the norm of what was coded: the model, or the difference of
            an update from it, with what top-k owed from before.
    """

    coding: Annotated[str, Meta(max_length=60)]
    raw_bytes: Annotated[int, Meta(ge=0, le=2**48)]
    coded_bytes: Annotated[int, Meta(ge=0, le=2**48)]
    error: Annotated[float, Meta(ge=0, le=1e9)]


def halves(values: NDArray[np.float32]) -> tuple[NDArray[np.float16], int]:
    """Values times 2^−e in half precision, and e, which puts the largest one just below 2¹⁵.

    An error is at most 2^−11 of its value, or 2^(e−25) where that is more.
    """
    largest = float(np.max(np.abs(values), initial=0.0))
    exponent = max(math.frexp(largest)[1] - _HALF_TOP, EXPONENTS[0])
    half = np.ldexp(values, -exponent).astype("<f2")
    return np.clip(half, -_HALF_MOST, _HALF_MOST), exponent


def from_halves(values: NDArray[np.float16], exponent: int) -> NDArray[np.float32]:
    """What :func:`halves` stands for."""
    found = values.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # of foreign bytes; the caller looks
        return np.ldexp(found, exponent, out=found)


def eighths(
    values: NDArray[np.float32], rounding: Rounding, draws: np.random.Generator | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers q from −127 to 127 and a scale s for each channel, the first axis; q s ≈ value.

    An error is at most s / 2, or below s with stochastic rounding, whose mean error is zero.

    Args:
        values: of two and more dimensions.
        rounding: ``"nearest"`` or ``"stochastic"``.
        draws: for the latter.

    Raises:
        ValueError: stochastic rounding has nothing to draw from.
    """
    rows = values.reshape(values.shape[0], -1)
    scales = np.max(np.abs(rows), axis=1, initial=0.0) / np.float64(LEVELS)
    scales = np.minimum(scales, _SCALE_MOST).astype("<f4")
    steps = np.zeros(rows.shape, np.float32)
    np.divide(rows, scales[:, None], out=steps, where=scales[:, None] > 0.0)
    if rounding == "nearest":
        np.rint(steps, out=steps)
    elif draws is not None:
        steps += draws.random(steps.shape, np.float32)
        np.floor(steps, out=steps)
    else:
        raise ValueError("stochastic rounding needs a generator to draw from")
    np.clip(steps, -LEVELS, LEVELS, out=steps)
    return steps.astype(np.int8).reshape(values.shape), scales


def from_eighths(values: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """What :func:`eighths` stands for."""
    rows = values.reshape(values.shape[0], -1).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        rows *= scales[:, None].astype(np.float32)
    return rows.reshape(values.shape)


def kept(values: int, share: float) -> int:
    """How many of so many values top-k sends: their share rounded up, so at least one of any."""
    return min(values, math.ceil(share * values))


def largest(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Positions of the values (n,) of largest size, in rising order; of equals the first ones.

    Whoever computes it anywhere finds the same ones.
    """
    if count >= len(values):
        return np.arange(len(values))
    if count == 0:
        return np.arange(0)
    sizes = np.abs(values)
    least = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
    above = np.flatnonzero(sizes > least)
    equal = np.flatnonzero(sizes == least)[: count - len(above)]
    return np.sort(np.concatenate([above, equal]))


def relative_error(decoded: Iterable[NDArray[Any]], exact: Iterable[NDArray[Any]]) -> float:
    """‖decoded − exact‖₂ / ‖exact‖₂ over all tensors; 0 where nothing was to be coded."""
    wrong, whole = 0.0, 0.0
    for there, true in zip(decoded, exact, strict=True):
        there, true = there.reshape(-1), true.reshape(-1)
        for at in range(0, len(true), _BLOCK):  # no copy of a whole tensor in double precision
            of, all_ = there[at : at + _BLOCK], true[at : at + _BLOCK].astype(np.float64)
            wrong += float(np.sum((of - all_) ** 2))
            whole += float(np.sum(all_**2))
    return math.sqrt(wrong / whole) if whole > 0.0 else 0.0
