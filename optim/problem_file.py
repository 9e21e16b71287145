"""A planning problem as a TOML file, for ``fimi optimise``.

``[problem]`` holds what the fleet shares, each ``[[device]]`` one device, or ``count`` alike.
:data:`EXAMPLE` is a complete file with every key explained; ``fimi optimise --example`` prints it.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fimi.energy.units import hint
from fimi.optim.doubts import check_units
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem, ProblemError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = """\
# A planning problem for: fimi optimise problem.toml
# SI units: Hz, s, W, J, bit, cycles. Defaults are shown where a key may be left out.

[problem]
t_max_s = 20.0          # time for training and upload together
bandwidth_hz = 0.4e6    # uplink band that all devices share
payload_bits = 1.2e6    # size of a model update
epochs = 5              # local epochs of a round
error_max = 0.12        # largest mean learning error; leave out: no learning constraint
generated_max = 500     # most synthetic samples per device
synthetic_value = 1.0   # = 1: how many real samples a synthetic one is worth to the curve

[curve]                 # error = alpha * samples^(-beta) + delta0
alpha = 5.8
beta = 0.93
delta0 = 0.027

[rounds]                # rounds to accuracy a = scale * ln(1/(1-a)) * exp(sensitivity * error)
scale = 1.27
sensitivity = 10.7

[[device]]
id = "pi"               # with count > 1: pi-1, pi-2, ...
count = 3               # = 1
local_counts = [40, 3, 0, 12]
cycles_per_sample = 4.0e7
capacitance_w_per_hz3 = 6.0e-28
active_power_w = 0.3    # = 0: power that flows only while computing
frequency_min_hz = 0.6e9
frequency_max_hz = 1.8e9
frequency_steps_hz = [] # = []: any frequency between the limits
channel_gain = 1.0e-10
noise_density_w_per_hz = 4.0e-21   # = 4.0e-21
transmit_power_max_w = 0.2
idle_power_w = 2.7      # = 0: counts only in joules to a target accuracy
# t_max_s, payload_bits, generated_max and weight may be given per device as well.

[[device]]
id = "mini-pc"
local_counts = [0, 60, 25, 8]
cycles_per_sample = 2.0e7
capacitance_w_per_hz3 = 2.0e-28
active_power_w = 1.0
frequency_min_hz = 0.8e9
frequency_max_hz = 3.2e9
channel_gain = 3.0e-11
transmit_power_max_w = 0.2
idle_power_w = 6.0
"""


class Shared(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[problem]``."""

    bandwidth_hz: float
    t_max_s: float | None = None
    payload_bits: float | None = None
    epochs: int = 1
    error_max: float = math.inf
    generated_max: float = 0.0
    synthetic_value: Annotated[float, Meta(ge=1e-6, le=1)] = 1.0


class Rounds(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[rounds]``."""

    scale: float = 1.27
    sensitivity: float = 10.7


class Device(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[[device]]``."""

    id: Annotated[str, Meta(min_length=1)]
    local_counts: tuple[int, ...]
    cycles_per_sample: float
    capacitance_w_per_hz3: float
    frequency_min_hz: float
    frequency_max_hz: float
    channel_gain: float
    transmit_power_max_w: float
    noise_density_w_per_hz: float = 4e-21
    active_power_w: float = 0.0
    frequency_steps_hz: tuple[float, ...] = ()
    idle_power_w: Annotated[float, Meta(ge=0)] = 0.0
    t_max_s: float | None = None
    payload_bits: float | None = None
    generated_max: float | None = None
    weight: float | None = None
    count: Annotated[int, Meta(ge=1, le=100_000)] = 1


_COLUMNS = tuple(
    field
    for field in Device.__struct_fields__
    if field in FimiProblem.__struct_fields__
    and field not in ("local_counts", "frequency_steps_hz")
)
"""What a device and a problem call by the same name: one number per device."""


class ProblemFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    problem: Shared
    device: tuple[Device, ...] = ()
    curve: LearningCurve | None = None
    rounds: Rounds = Rounds()

    @property
    def idle_power_w(self) -> float:
        """Idle power of the whole fleet."""
        return math.fsum(row.count * row.idle_power_w for row in self.device)


def read(path: Path) -> tuple[FimiProblem, ProblemFile]:
    """A problem and the file it came from.

    Raises:
        ProblemError: unreadable file, unknown or missing key, impossible value.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProblemError(f"{path}: no such file; 'fimi optimise --example' prints one") from error
    except OSError as error:
        raise ProblemError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProblemError(f"{path}: not TOML: {error}") from error
    try:
        file = msgspec.convert(tree, ProblemFile)
    except (msgspec.ValidationError, ValueError) as error:
        meant = _meant(str(error), tree)
        raise ProblemError(
            f"{path}: {error}{meant}; 'fimi optimise --example' shows every key"
        ) from error
    try:
        _check(file)
        problem = build(file)
        check_units(problem)
        return problem, file
    except ProblemError as error:
        raise ProblemError(f"{path}: {error}") from error


def _meant(error: str, tree: dict[str, Any]) -> str:
    """What a share above 1 is in percent, as the end of a sentence; empty for other errors."""
    value = tree.get("problem", {}).get("synthetic_value")
    if "$.problem.synthetic_value" not in error or not isinstance(value, int | float):
        return ""
    said = hint("synthetic_value", value)
    return f"; {said}" if said else ""


def _check(file: ProblemFile) -> None:
    """What :class:`~fimi.optim.problem.FimiProblem` does not hold and cannot check.

    Raises:
        ProblemError: impossible values.
    """
    for name in ("scale", "sensitivity"):
        value = getattr(file.rounds, name)
        if not (math.isfinite(value) and value > 0):
            raise ProblemError(f"[rounds] {name} is {value}; it must be finite and above 0")
    for row in file.device:
        if not math.isfinite(row.idle_power_w):
            raise ProblemError(
                f"device {row.id!r}: idle_power_w is {row.idle_power_w}; it must be finite"
            )


def build(file: ProblemFile) -> FimiProblem:
    """The problem that a file describes.

    Raises:
        ProblemError: impossible values.
    """
    shared = file.problem
    rows = [(device, k) for device in file.device for k in range(1, device.count + 1)]
    if not rows:
        raise ProblemError("the fleet is empty; give at least one [[device]]")
    classes = {len(device.local_counts) for device, _ in rows}
    if len(classes) != 1:
        raise ProblemError(
            f"local_counts: rows of {sorted(classes)} classes; every device counts the same ones"
        )
    weights = [device.weight for device, _ in rows]
    if any(weight is None for weight in weights) and any(w is not None for w in weights):
        raise ProblemError("weight: give it for every device or for none")

    def column(field: str) -> Any:
        default = getattr(shared, field, None)
        values = []
        for device, _ in rows:
            own = getattr(device, field)
            if own is None and default is None:
                raise ProblemError(
                    f"device {device.id!r}: {field} is missing; give it in [problem] for all "
                    "devices or in each [[device]]"
                )
            values.append(default if own is None else own)
        return np.array(values, float)

    return FimiProblem(
        devices=tuple(d.id if d.count == 1 else f"{d.id}-{k}" for d, k in rows),
        local_counts=np.array([device.local_counts for device, _ in rows], dtype=np.int64),
        epochs=shared.epochs,
        frequency_steps_hz=tuple(device.frequency_steps_hz for device, _ in rows),
        bandwidth_hz=shared.bandwidth_hz,
        weights=np.zeros(0) if weights[0] is None else column("weight"),
        error_max=shared.error_max,
        curve=file.curve,
        **{field: column(field) for field in _COLUMNS},
    )
