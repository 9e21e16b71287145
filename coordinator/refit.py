"""A board's cost parameters, fitted to the seconds and joules of its rounds.

Windowed least squares with the profile as prior, docs/model.md (42): a round shows one frequency
only, which cannot separate κ and P_act. So the profile's value of every parameter is weighted by
how wrong a profile may be, and each reading by its uncertainty. With many rounds, or several
frequencies after replanning, the readings weigh more. Where the profile has a measured table, its
shape is kept and its scale is fitted.

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

from fimi.energy.cost_model import BoardModel, OperatingPoint, compute_power_w, computing_power_w
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
    entry: DeviceRound, point: OperatingPoint, *, training: TrainingSettings, model_bits: float
) -> RefitPoint | None:
    """The observations in a device's entry; ``None`` where it never reported.

    Args:
        entry: the device in a round.
        point: how it was to work.
        training: epochs or steps.
        model_bits: size of the model, both ways.
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
        if energy is not None and energy.value_j > 0.0:
            power_w[phase] = energy.value_j / duration_s
            power_sd_w[phase] = energy.uncertainty_j / duration_s
    return RefitPoint(
        point=point,
        frequency_hz=entry.frequency_hz or point.frequency_hz,
        samples=training.processed(entry.local_samples + entry.synthetic_samples)
        + looked_at(entry.unlabelled_samples or 0),
        upload_bits=model_bits,
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
    idle_w, active_w, kappa, receive_w, electronics_w = _powers(profile, observations)
    scale = 1.0
    if compute.points:
        hz = math.fsum(o.frequency_hz for o in observations) / len(observations)
        table_w = computing_power_w(compute, hz)
        before_w = float(compute_power_w(hz, compute.capacitance_w_per_hz3, compute.active_power_w))
        fitted_w = active_w + kappa * hz**3 + table_w - before_w
        scale = max(fitted_w, 0.0) / max(table_w, 1e-9)
    cycles = _log_ratio(
        observations,
        lambda o: o.seconds["compute"] * o.frequency_hz / (o.samples * compute.cycles_per_sample),
        "compute",
        LOAD_SD,
    )
    gain = _log_ratio(
        observations, lambda o: _gain(o, profile) / link.channel_gain, "upload", FADING_SD
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
            capacitance_w_per_hz3=kappa,
            active_power_w=active_w,
            points=tuple(
                replace(
                    point,
                    seconds_per_sample=cycles * point.seconds_per_sample,
                    power_w=scale * point.power_w,
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
    """P_idle, P_act, κ, P_rx and P_el: linear in the mean powers of the phases."""
    compute, link = profile.compute, profile.link
    top_hz = compute.frequency_max_hz
    top_w = compute.capacitance_w_per_hz3 * top_hz**3
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
        rising = (o.frequency_hz / top_hz) ** 3
        # What the measured points or the linear term have besides κ f³ + P_act is known, and not
        # for these two to explain.
        beyond_w = computing_power_w(compute, o.frequency_hz) - compute_power_w(
            o.frequency_hz, compute.capacitance_w_per_hz3, compute.active_power_w
        )
        for phase, power_w in o.power_w.items():
            row = {
                "idle": [1.0, 0.0, 0.0, 0.0, 0.0],
                "model-download": [1.0, 0.0, 0.0, 1.0, 0.0],
                "compute": [1.0, 1.0, rising, 0.0, 0.0],
                "upload": [1.0, 0.0, 0.0, 0.0, 1.0],
            }.get(phase)
            if row is None:
                continue
            known_w = beyond_w if phase == "compute" else 0.0
            if phase == "upload":
                per_bit_w = link.energy_per_bit_j * o.upload_bits / o.seconds[phase]
                known_w = o.point.transmit_power_w + per_bit_w
            rows.append(row)
            values.append(power_w - known_w)
            deviations.append(max(READING_SD * power_w, o.power_sd_w[phase]))
    design = np.array(rows).reshape(-1, 5)
    sure = 1.0 / np.array(deviations)
    a = np.vstack([design * sure[:, None], np.diag(1.0 / spread)])
    b = np.concatenate([np.array(values) * sure, prior / spread])
    found = _not_below(a, b, np.array([0.0, 0.0, 1e-3 * top_w, 0.0, 0.0]))
    idle_w, active_w, at_top_w, receive_w, electronics_w = (float(v) for v in found)
    return idle_w, active_w, at_top_w / top_hz**3, receive_w, electronics_w


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


def _gain(o: RefitPoint, profile: BoardModel) -> float:
    """Channel gain that explains an upload's time: (3) solved for h."""
    nats = math.log(2.0) * o.upload_bits / o.seconds["upload"] / o.point.bandwidth_hz
    noise_w = profile.link.noise_density_w_per_hz * o.point.bandwidth_hz
    return noise_w / o.point.transmit_power_w * math.expm1(min(nats, 500.0))
