"""What can be said of measured operating points without planning.

* :func:`name_of`        a name for what is set, such as ``"cpu 1.5 GHz, gpu 306 MHz"``
* :func:`never_chosen`   points that no plan takes, whatever it minimises, and why
* :func:`dominated`      the same of seconds and joules alone

A plan's joules of a round grow with the joules of the training and, at the plug, with its time.
A point that needs more joules and more time a sample than another one is therefore never the best.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fimi.energy.cost_model import Array, ComputePoint, ComputeSetting
from fimi.plural import plural

AS_IT_IS = "as it is"
"""Name of a setting that sets nothing."""


def name_of(setting: ComputeSetting) -> str:
    """What is set, in words; the caps of several clusters in the order of the clusters' names."""
    words = []
    if setting.power_mode is not None:
        words.append(f"mode {setting.power_mode}")
    if setting.cpu_hz:
        caps = [setting.cpu_hz[name] for name in sorted(setting.cpu_hz)]
        shown = caps if len(set(caps)) > 1 else caps[:1]
        words.append(f"cpu {'/'.join(f'{hertz / 1e9:.6g}' for hertz in shown)} GHz")
    if setting.cores is not None:
        words.append(plural(setting.cores, "core"))
    if setting.gpu_hz is not None:
        words.append(f"gpu {setting.gpu_hz / 1e6:.6g} MHz")
    if setting.duty_cycle is not None:
        words.append(f"{100 * setting.duty_cycle:.4g} % of the time")
    return ", ".join(words) or AS_IT_IS


def never_chosen(points: Sequence[ComputePoint]) -> dict[str, str]:
    """Points that another one beats in joules or in time and equals at least in the other.

    Returns:
        Name to a sentence why, which names the point of fewest joules among those that beat it.
    """
    seconds = np.array([point.seconds_per_sample for point in points])
    joules = seconds * np.array([point.power_w for point in points])
    found = {}
    for place in np.flatnonzero(dominated(seconds, joules)).tolist():
        name = points[place].name
        rivals = (seconds <= seconds[place]) & (np.arange(len(points)) != place)
        best = int(np.argmin(np.where(rivals, joules, np.inf)))
        found[name] = (
            f"{name!r} is kept and no plan will choose it: it takes {joules[place]:.3g} J and "
            f"{seconds[place]:.3g} s a sample, {points[best].name!r} takes {joules[best]:.3g} J "
            f"and {seconds[best]:.3g} s"
        )
    return found


def dominated(seconds: Array, joules: Array) -> NDArray[np.bool_]:
    """Which of n points another one beats in seconds or joules and equals at least in the other.

    Of points that are equal in both, the first one stays.

    Args:
        seconds: per sample, (n,).
        joules: per sample above idle, (n,).
    """
    worse = np.zeros(seconds.size, bool)
    least = np.inf
    for place in np.lexsort((np.arange(seconds.size), joules, seconds)):
        worse[place] = joules[place] >= least
        least = min(least, float(joules[place]))
    return worse
