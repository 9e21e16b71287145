"""How a meter shows what a board draws: late, as a mean, in steps of time.

* :class:`MeterResponse`  delay, averaging window and refresh period of a meter
* :meth:`MeterResponse.share_before`  how much of a reading is of the time before an edge

A meter computes a new value every ``refresh_s``: the mean power of the ``window_s`` that ended
``delay_s`` before. Until the next value it shows the same one. When it is read at a time that does
not depend on its refreshes, the value is up to ``refresh_s`` old, any age being equally likely. So
a reading is on average the power, weighted by the *kernel* of the meter: a box of length
``window_s``, convolved with a box of length ``refresh_s``, moved by ``delay_s``.

An energy counter has no window: the difference of two values is exact for the time between the two
refreshes that made them.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import ArrayLike, NDArray

Origin = Literal["chip", "learned", "assumed", "emulated"]
"""Where a response is known from: the chip's settings, a step load, the usual for such a meter, or
an emulation that makes it so."""

_Seconds = Annotated[float, Meta(ge=0, le=600)]


class MeterResponse(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The response of a meter to a step of power.

    Attributes:
        delay_s: from the end of the averaging window to the value's appearance, s.
        window_s: length of the time that a value is the mean of, s; 0 for the power of an instant.
        refresh_s: time between two new values, s.
        delay_sd_s: one standard deviation of what is known of the delay, s.
        origin: where this is known from.
    """

    delay_s: _Seconds = 0.0
    window_s: _Seconds = 0.0
    refresh_s: _Seconds = 0.0
    delay_sd_s: _Seconds = 0.0
    origin: Origin = "assumed"

    @property
    def lag_s(self) -> float:
        """Mean age of the power in a reading, s."""
        return self.delay_s + (self.window_s + self.refresh_s) / 2.0

    @property
    def spread_s(self) -> float:
        """Length of the kernel: a step of power shows whole after ``delay_s`` and this, s."""
        return self.window_s + self.refresh_s

    @property
    def settling_s(self) -> float:
        """Time after which a reading has nothing of before a step of power, s."""
        return self.delay_s + self.spread_s

    def share_after(self, since_s: ArrayLike) -> NDArray[np.float64]:
        """The share of a reading that is of the time after an edge, 0 to 1, of the same shape.

        Args:
            since_s: time of the reading since the edge, s; negative before it.
        """
        at = np.asarray(since_s, float) - self.delay_s
        short, long = sorted((self.window_s, self.refresh_s))
        if long == 0.0:
            return np.heaviside(at, 1.0)
        if short < 1e-9 * long:
            return np.clip(at / long, 0.0, 1.0)
        # The integral of a box over a ramp: differences of squares, which must not become large.
        at = np.clip(at, 0.0, short + long)
        ramps = _half_square(at) - _half_square(at - short) - _half_square(at - long)
        return np.clip((ramps + _half_square(at - short - long)) / (short * long), 0.0, 1.0)

    def __str__(self) -> str:
        parts = [f"{self.delay_s:.3g} s late"] if self.delay_s or self.delay_sd_s else []
        if parts and self.delay_sd_s:
            parts[0] = f"{self.delay_s:.3g} ± {self.delay_sd_s:.2g} s late"
        if self.window_s:
            parts.append(f"mean of {self.window_s:.3g} s")
        if self.refresh_s:
            parts.append(f"new every {self.refresh_s:.3g} s")
        return (", ".join(parts) or "at once") + f" ({self.origin})"


AT_ONCE = MeterResponse()
"""A meter that shows the power of the instant at which it is read."""


def uniform_sd_s(width_s: float) -> float:
    """One standard deviation of a uniform distribution of this width, s."""
    return width_s / math.sqrt(12.0)


def _half_square(value: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = np.maximum(value, 0.0)
    return positive * positive / 2.0
