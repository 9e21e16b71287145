"""``[[device]]`` of a problem file: a board by its keys, or by a profile with some keys changed.

* :class:`Device`  the keys
* :func:`board`    the cost parameters that they describe

A profile is the file that ``fimi calibrate`` writes. Its measured operating points and its radio
are planned with as they are; a key beside it takes the place of the profile's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from fimi.energy.cost_model import BoardModel, ComputeModel, LinkModel, speed_hz
from fimi.energy.host_profile import ProfileError, load_profile
from fimi.energy.units import doubt, hint
from fimi.optim.problem import ProblemError

_NOTHING: dict[str, Any] = {
    "noise_density_w_per_hz": 4e-21,
    "downlink_rate_bps": math.inf,
    "idle_power_w": 0.0,
}
"""What a device without a profile has where its cost model has no default: thermal noise; receiving
takes no time; no idle power."""


class Device(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[[device]]``; ``None``: the profile's, or what the example says.

    Attributes:
        id: with ``count`` above 1: ``id-1``, ``id-2`` and so on.
        local_counts: samples per class.
        count: how many such devices there are.
        profile: path of a profile, from the folder of the problem file; empty for none.
        downlink_rate_bps: gives ``receive_s`` and ``synthetic_j``, unless these are given.

    The other keys are those of :class:`~fimi.optim.problem.FimiProblem`.
    """

    id: str
    local_counts: tuple[int, ...]
    count: Annotated[int, Meta(ge=1, le=100_000)] = 1
    profile: str = ""
    cycles_per_sample: float | None = None
    capacitance_w_per_hz3: float | None = None
    linear_power_w_per_hz: float | None = None
    active_power_w: float | None = None
    frequency_min_hz: float | None = None
    frequency_max_hz: float | None = None
    frequency_steps_hz: tuple[float, ...] | None = None
    step_power_w: tuple[float, ...] = ()
    step_names: tuple[str, ...] = ()
    channel_gain: float | None = None
    noise_density_w_per_hz: float | None = None
    transmit_power_max_w: float | None = None
    power_settable: bool | None = None
    electronics_power_w: float | None = None
    energy_per_bit_j: float | None = None
    rate_cap_bps: float | None = None
    downlink_rate_bps: float | None = None
    receive_power_w: float | None = None
    idle_power_w: float | None = None
    t_max_s: float | None = None
    receive_s: float | None = None
    payload_bits: float | None = None
    generated_max: float | None = None
    synthetic_j: float | None = None
    budget_j: float | None = None
    weight: float | None = None


def _shared_with(kind: type[Struct]) -> tuple[str, ...]:
    return tuple(f for f in kind.__struct_fields__ if f in Device.__struct_fields__)


_COMPUTE, _LINK = _shared_with(ComputeModel), _shared_with(LinkModel)
_LAW = ("capacitance_w_per_hz3", "linear_power_w_per_hz", "active_power_w")
_LIMITS = ("frequency_min_hz", "frequency_max_hz")


def board(device: Device, folder: Path) -> BoardModel:
    """The cost parameters of a device.

    Args:
        device: its keys.
        folder: where the path of its profile begins.

    Raises:
        ProblemError: its profile cannot be read, a key is missing or without effect, or a value is
            impossible; names the device.
    """
    where = f"device {device.id!r}"
    idle_w = device.idle_power_w
    if idle_w is not None and not math.isfinite(idle_w):
        raise ProblemError(f"{where}: idle_power_w is {idle_w}; it must be finite")
    if device.profile and not (path := folder / device.profile).exists():
        raise ProblemError(
            f"{where}: profile: {path}: no such file; 'fimi calibrate --host-profile FILE' writes "
            "one on the board itself, 'fimi calibrate --emulated MAKE' that of an emulated board. "
            "Paths begin in the folder of the problem file; without a profile give the device's "
            "keys instead"
        )
    try:
        return _with_profile(device, folder) if device.profile else _by_keys(device)
    except ProfileError as error:
        raise ProblemError(f"{where}: profile: {error}") from error
    except ValueError as error:
        raise ProblemError(f"{where}: {error}{_meant(device, str(error))}") from error


def _meant(device: Device, error: str) -> str:
    """The unit that would explain a value that an error is about, as the end of a sentence."""
    for field in Device.__struct_fields__:
        given = getattr(device, field)
        for value in given if isinstance(given, tuple) else (given,):
            if field in error and isinstance(value, int | float) and doubt(field, value):
                said = hint(field, value)
                return f"; {said}" if said else ""
    return ""


def _given(device: Device, fields: tuple[str, ...]) -> dict[str, Any]:
    return {f: value for f in fields if (value := getattr(device, f)) is not None}


def _by_keys(device: Device) -> BoardModel:
    """A board from its keys alone."""
    idle_w = device.idle_power_w
    return BoardModel(
        compute=_made(ComputeModel, _given(device, _COMPUTE)),
        link=_made(LinkModel, _given(device, _LINK)),
        idle_power_w=_NOTHING["idle_power_w"] if idle_w is None else idle_w,
    )


def _made(kind: Callable[..., Any], given: dict[str, Any]) -> Any:
    needed = [f.name for f in msgspec.structs.fields(kind) if f.required]  # type: ignore[arg-type]
    given = {name: _NOTHING[name] for name in needed if name in _NOTHING} | given
    if missing := [name for name in needed if name not in given]:
        raise ValueError(
            f"{' and '.join(missing)} missing; give {'it' if len(missing) == 1 else 'them'}, or "
            "with 'profile' the path of a file that fimi calibrate has written"
        )
    return kind(**given)


def _with_profile(device: Device, folder: Path) -> BoardModel:
    """The board of a profile, with the device's own keys in place of its."""
    found = load_profile(folder / device.profile).board
    compute, own = found.compute, _given(device, _COMPUTE)
    if "frequency_steps_hz" in own:
        compute = msgspec.structs.replace(compute, points=(), frequency_steps_hz=())
    if compute.points and (idle := [name for name in _LAW if name in own]):
        raise ValueError(
            f"{' and '.join(idle)} without effect: {device.profile} has measured operating points, "
            "which come before the law; leave it out, or give frequency_steps_hz ([]: any frequency"
            ") to plan by the law"
        )
    limits = [own.get(name, getattr(compute, name)) for name in _LIMITS]
    if any(name in own for name in _LIMITS):
        compute = _within(compute, device.profile, *limits)
    if "cycles_per_sample" in own:  # another workload: as many cycles a second, more for a sample
        longer = own["cycles_per_sample"] / compute.cycles_per_sample
        own["points"] = tuple(
            msgspec.structs.replace(point, seconds_per_sample=point.seconds_per_sample * longer)
            for point in compute.points
        )
    idle_w = device.idle_power_w
    return BoardModel(
        compute=msgspec.structs.replace(compute, **own),
        link=msgspec.structs.replace(found.link, **_given(device, _LINK)),
        idle_power_w=found.idle_power_w if idle_w is None else idle_w,
    )


def _within(compute: ComputeModel, profile: str, low_hz: float, high_hz: float) -> ComputeModel:
    """What a profile lets a board set within other limits."""
    steps, points = compute.frequency_steps_hz, compute.points
    kept = tuple(step for step in steps if low_hz <= step <= high_hz)
    fast = tuple(point for point in points if low_hz <= speed_hz(compute, point) <= high_hz)
    if (steps and not kept) or (points and not fast):
        raise ValueError(
            f"nothing that {profile} lets the board set is between frequency_min_hz "
            f"({low_hz:.4g}) and frequency_max_hz ({high_hz:.4g}); widen them"
        )
    return msgspec.structs.replace(
        compute,
        frequency_min_hz=low_hz,
        frequency_max_hz=high_hz,
        frequency_steps_hz=kept,
        points=fast,
    )
