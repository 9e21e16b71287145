"""What looks wrong in a problem, though it can be planned: units, and points that nobody would use.

* :func:`doubts`        unusual values, each with the unit that would explain it
* :func:`check_units`   refuses the values that nothing has
* :func:`never_chosen`  operating points that are worse than another one in every way
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fimi.energy import units
from fimi.energy.compute_points import dominated
from fimi.energy.cost_model import Array
from fimi.optim.problem import FimiProblem, ProblemError
from fimi.plural import plural

_POWER_USUAL_W, _POWER_POSSIBLE_W = 2e3, 1e5
"""Most that a processor draws."""
_RATE = "downlink_rate_bps"


def doubts(problem: FimiProblem) -> tuple[str, ...]:
    """Sentences about values that can be planned and are probably in another unit.

    Devices with the same sentence are named together.
    """
    said = list(_sentences(problem, units.doubt))
    said += _of_power(problem, _most_power_w(problem) > _POWER_USUAL_W, "unusual")
    if _limits_nothing(problem):
        said.append(
            f"error_max is {problem.error_max:g}, which is more than the curve gives for the "
            "data of any device, so that it limits nothing; errors are shares, 0 to 1"
            + (f"; {found}" if (found := units.hint("error_max", problem.error_max)) else "")
        )
    return tuple(said)


def check_units(problem: FimiProblem) -> None:
    """Refuse what no device has.

    Raises:
        ProblemError: says which value, of which device, and which unit would explain it.
    """
    said = list(_sentences(problem, units.refusal))
    said += _of_power(problem, _most_power_w(problem) > _POWER_POSSIBLE_W, "impossible")
    if said:
        raise ProblemError(said[0])


def never_chosen(problem: FimiProblem) -> dict[str, tuple[str, ...]]:
    """Steps and measured points of each device that no plan chooses, by their names.

    Another one of the same device takes no more time and no more energy for a sample.

    Returns:
        Device to names: steps in ascending speed, then points that another one of the same speed
        beats; devices without any are left out.
    """
    found = {}
    for i, device in enumerate(problem.devices):
        speeds = np.array(problem.frequency_steps_hz[i])
        watts = np.array(problem.step_power_w[i])
        if watts.size == 0:
            law = problem.capacitance_w_per_hz3[i] * speeds**2 + problem.linear_power_w_per_hz[i]
            watts = law * speeds + problem.active_power_w[i]
        names = problem.step_names[i] or tuple(f"{speed / 1e9:.4g} GHz" for speed in speeds)
        worse = dominated(1.0 / speeds, watts / speeds)
        never = tuple(n for n, bad in zip(names, worse, strict=True) if bad)
        if never := never + problem.beaten_names[i]:
            found[device] = never
    return found


def _sentences(problem: FimiProblem, judge: units.Judge) -> Iterator[str]:
    """One sentence for each quantity: about its first device, the others are counted."""
    if said := judge("bandwidth_hz", problem.bandwidth_hz):
        yield said
    rates, rate_of = np.unique(problem.downlink_rate_bps, return_inverse=True)
    for field in units.QUANTITIES:
        values = getattr(problem, field, None)
        if not isinstance(values, np.ndarray):
            continue
        # A large fleet has few values that differ.
        distinct, place = np.unique(values, return_inverse=True)
        said_of = [judge(field, float(value)) for value in distinct]
        bad = np.array([said is not None for said in said_of])[place]
        if field == "receive_s":  # The rate that it follows from is what the user has given.
            bad &= ~np.array([judge(_RATE, float(rate)) is not None for rate in rates])[rate_of]
        if bad.any():
            yield f"{_devices(problem, bad)}: {said_of[place[int(bad.argmax())]]}"


def _of_power(problem: FimiProblem, bad: NDArray[np.bool_], how: str) -> list[str]:
    if not bad.any():
        return []
    power_w = float(_most_power_w(problem)[int(bad.argmax())])
    return [
        f"{_devices(problem, bad)}: its processor draws {power_w:.3g} W at most, which is {how}; "
        "check capacitance_w_per_hz3 (about 1e-28 to 1e-26 W/Hz³), linear_power_w_per_hz, and "
        "powers in W, not mW"
    ]


def _most_power_w(problem: FimiProblem) -> Array:
    """Most power above idle that each device's processor may draw, W, (I,)."""
    speeds = problem.frequency_max_hz
    power_w = problem.compute_j(speeds, speeds)
    measured = [max(row) if row else 0.0 for row in problem.step_power_w]
    return np.where(np.array(measured) > 0.0, measured, power_w)


def _limits_nothing(problem: FimiProblem) -> bool:
    """Whether Δ_max is no share, and above all errors that the curve gives the devices' data."""
    if problem.curve is None or not 1.0 < problem.error_max < np.inf:
        return False
    held = np.maximum(problem.local_samples, 1.0)
    return bool((problem.curve.error(held) < problem.error_max).all())


def _devices(problem: FimiProblem, which: NDArray[np.bool_]) -> str:
    """The first of some devices, and how many others there are."""
    others = int(which.sum()) - 1
    first = f"device {problem.devices[int(which.argmax())]!r}"
    return first + (f" and {plural(others, 'other')}" if others else "")
