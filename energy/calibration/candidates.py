"""The operating points that a sweep tries by default: what a board can set, in reasonable number.

* :class:`TrialChoice`       how many of each kind
* :func:`candidates`    the settings, in the order in which they are measured

Every CPU frequency (at most :attr:`TrialChoice.frequencies` of them) with all cores; fewer cores
and the GPU's clocks at some of these frequencies; the power modes. A board with everything has
about 40 points by default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from fimi.energy.calibration.sweep_plan import TrialPoint
from fimi.energy.compute_points import name_of
from fimi.energy.cost_model import ComputeSetting


class TrialChoice(Struct, frozen=True, kw_only=True):
    """Which points to try.

    Attributes:
        frequencies: number of CPU frequencies, at most.
        cores: numbers of cores besides all of them.
        gpu_clocks: number of clocks of the GPU, at most; 0 for none.
        modes: power modes.
    """

    frequencies: int = 13
    cores: tuple[int, ...] = ()
    gpu_clocks: int = 0
    modes: tuple[int, ...] = ()


def fewer_cores(threads: int, allowed: int) -> tuple[int, ...]:
    """Powers of two below the number of cores that a training with so many threads uses."""
    used = min(threads, allowed)
    return tuple(2**k for k in range(used.bit_length()) if 2**k < used)


def candidates(
    levels: Sequence[tuple[float, dict[str, float]]],
    gpu_hz: Sequence[float],
    choice: TrialChoice,
    *,
    clock_hz: float,
) -> tuple[TrialPoint, ...]:
    """The points to try, each setting once.

    Args:
        levels: frequencies of the fastest cluster, ascending, Hz, with the caps of all clusters;
            empty where the frequency cannot be set.
        gpu_hz: clocks of the GPU, Hz; empty where there are none.
        choice: which of them.
        clock_hz: clock of the CPU where none is set, Hz.
    """
    line = [levels[place] for place in _spread(len(levels), choice.frequencies)]
    found: list[tuple[float, ComputeSetting]] = [
        (hertz, ComputeSetting(cpu_hz=caps)) for hertz, caps in line
    ] or [(clock_hz, ComputeSetting())]
    some = [found[place] for place in _spread(len(found), 3)]
    clocks = sorted(gpu_hz)
    # The highest clock is the one that is in force where none is set.
    gpu = [clocks[place] for place in _spread(len(clocks), choice.gpu_clocks)][:-1]
    for cores in choice.cores:
        found += [(hertz, _with(s, cores=cores)) for hertz, s in some[::2]]
    for clock in gpu:
        found += [(hertz, _with(s, gpu_hz=clock)) for hertz, s in some]
    found += [(clock_hz, ComputeSetting(power_mode=mode)) for mode in choice.modes]
    points = {
        name_of(setting): TrialPoint(name=name_of(setting), frequency_hz=hertz, setting=setting)
        for hertz, setting in found
    }
    return tuple(points.values())


def _with(
    setting: ComputeSetting, *, cores: int | None = None, gpu_hz: float | None = None
) -> ComputeSetting:
    return ComputeSetting(cpu_hz=setting.cpu_hz, cores=cores, gpu_hz=gpu_hz)


def _spread(length: int, count: int) -> list[int]:
    """At most ``count`` places of so many: both ends, and evenly spaced ones between them."""
    if length <= count:
        return list(range(length))
    if count < 2:
        return [length - 1] * min(count, 1)
    return list(dict.fromkeys(np.linspace(0, length - 1, count).round().astype(int).tolist()))
