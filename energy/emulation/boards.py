"""Declarations of emulated boards: the cost parameters that the planner is told.

* :func:`declare_board`   one device of a make: its declared cost parameters and meter
* :func:`fleet`           a heterogeneous fleet of them, reproducible device by device

The true cost of a board differs from its declaration, see :mod:`fimi.energy.emulation.board`. The
makes and their figures: :mod:`fimi.energy.emulation.presets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    ComputePoint,
    ComputeSetting,
    LinkModel,
)
from fimi.energy.emulation.meter_families import MeterFamily, meter_of
from fimi.energy.emulation.presets import PRESETS, BoardPreset
from fimi.energy.emulation.radios import as_in_the_paper
from fimi.energy.meters import MeterDescription

THERMAL_NOISE_W_PER_HZ = 10 ** (-174 / 10) * 1e-3
"""N0 = −174 dBm/Hz, thermal noise at 290 K."""

REFERENCE_CYCLES_PER_SAMPLE = 1.0e7
"""C of a small convolutional network on the reference board
(:attr:`fimi.energy.emulation.presets.BoardPreset.cycles_factor`)."""

RadioKind = Literal["wifi", "paper"]
"""``wifi``: the make's radio as it is. ``paper``: settable power, which is all that sending
costs."""
WorkKind = Literal["training", "stress"]
"""``training``: what boards do in a federation. ``stress``: arithmetic on all cores, to try heat.
"""

_PLACE = 1  # first word of a stream's spawn key; fimi.energy.emulation.board has 2 and 3


class BoardDeclaration(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The declaration of one emulated device.

    Attributes:
        board: name of its make.
        model: declared cost parameters, which the planner gets.
        meter: its meter.
        meter_noise_w: one standard deviation of a reading's noise, W.
        meter_family: which family its meter is of.
    """

    board: str
    model: BoardModel
    meter: MeterDescription
    meter_noise_w: float
    meter_family: MeterFamily = "preset"


def declare_board(
    name: str,
    *,
    seed: int,
    index: int,
    cycles_per_sample: float = REFERENCE_CYCLES_PER_SAMPLE,
    noise_density_w_per_hz: float = THERMAL_NOISE_W_PER_HZ,
    path_loss_db: tuple[float, float] = (95.0, 115.0),
    downlink_rate_bps: tuple[float, float] = (10e6, 20e6),
    radio: RadioKind = "wifi",
    work: WorkKind = "training",
    meter: MeterFamily = "preset",
) -> BoardDeclaration:
    """Declare one device.

    Args:
        name: its make, a key of :data:`PRESETS`.
        seed: seed of the fleet.
        index: index of the device; with the seed it determines path loss and downlink rate.
        cycles_per_sample: C on the reference board; the make's efficiency scales it.
        noise_density_w_per_hz: N0.
        path_loss_db: range from which the device's path loss is drawn, dB.
        downlink_rate_bps: range from which its downlink rate is drawn, bit/s; a radio receives no
            faster than it sends.
        radio: the make's own radio, or the paper's.
        work: what its processor does. A make that trains on its GPU does ``stress`` on its CPU.
        meter: the make's own, or one of another family.

    Raises:
        ValueError: for a make or a family of meters that does not exist.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise ValueError(f"no emulated board is called {name!r}; there are {', '.join(PRESETS)}")
    place = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PLACE, index)))
    loss_db, rate_bps = place.uniform(*path_loss_db), place.uniform(*downlink_rate_bps)
    sender = preset.radio if radio == "wifi" else as_in_the_paper(preset.radio)
    if sender.rate_cap_bps is not None:
        rate_bps = min(rate_bps, sender.rate_cap_bps)
    own = MeterDescription(
        source=f"emulated:{name}:{preset.meter}",
        kind="emulated",
        scope="board",
        rate_hz=preset.meter_rate_hz,
        resolution_w=preset.meter_resolution_w,
        relative_uncertainty=preset.meter_uncertainty,
    )
    return BoardDeclaration(
        board=name,
        model=BoardModel(
            compute=_compute(preset, cycles_per_sample * preset.cycles_factor, work),
            link=LinkModel(
                channel_gain=10.0 ** (-loss_db / 10.0),
                noise_density_w_per_hz=noise_density_w_per_hz,
                transmit_power_max_w=sender.transmit_power_max_w,
                downlink_rate_bps=rate_bps,
                receive_power_w=sender.receive_power_w,
                electronics_power_w=sender.electronics_power_w,
                energy_per_bit_j=sender.energy_per_bit_j,
                rate_cap_bps=sender.rate_cap_bps,
                power_settable=sender.power_settable,
            ),
            idle_power_w=preset.idle_power_w,
        ),
        meter=meter_of(own, name, meter),
        meter_noise_w=preset.meter_noise_w,
        meter_family=meter,
    )


def fleet(
    count: int,
    seed: int,
    *,
    boards: Sequence[str] = tuple(PRESETS),
    **others: Any,
) -> tuple[BoardDeclaration, ...]:
    """A heterogeneous fleet: makes in turn, every device with its own path loss.

    Device ``i`` does not depend on ``count``: a larger fleet begins with the smaller one.

    Args:
        count: number of devices.
        seed: seed of the fleet.
        boards: makes, taken in turn.
        others: those of :func:`declare_board`, the same for every device.

    Raises:
        ValueError: for a make that does not exist, no makes, or a negative count.
    """
    if count < 0 or not boards:
        raise ValueError(f"a fleet needs a count (got {count}) and makes (got {list(boards)})")
    return tuple(
        declare_board(boards[index % len(boards)], seed=seed, index=index, **others)
        for index in range(count)
    )


def _compute(preset: BoardPreset, cycles_per_sample: float, work: WorkKind) -> ComputeModel:
    law = preset.training if work == "training" else preset.stress
    top_s = cycles_per_sample / preset.frequency_max_hz
    return ComputeModel(
        cycles_per_sample=cycles_per_sample,
        capacitance_w_per_hz3=law.capacitance_w_per_hz3,
        linear_power_w_per_hz=law.linear_power_w_per_hz,
        active_power_w=law.active_power_w,
        frequency_min_hz=preset.frequency_min_hz,
        frequency_max_hz=preset.frequency_max_hz,
        frequency_steps_hz=preset.frequency_steps_hz,
        points=()
        if work == "stress"
        else tuple(
            ComputePoint(
                name=f"gpu {step.gpu_hz / 1e6:.6g} MHz",
                seconds_per_sample=top_s * step.relative_time,
                power_w=step.power_w,
                setting=ComputeSetting(gpu_hz=step.gpu_hz),
            )
            for step in preset.gpu_steps
        ),
    )
