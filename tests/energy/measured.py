"""Boards that differ from their declarations, and settings as a sweep would have measured them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace

from fimi.energy.calibration.fit import Setting
from fimi.energy.emulation.board import Disturbance, EmulatedBoard, VirtualBoard
from fimi.energy.emulation.boards import declare_board

FREQUENCIES = tuple(f * 1e8 for f in range(6, 19, 2))
IDLE_W, ACTIVE_W, KAPPA, CYCLES = 2.7, 0.9, 4.3e-28, 1.1e7


def idle(power_w: float = IDLE_W, seconds: float = 10.0) -> Setting:
    return Setting(
        activity="idle", frequency_hz=6e8, duration_s=seconds, energy_j=power_w * seconds
    )


def busy(frequency_hz: float, power_w: float, cycles: float = CYCLES) -> Setting:
    samples = round(10.0 * frequency_hz / cycles)
    seconds = samples * cycles / frequency_hz
    return Setting(
        activity="compute",
        frequency_hz=frequency_hz,
        duration_s=seconds,
        energy_j=power_w * seconds,
        samples=samples,
        voltage_v=0.6 + 2e-10 * frequency_hz,
    )


def sweep(
    noise: float = 0.0,
    seed: int = 0,
    active_w: float = ACTIVE_W,
    kappa: float = KAPPA,
    repeats: int = 2,
) -> list[Setting]:
    luck = np.random.default_rng(seed)

    def off(power_w: float) -> float:
        return power_w * (1.0 + noise * luck.normal())

    made = [idle(off(IDLE_W)) for _ in range(2 * repeats)]
    for _ in range(repeats):
        made += [busy(f, off(IDLE_W + active_w + kappa * f**3)) for f in FREQUENCIES]
    return made


WRONG = Disturbance(profile_error=0.2)


def emulated(
    name: str = "raspberry-pi-4",
    seed: int = 1,
    make: type[VirtualBoard] = EmulatedBoard,
    gain_error: float = 0.0,
    meter: Mapping[str, Any] | None = None,
) -> VirtualBoard:
    # By a law of the CPU's frequency: what a make trains at points of its GPU has none.
    declared = declare_board(name, seed=seed, index=0, cycles_per_sample=4e6, work="stress")
    declared = replace(declared, meter=replace(declared.meter, relative_uncertainty=gain_error))
    declared = replace(declared, meter=replace(declared.meter, **(meter or {})))
    return make(declared, seed=seed, index=0, disturbance=WRONG)
