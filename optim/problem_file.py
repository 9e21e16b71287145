"""A planning problem as a TOML file, for ``fimi optimise``.

``[problem]`` holds what the fleet shares, each ``[[device]]`` one device, or ``count`` alike, by
keys or by a profile that ``fimi calibrate`` has written (:mod:`fimi.optim.file_devices`).
:data:`EXAMPLE` is a complete file with every key explained; ``fimi optimise --example`` prints it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fimi.energy.cost_model import Array
from fimi.energy.units import hint
from fimi.optim.board_problem import downlink_rates_bps, from_boards
from fimi.optim.doubts import check_units
from fimi.optim.file_devices import Device, board
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import (
    DURATION_MAX_S,
    FimiProblem,
    InfeasibleError,
    Objective,
    ProblemError,
)
from fimi.optim.rounds_defaults import EPOCHS_EXPONENT, ROUNDS_SCALE, ROUNDS_SENSITIVITY
from fimi.optim.rounds_model import RoundsModel
from fimi.optim.wording import named

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLE = f"""\
# A planning problem for: fimi optimise problem.toml
# SI units: Hz, s, W, J, bit, cycles. Defaults are shown where a key may be left out.

[problem]
objective = "board"     # = "board": joules of whole boards, idle power until the round is over; the
                        #   round's length is chosen too. "dynamic": compute and upload above idle
t_max_s = 20.0          # time for training and upload together
# deadline_s = 20.3     # instead: of the whole round; t_max_s is what receiving the model leaves
bandwidth_hz = 0.4e6    # uplink band that all devices share
payload_bits = 1.2e6    # size of a model update
download_bits = 1.2e6   # = payload_bits: size of the model that devices receive
epochs = 5              # local epochs of a round
epochs_choices = []     # = []: local epochs that --target-accuracy chooses among, [1, 2, 3, 5, 8]
error_max = 0.12        # largest mean learning error; leave out: no learning constraint
generated_max = 500     # most synthetic samples per device
synthetic_value = 1.0   # = 1: how many real samples a synthetic one is worth to the curve
synthetic_bits = 256    # = 0: size of a synthetic sample on its way to a device, once in the run
rounds_count = 20       # = 1: rounds of the run, for budgets and the share of synthetic_bits
# budget_j = 2000       # most board energy of each device in all rounds; leave out: no limit
# fleet_budget_j = 9000 # the same for the whole fleet

[curve]                 # error = alpha * samples^(-beta) + delta0
alpha = 5.8
beta = 0.93
delta0 = 0.027

[rounds]                # rounds to accuracy a = scale * ln(1/(1-a)) * exp(sensitivity * error)
scale = {ROUNDS_SCALE}           #   * (epochs / 5)^(-epochs_exponent)
sensitivity = {ROUNDS_SENSITIVITY}
epochs_exponent = {EPOCHS_EXPONENT}

[[device]]
id = "pi"               # with count > 1: pi-1, pi-2, ...
count = 3               # = 1
local_counts = [40, 3, 0, 12]
# profile = "pi.toml"   # a file that fimi calibrate has written, its measured operating points and
#                         its radio included: all keys below may then be left out, or changed here
cycles_per_sample = 4.0e7
capacitance_w_per_hz3 = 6.0e-28
linear_power_w_per_hz = 2.0e-10    # = 0: power in proportion to the frequency
active_power_w = 0.3    # = 0: power that flows only while computing
frequency_min_hz = 0.6e9
frequency_max_hz = 1.8e9
frequency_steps_hz = [] # = []: any frequency between the limits
step_power_w = []       # = []: by the law above; else measured above idle at each of these steps
step_names = []         # = []: names of these operating points
channel_gain = 1.0e-10
noise_density_w_per_hz = 4.0e-21   # = 4.0e-21
transmit_power_max_w = 0.2
power_settable = true   # = true; Wi-Fi: false, it always sends with transmit_power_max_w
electronics_power_w = 0.4          # = 0: flows while sending, besides the transmit power
energy_per_bit_j = 2.0e-8          # = 0: taken by the host for every bit that is sent
rate_cap_bps = 4.0e7    # = inf: most that the radio sends
downlink_rate_bps = 4.0e6          # = inf: receiving takes no time
receive_power_w = 0.3   # = 0: flows while receiving
idle_power_w = 2.7      # = 0
# t_max_s, payload_bits, generated_max, budget_j and weight may be given per device as well, and
# receive_s and synthetic_j (joules of receiving a synthetic sample) instead of downlink_rate_bps.

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
    objective: Objective = "board"
    deadline_s: float | None = None
    t_max_s: float | None = None
    payload_bits: float | None = None
    download_bits: float | None = None
    epochs: int = 1
    epochs_choices: tuple[Annotated[int, Meta(ge=1, le=1000)], ...] = ()
    error_max: float = math.inf
    generated_max: float = 0.0
    synthetic_value: Annotated[float, Meta(ge=1e-6, le=1)] = 1.0
    synthetic_bits: Annotated[float, Meta(ge=0)] = 0.0
    rounds_count: float = 1.0
    budget_j: float = math.inf
    fleet_budget_j: float = math.inf


class Rounds(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[rounds]``."""

    scale: float = ROUNDS_SCALE
    sensitivity: float = ROUNDS_SENSITIVITY
    epochs_exponent: float = EPOCHS_EXPONENT

    @property
    def model(self) -> RoundsModel:
        """rounds(Δ, E)."""
        return RoundsModel(
            scale=self.scale,
            sensitivity=self.sensitivity,
            epochs_exponent=self.epochs_exponent,
        )


class ProblemFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    problem: Shared
    device: tuple[Device, ...] = ()
    curve: LearningCurve | None = None
    rounds: Rounds = Rounds()


def read(path: Path) -> tuple[FimiProblem, ProblemFile]:
    """A problem and the file it came from.

    Raises:
        ProblemError: unreadable file or profile, unknown or missing key, impossible value.
        InfeasibleError: a device cannot even receive the model before ``deadline_s``.
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
        problem = build(file, path.parent)
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
    if not (math.isfinite(file.rounds.epochs_exponent) and file.rounds.epochs_exponent >= 0):
        raise ProblemError(
            f"[rounds] epochs_exponent is {file.rounds.epochs_exponent}; it must be finite, 0 or "
            "more"
        )
    shared = file.problem
    if shared.deadline_s is not None and shared.t_max_s is not None:
        raise ProblemError(
            f"deadline_s ({shared.deadline_s:g}) and t_max_s ({shared.t_max_s:g}) are both given; "
            "t_max_s is deadline_s without the time to receive the model: leave one out"
        )
    if not (math.isfinite(shared.rounds_count) and shared.rounds_count > 0):
        raise ProblemError(
            f"rounds_count is {shared.rounds_count:g}; it must be a finite number, greater than 0"
        )
    if shared.deadline_s is not None and not 0 < shared.deadline_s <= DURATION_MAX_S:
        raise ProblemError(
            f"deadline_s is {shared.deadline_s:g}; it must be greater than 0 and at most "
            f"{DURATION_MAX_S:g}: give the time of a round in seconds"
        )
    for name in ("synthetic_bits", "download_bits"):
        value = getattr(shared, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ProblemError(f"{name} is {value}; it must be a finite number, 0 or more")
    for place, row in enumerate(file.device, start=1):
        if not row.id.strip():
            raise ProblemError(f"[[device]] number {place}: id is empty; give it a name")
        if row.step_power_w and not row.profile and not row.frequency_steps_hz:
            raise ProblemError(
                f"device {row.id!r}: step_power_w without frequency_steps_hz; give the steps"
            )


def build(file: ProblemFile, folder: Path = Path()) -> FimiProblem:
    """The problem that a file describes.

    Args:
        file: the file.
        folder: where the paths of profiles begin.

    Raises:
        ProblemError: a profile cannot be read, or a value is impossible.
        InfeasibleError: a device cannot even receive the model before ``deadline_s``.
    """
    shared = file.problem
    rows = [(device, k) for device in file.device for k in range(1, device.count + 1)]
    if not rows:
        raise ProblemError("the fleet is empty; give at least one [[device]]")
    devices = [device for device, _ in rows]
    names = [d.id if d.count == 1 else f"{d.id}-{k}" for d, k in rows]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ProblemError(f"device {twice!r} is given more than once; each needs its own id")
    _check_classes(file.device)
    boards = {device.id: board(device, folder) for device in file.device}
    payload_bits = _column(devices, "payload_bits", shared.payload_bits)
    down_bits = payload_bits if shared.download_bits is None else shared.download_bits
    rate_of = dict(zip(boards, downlink_rates_bps(boards), strict=True))
    rates = np.array([rate_of[device.id] for device in devices])
    with np.errstate(all="ignore"):  # What is no number is refused with the problem.
        receive_s = _column(devices, "receive_s", down_bits / rates)
    generated_max = _column(devices, "generated_max", shared.generated_max)
    problem = from_boards(
        {name: boards[device.id] for name, device in zip(names, devices, strict=True)},
        local_counts={n: device.local_counts for n, device in zip(names, devices, strict=True)},
        epochs=shared.epochs,
        deadline_s=1.0,  # t_max_s is set below
        upload_bits=1.0,
        download_bits=0.0,
        bandwidth_hz=shared.bandwidth_hz,
        generated_max=generated_max,
        error_max=shared.error_max,
        curve=file.curve,
        weights=_weights(devices),
        objective=shared.objective,
        rounds=shared.rounds_count,
        synthetic_bits=shared.synthetic_bits,
        budget_j=_column(devices, "budget_j", shared.budget_j),
        fleet_budget_j=shared.fleet_budget_j,
    )
    return msgspec.structs.replace(
        problem,
        payload_bits=payload_bits,
        receive_s=receive_s,
        t_max_s=_t_max_s(devices, names, shared, receive_s),
        synthetic_j=_column(devices, "synthetic_j", problem.synthetic_j),
        step_power_w=_rows(devices, "step_power_w", problem.step_power_w),
        step_names=_rows(devices, "step_names", problem.step_names),
    )


def _check_classes(devices: Sequence[Device]) -> None:
    """Every device counts its samples by the same classes, at least one.

    Raises:
        ProblemError: names two devices that differ, or one without classes.
    """
    counts = [len(device.local_counts) for device in devices]
    first, usual = devices[0].id, counts[0]
    for device, count in zip(devices, counts, strict=True):
        if count == 0:
            raise ProblemError(
                f"device {device.id!r}: local_counts is empty; give its samples of each class, "
                "0 for a class of which it has none"
            )
        if count != usual:
            raise ProblemError(
                f"local_counts: {usual} numbers for device {first!r}, {count} for device "
                f"{device.id!r}; every device counts the same classes"
            )


def _column(devices: Sequence[Device], field: str, otherwise: Array | float | None) -> Array:
    """A number of each device, (I,): its own, or that of all."""
    own = [getattr(device, field) for device in devices]
    if otherwise is None and None in own:
        raise ProblemError(
            f"device {devices[own.index(None)].id!r}: {field} is missing; give it in [problem] for "
            "all devices or in each [[device]]"
        )
    rest = np.broadcast_to(np.asarray(0.0 if otherwise is None else otherwise), (len(own),))
    return np.array([r if o is None else o for o, r in zip(own, rest, strict=True)], float)


def _rows(
    devices: Sequence[Device], field: str, otherwise: tuple[tuple[Any, ...], ...]
) -> tuple[tuple[Any, ...], ...]:
    """Values at the steps of each device: its own, or what its board says."""
    pairs = zip(devices, otherwise, strict=True)
    return tuple(getattr(device, field) or row for device, row in pairs)


def _weights(devices: Sequence[Device]) -> Array | None:
    """Weights of the devices' errors; ``None`` for equal ones."""
    own = [device.weight for device in devices]
    if all(weight is None for weight in own):
        return None
    if None in own:
        raise ProblemError("weight: give it for every device or for none")
    return np.array(own, float)


def _t_max_s(
    devices: Sequence[Device], names: Sequence[str], shared: Shared, receive_s: Array
) -> Array:
    """Time for training and upload, (I,): that given, or the deadline's without receiving."""
    if shared.deadline_s is None:
        return _column(devices, "t_max_s", shared.t_max_s)
    t_max_s = _column(devices, "t_max_s", shared.deadline_s - receive_s)
    late = [i for i, left_s in enumerate(t_max_s) if left_s <= 0 and devices[i].t_max_s is None]
    if late:
        raise InfeasibleError(
            f"deadline: {named([names[i] for i in late])} cannot receive the model within "
            f"deadline_s of {shared.deadline_s:.4g} s (it takes "
            f"{receive_s[late].max():.4g} s); a round must last longer than that",
            constraint="deadline",
            devices=[names[i] for i in late],
        )
    return t_max_s
