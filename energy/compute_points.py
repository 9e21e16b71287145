"""What can be said of measured operating points without planning.

* :func:`name_of`        a name for what is set, such as ``"cpu 1.5 GHz, gpu 306 MHz"``
* :func:`never_chosen`   points that no plan takes, whatever it minimises, and why

A plan's joules of a round grow with the joules of the training and, at the plug, with its time.
A point that needs more joules and more time a sample than another one is therefore never the best.
"""

from __future__ import annotations

from collections.abc import Sequence

from fimi.energy.cost_model import ComputePoint, ComputeSetting

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
        words.append(f"{setting.cores} core{'' if setting.cores == 1 else 's'}")
    if setting.gpu_hz is not None:
        words.append(f"gpu {setting.gpu_hz / 1e6:.6g} MHz")
    if setting.duty_cycle is not None:
        words.append(f"{100 * setting.duty_cycle:.4g} % of the time")
    return ", ".join(words) or AS_IT_IS


def never_chosen(points: Sequence[ComputePoint]) -> dict[str, str]:
    """Points that another one beats in joules and in time, by name, with a sentence why.

    The sentence names the point of fewest joules among those that beat it.
    """
    found = {}
    for point in points:
        better = [other for other in points if _beats(other, point)]
        if not better:
            continue
        best = min(better, key=_sample_j)
        more = f"{_sample_j(point):.3g} J and {point.seconds_per_sample:.3g} s a sample"
        less = f"{_sample_j(best):.3g} J and {best.seconds_per_sample:.3g} s"
        found[point.name] = (
            f"{point.name!r} is kept and no plan will choose it: it takes {more}, "
            f"{best.name!r} takes {less}"
        )
    return found


def _sample_j(point: ComputePoint) -> float:
    return point.power_w * point.seconds_per_sample


def _beats(other: ComputePoint, point: ComputePoint) -> bool:
    mine = (_sample_j(point), point.seconds_per_sample)
    theirs = (_sample_j(other), other.seconds_per_sample)
    return theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))
