"""A board's cost parameters, fitted to the seconds and joules of its rounds.

Windowed least squares with the profile as prior, docs/model.md (42): a round shows one frequency
only, which cannot separate P_act from what rises with the frequency. So the profile's value of
every parameter is weighted by how wrong a profile may be, and each reading by its uncertainty. With
many rounds, or several frequencies after replanning, the readings weigh more. c and κ are scaled
together: they are of the same transistors. Where the profile has measured operating points, their
shape is kept, and one scale of their watts and one of their seconds are fitted.

* :class:`RefitPoint`  observations of a board in one round
* :func:`observe`       from a device's entry in a round
* :func:`refit`         profile and observations to new cost parameters
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    LinkModel,
    OperatingPoint,
    achieved_power_w,
    formula_power_w,
    sending_power_w,
)
from fimi.learning.training.pseudo_labels import looked_at
from fimi.learning.training.trainer import TrainingSettings
from fimi.record.results import DeviceRound, metered

Array = NDArray[np.float64]

PRIOR_SD = 0.25
"""How wrong a profile may be: one relative standard deviation of each of its values."""
PRIOR_POWER_W = 0.3
"""The same for powers of the radio, which a profile may leave at zero, W."""
READING_SD = 0.01
"""Least relative standard deviation of a phase's mean power."""
LOAD_SD = 0.03
"""One relative standard deviation of a round's cycles: background load."""
FADING_SD = 0.12
"""The same of a round's channel gain, half a decibel."""
RATE_SD = 0.05
"""The same of a download's rate."""
_NEAR_THE_CAP = 0.95
"""From this share of its cap on, a rate says nothing of the channel."""


class RefitPoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Observations of a board in one round.

    Attributes:
        point: how it was to work.
        frequency_hz: achieved, Hz.
        samples: processed, E·D or S·B.
        upload_bits: size of the update.
        download_bits: size of the model.
        seconds: by phase, as metered.
        power_w: by phase, mean; only where it was read.
        power_sd_w: by phase, one standard deviation.
    """

    point: OperatingPoint
    frequency_hz: float
    samples: int
    upload_bits: float
    download_bits: float
    seconds: dict[str, float]
    power_w: dict[str, float]
    power_sd_w: dict[str, float]


def observe(
    entry: DeviceRound,
    point: OperatingPoint,
    *,
    training: TrainingSettings,
    model_bits: float,
    update_bits: float | None = None,
) -> RefitPoint | None:
    """The observations in a device's entry; ``None`` where it never reported.

    Args:
        entry: the device in a round.
        point: how it was to work.
        training: epochs or steps.
        model_bits: size of the model as sent.
        update_bits: size of the update as sent; that of the model if left out.
    """
    if not entry.phases or entry.status not in ("accepted", "late"):
        return None
    seconds: dict[str, float] = {}
    power_w: dict[str, float] = {}
    power_sd_w: dict[str, float] = {}
    for phase in dict.fromkeys(record.phase for record in entry.phases):
        records = [record for record in entry.phases if record.phase == phase]
        duration_s = math.fsum(record.duration_s for record in records)
        if duration_s <= 0.0:
            continue
        seconds[phase] = duration_s
        energy = metered(records)
        resolved = all(record.resolved for record in records)
        if energy is not None and energy.value_j > 0.0 and resolved:
            power_w[phase] = energy.value_j / duration_s
            power_sd_w[phase] = energy.uncertainty_j / duration_s
    return RefitPoint(
        point=point,
        frequency_hz=entry.frequency_hz or point.frequency_hz,
        samples=training.processed(entry.local_samples + entry.synthetic_samples)
        + looked_at(entry.unlabelled_samples or 0),
        upload_bits=model_bits if update_bits is None else update_bits,
        download_bits=model_bits,
        seconds=seconds,
        power_w=power_w,
        power_sd_w=power_sd_w,
    )


def refit(profile: BoardModel, observations: Sequence[RefitPoint]) -> BoardModel:
    """New cost parameters of a board; the profile itself where there are no observations.

    Args:
        profile: what the device said first: the prior.
        observations: of the window.
    """
    if not observations:
        return profile
    compute, link = profile.compute, profile.link
    idle_w, active_w, rising, receive_w, electronics_w = _powers(profile, observations)
    cycles = _log_ratio(
        observations,
        lambda o: o.seconds["compute"] * o.frequency_hz / (o.samples * compute.cycles_per_sample),
        "compute",
        LOAD_SD,
    )
    gain = _log_ratio(
        [o for o in observations if not _at_the_cap(o, link)],
        lambda o: _gain(o, link) / link.channel_gain,
        "upload",
        FADING_SD,
    )
    downlink = _log_ratio(
        observations,
        lambda o: o.download_bits / o.seconds["model-download"] / link.downlink_rate_bps,
        "model-download",
        RATE_SD,
    )
    return replace(
        profile,
        compute=replace(
            compute,
            cycles_per_sample=compute.cycles_per_sample * cycles,
            capacitance_w_per_hz3=compute.capacitance_w_per_hz3 * rising,
            linear_power_w_per_hz=compute.linear_power_w_per_hz * rising,
            active_power_w=active_w,
            points=tuple(
                replace(
                    point,
                    seconds_per_sample=cycles * point.seconds_per_sample,
                    power_w=rising * point.power_w,
                )
                for point in compute.points
            ),
        ),
        link=replace(
            link,
            channel_gain=link.channel_gain * gain,
            downlink_rate_bps=link.downlink_rate_bps * downlink,
            receive_power_w=receive_w,
            electronics_power_w=electronics_w,
        ),
        idle_power_w=idle_w,
    )


def _powers(
    profile: BoardModel, observations: Sequence[RefitPoint]
) -> tuple[float, float, float, float, float]:
    """P_idle, P_act, the scale of what rises with the frequency, P_rx and P_el.

    The mean powers of the phases are linear in them. At measured points P_act is left as it is, and
    the scale is that of the points' watts.
    """
    compute, link = profile.compute, profile.link
    top_w = max(_rising_w(compute, None), 1e-9)
    prior = np.array(
        [
            profile.idle_power_w,
            compute.active_power_w,
            top_w,
            link.receive_power_w,
            link.electronics_power_w,
        ]
    )
    spread = PRIOR_SD * prior + np.array([0.0, 0.0, 0.0, PRIOR_POWER_W, PRIOR_POWER_W])
    spread = np.maximum(spread, 1e-3)
    rows, values, deviations = [], [], []
    for o in observations:
        rising = _rising_w(compute, o) / top_w
        always = 0.0 if compute.points else 1.0
        for phase, power_w in o.power_w.items():
            row = {
                "idle": [1.0, 0.0, 0.0, 0.0, 0.0],
                "model-download": [1.0, 0.0, 0.0, 1.0, 0.0],
                "compute": [1.0, always, rising, 0.0, 0.0],
                "upload": [1.0, 0.0, 0.0, 0.0, 1.0],
            }.get(phase)
            if row is None:
                continue
            known_w = 0.0
            if phase == "upload":
                per_bit_w = link.energy_per_bit_j * o.upload_bits / o.seconds[phase]
                known_w = sending_power_w(link, o.point.transmit_power_w) + per_bit_w
            rows.append(row)
            values.append(power_w - known_w)
            deviations.append(max(READING_SD * power_w, o.power_sd_w[phase]))
    design = np.array(rows).reshape(-1, 5)
    sure = 1.0 / np.array(deviations)
    a = np.vstack([design * sure[:, None], np.diag(1.0 / spread)])
    b = np.concatenate([np.array(values) * sure, prior / spread])
    found = _not_below(a, b, np.array([0.0, 0.0, 1e-3 * top_w, 0.0, 0.0]))
    idle_w, active_w, at_top_w, receive_w, electronics_w = (float(v) for v in found)
    return idle_w, active_w, at_top_w / top_w, receive_w, electronics_w


def _rising_w(compute: ComputeModel, o: RefitPoint | None) -> float:
    """Power above idle without P_act in an observation, W; without one, the highest there is."""
    if not compute.points:
        hz = compute.frequency_max_hz if o is None else o.frequency_hz
        return formula_power_w(compute, hz) - compute.active_power_w
    if o is None:
        return max(point.power_w for point in compute.points)
    return achieved_power_w(compute, o.point, o.frequency_hz)


def _not_below(a: Array, b: Array, floor: Array) -> Array:
    """Least squares with lower bounds: what falls below is held there and the rest fitted again."""
    held = np.zeros(a.shape[1], bool)
    found = floor.copy()
    while not held.all():
        rest = b - a[:, held] @ floor[held]
        found[held] = floor[held]
        found[~held] = np.linalg.lstsq(a[:, ~held], rest, rcond=None)[0]
        below = ~held & (found < floor)
        if not below.any():
            break
        held |= below
    return np.asarray(np.maximum(found, floor))


def _log_ratio(
    observations: Sequence[RefitPoint],
    ratio: Callable[[RefitPoint], float],
    phase: str,
    deviation: float,
) -> float:
    """Geometric mean of observed over declared, drawn towards 1 as far as it is uncertain."""
    usable = [o for o in observations if o.seconds.get(phase, 0.0) > 0.0 and o.samples > 0]
    logs = [math.log(value) for o in usable if (value := ratio(o)) > 0.0]
    if not logs:
        return 1.0
    sure = len(logs) / deviation**2
    mean = math.fsum(logs) / len(logs)
    return math.exp(mean * sure / (sure + 1.0 / PRIOR_SD**2))


def _gain(o: RefitPoint, link: LinkModel) -> float:
    """Channel gain that explains an upload's time: (3) solved for h."""
    nats = math.log(2.0) * o.upload_bits / o.seconds["upload"] / o.point.bandwidth_hz
    noise_w = link.noise_density_w_per_hz * o.point.bandwidth_hz
    power_w = sending_power_w(link, o.point.transmit_power_w)
    return noise_w / power_w * math.expm1(min(nats, 500.0))


def _at_the_cap(o: RefitPoint, link: LinkModel) -> bool:
    """Whether the radio sent as fast as it can: that says nothing of the channel."""
    seconds = o.seconds.get("upload", 0.0)
    if link.rate_cap_bps is None or seconds <= 0.0:
        return False
    return o.upload_bits / seconds >= _NEAR_THE_CAP * link.rate_cap_bps
