"""The power and energy of sending and receiving, from measured settings.

* :func:`fit_radio`    electronics and joules per bit from paced traffic, docs/model.md (40)
* :func:`fit_receive`  extra power while receiving
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from fimi.energy.calibration.fit import (
    Estimate,
    FitError,
    Setting,
    mean_of,
    non_negative,
    of_activity,
)


class RadioFit(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The power of sending beyond the transmit power: P_el + e_bit · rate.

    Attributes:
        electronics_w: P_el.
        energy_per_bit_j: e_bit.
        rate_bps: highest rate that was reached.
    """

    electronics_w: Estimate
    energy_per_bit_j: Estimate
    rate_bps: float


def fit_radio(settings: Sequence[Setting], idle_w: float) -> RadioFit:
    """Electronics and joules per bit: least squares of P − P_idle − p over the rate.

    Raises:
        FitError: there are fewer than three settings, or all have the same rate.
    """
    sent = of_activity(settings, "send")
    rates = np.array([s.rate_bps for s in sent])
    if len(sent) < 3 or rates.max() < 1.2 * rates.min():
        raise FitError(
            "radio power needs at least three paced uploads whose rates differ by a fifth or more"
        )
    extra = np.array([s.power_w - idle_w - s.transmit_power_w for s in sent])
    scale = float(rates.max())
    design = np.column_stack([np.ones(len(sent)), rates / scale])
    weights = 1.0 / np.array([s.power_w for s in sent])
    (electronics_w, per_bit), _, _ = non_negative(design, extra, weights)
    per_bit_j = per_bit.scaled(1.0 / scale)
    return RadioFit(electronics_w=electronics_w, energy_per_bit_j=per_bit_j, rate_bps=scale)


def fit_receive(settings: Sequence[Setting], idle_w: float) -> Estimate:
    """Extra power while receiving, W.

    Raises:
        FitError: nothing was received at least twice.
    """
    received = of_activity(settings, "receive")
    if len(received) < 2:
        raise FitError("receive power needs at least two settings that receive")
    found = mean_of(np.array([s.power_w - idle_w for s in received]))
    return Estimate(value=max(0.0, found.value), low=max(0.0, found.low), high=max(0.0, found.high))
