"""FIMI's problem (P1) as arrays over devices, docs/model.md (12).

* :class:`FimiProblem`     everything a plan depends on, checked; SI units, shape (I,) per device
* :func:`tfl`              the same fleet without synthetic data and without a learning constraint
* :class:`InfeasibleError` no plan exists: because of which constraint and devices; what would help
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array, steps_out_of_order
from fimi.energy.units import doubt, hint, reason, refusal
from fimi.errors import InputError, NoPlanError
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.wording import named

Constraint = Literal["deadline", "bandwidth", "learning error", "energy budget"]
Objective = Literal["board", "dynamic"]
"""``board``: what a meter at the plug sees. ``dynamic``: compute and upload above idle, as in the
paper."""

_POSITIVE = (
    "cycles_per_sample",
    "capacitance_w_per_hz3",
    "frequency_min_hz",
    "frequency_max_hz",
    "channel_gain",
    "noise_density_w_per_hz",
    "transmit_power_max_w",
    "payload_bits",
    "t_max_s",
    "worth_scale",
    "worth_exponent",
)
_NON_NEGATIVE = (
    "active_power_w",
    "linear_power_w_per_hz",
    "generated_max",
    "weights",
    "idle_power_w",
    "receive_s",
    "receive_power_w",
    "electronics_power_w",
    "energy_per_bit_j",
    "synthetic_j",
    "received_j",
)
_LIMITS = ("rate_cap_bps", "downlink_rate_bps", "budget_j")
SMALLEST, LARGEST = 1e-40, 1e40
"""Limits of any quantity but 0: far beyond hardware, and far enough from the limits of a double for
every product of the model. A value outside is a mistake of units."""
_SAMPLES_MAX = 1e15
"""Whole numbers up to here are exact doubles."""
DURATION_MAX_S = 1e9
"""Longest deadline and longest time to receive the model: 30 years. Beyond it the differences of
times that a plan is made of are lost in a double."""
_MOST = {"t_max_s": DURATION_MAX_S, "receive_s": DURATION_MAX_S}
_REMEDY = {
    "t_max_s": "give the time of a round in seconds; 1e9 s are 30 years",
    "receive_s": "it is the size of the model over downlink_rate_bps: check both",
}
"""What to do about a value above :data:`_MOST`."""


class ProblemError(InputError, ValueError):
    """A problem was described with impossible values."""

    code = "P001"


_CODES: dict[Constraint, str] = {
    "deadline": "P002",
    "bandwidth": "P003",
    "learning error": "P004",
    "energy budget": "P005",
}


class InfeasibleError(NoPlanError, ValueError):
    """No plan meets every constraint.

    Attributes:
        constraint: which constraint cannot be met.
        devices: the devices that cannot meet it; all of them if it concerns the whole fleet.
        what: what is wrong, without the remedies.
        remedies: what would make a plan possible, each alone, as it is printed.
        smallest_t_max_s: (I,) deadlines that would be enough, all else equal; ``None`` if none is.
        smallest_error_max: smallest Δ_max that can be met, all else equal; ``None`` if none can.
        bandwidth_needed_hz: smallest bandwidth that would be enough; ``None`` if none is.
        generated_max_needed: D_gen_max that would be enough for the devices concerned.
        together: Δ_max and the seconds by which every deadline must be later, which are enough
            together; given where neither is alone.
        budget_needed_j: a budget that would be enough for every device that is above its own, J.
        fleet_budget_needed_j: the same for the fleet; both are needed where both are given.
    """

    def __init__(
        self,
        message: str,
        *,
        constraint: Constraint,
        devices: Sequence[str],
        remedies: Sequence[str] = (),
        smallest_t_max_s: Array | None = None,
        smallest_error_max: float | None = None,
        bandwidth_needed_hz: float | None = None,
        generated_max_needed: float | None = None,
        together: tuple[float, float] | None = None,
        budget_needed_j: float | None = None,
        fleet_budget_needed_j: float | None = None,
    ) -> None:
        advice = f"; feasible with {', or '.join(remedies)}" if remedies else ""
        super().__init__(message + advice)
        self.constraint: Constraint = constraint
        self.code = _CODES[constraint]
        self.what = message
        self.remedies = tuple(remedies)
        self.devices = tuple(devices)
        self.smallest_t_max_s = smallest_t_max_s
        self.smallest_error_max = smallest_error_max
        self.bandwidth_needed_hz = bandwidth_needed_hz
        self.generated_max_needed = generated_max_needed
        self.together = together
        self.budget_needed_j = budget_needed_j
        self.fleet_budget_needed_j = fleet_budget_needed_j


class FimiProblem(Struct, frozen=True, eq=False, forbid_unknown_fields=True, kw_only=True):
    """One planning problem. A number where an array is expected holds for every device.

    Attributes:
        devices: ids, shape (I,).
        local_counts: D_loc per class, whole numbers, shape (I, K). A row of zeros is a device
            without data.
        epochs: E, local epochs of a round.
        cycles_per_sample: C, (I,).
        capacitance_w_per_hz3: κ, (I,).
        active_power_w: P_act, (I,).
        frequency_min_hz: (I,).
        frequency_max_hz: (I,).
        channel_gain: h, (I,).
        noise_density_w_per_hz: N0, (I,).
        transmit_power_max_w: p_max, (I,).
        payload_bits: S, size of a model update, (I,).
        t_max_s: time for compute and upload together: the round's deadline less the time in which
            the device receives the model, (I,).
        bandwidth_hz: B, uplink band that the fleet shares.
        generated_max: D_gen_max, (I,); rounded down to whole samples.
        weights: w of each device's error in the mean, (I,), sum 1; equal if left out.
        error_max: Δ_max; infinite for no learning constraint.
        curve: Δ(D); needed only for a finite ``error_max``.
        frequency_steps_hz: discrete operating frequencies per device, ascending; an empty entry
            means that every frequency between the limits can be set.
        step_power_w: measured power above idle at each of ``frequency_steps_hz``, W; an empty entry
            means that the law gives it. A step is then a measured operating point, and its
            frequency the cycles of the training that it does in a second.
        step_names: names of these operating points; an empty entry means that only the frequency
            is set.
        beaten_names: names of the measured points that are no step because another one of the same
            speed takes no more power; no plan can choose them.
        linear_power_w_per_hz: c, (I,), power in proportion to the frequency.
        electronics_power_w: P_el, (I,), flows while sending, besides the transmit power.
        energy_per_bit_j: e_bit, (I,).
        rate_cap_bps: (I,), most that the radio sends; infinite for no cap.
        power_settable: (I,) of bool: whether p can be chosen; where it cannot, it is p_max.
        idle_power_w: P_idle, (I,).
        receive_s: (I,), time in a round in which the device receives the model.
        downlink_rate_bps: (I,), the rate from which ``receive_s`` was computed, for messages only;
            infinite where it is not known.
        receive_power_w: P_rx, (I,).
        synthetic_j: (I,), board energy of receiving one synthetic sample, once in a run.
        rounds: number of rounds over which ``synthetic_j`` is spread, and for which budgets hold.
        objective: which energy the plan is to make least. With ``board`` the length of a round is
            chosen as well, up to the largest ``t_max_s`` + ``receive_s``.
        budget_j: (I,), most board energy of a device in all rounds; infinite for none.
        fleet_budget_j: the same for the whole fleet.
        received_j: (I,), what of the budgets as they were written is taken off already, for
            receiving data that is given; for messages only, which name the budgets as written.
        worth_scale: g, (I,): D samples teach as much as g D^s samples of the learning curve. It is
            1 unless :mod:`fimi.optim.quality` sets it for synthetic samples of less worth.
        worth_exponent: s, (I,).

    Raises:
        ProblemError: a value is impossible; names device, field and value.
    """

    devices: tuple[str, ...]
    local_counts: NDArray[np.int64]
    epochs: int
    cycles_per_sample: Array
    capacitance_w_per_hz3: Array
    frequency_min_hz: Array
    frequency_max_hz: Array
    channel_gain: Array
    noise_density_w_per_hz: Array
    transmit_power_max_w: Array
    payload_bits: Array
    t_max_s: Array
    bandwidth_hz: float
    generated_max: Array
    active_power_w: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    weights: Array = msgspec.field(default_factory=lambda: np.zeros(0))
    error_max: float = math.inf
    curve: LearningCurve | None = None
    frequency_steps_hz: tuple[tuple[float, ...], ...] = ()
    step_power_w: tuple[tuple[float, ...], ...] = ()
    step_names: tuple[tuple[str, ...], ...] = ()
    beaten_names: tuple[tuple[str, ...], ...] = ()
    linear_power_w_per_hz: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    electronics_power_w: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    energy_per_bit_j: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    rate_cap_bps: Array = msgspec.field(default_factory=lambda: np.full(1, np.inf))
    power_settable: NDArray[np.bool_] = msgspec.field(default_factory=lambda: np.ones(1, bool))
    idle_power_w: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    receive_s: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    downlink_rate_bps: Array = msgspec.field(default_factory=lambda: np.full(1, np.inf))
    receive_power_w: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    synthetic_j: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    rounds: float = 1.0
    objective: Objective = "board"
    budget_j: Array = msgspec.field(default_factory=lambda: np.full(1, np.inf))
    fleet_budget_j: float = math.inf
    received_j: Array = msgspec.field(default_factory=lambda: np.zeros(1))
    worth_scale: Array = msgspec.field(default_factory=lambda: np.ones(1))
    worth_exponent: Array = msgspec.field(default_factory=lambda: np.ones(1))

    def __post_init__(self) -> None:
        count = len(self.devices)
        if count == 0:
            raise ProblemError("devices: the fleet is empty; a plan needs at least one device")
        if len(set(self.devices)) != count:
            twice = sorted({d for d in self.devices if self.devices.count(d) > 1})
            raise ProblemError(f"devices: {named(twice)} listed more than once")
        if np.asarray(self.weights).size == 0:
            self._set("weights", np.full(count, 1.0 / count))
        for field in (*_POSITIVE, *_NON_NEGATIVE, *_LIMITS):
            self._set_array(field, count)
        settable = np.broadcast_to(np.asarray(self.power_settable, bool), (count,))
        settable = np.array(settable)
        settable.flags.writeable = False
        self._set("power_settable", settable)
        self._set("generated_max", _frozen(np.floor(np.minimum(self.generated_max, _SAMPLES_MAX))))
        self._set_counts(count)
        self._check_scalars()
        self._check_frequencies(count)
        total = float(self.weights.sum())
        if abs(total - 1.0) > 1e-9:
            raise ProblemError(f"weights: they add up to {total:.12g}; divide them by their sum")

    @property
    def size(self) -> int:
        """I, the number of devices."""
        return len(self.devices)

    @property
    def local_samples(self) -> Array:
        """D_loc, (I,)."""
        return np.asarray(self.local_counts.sum(axis=1), float)

    @property
    def cycles_per_pass(self) -> Array:
        """E · C, cycles of one sample in a round, (I,)."""
        return self.epochs * self.cycles_per_sample

    @property
    def error_budget(self) -> float:
        """Δ_max − δ0: the limit on Σ w α D^(−β); infinite without a learning constraint."""
        return self.error_max - self.error_floor

    @property
    def error_floor(self) -> float:
        """δ0; 0 without a learning curve."""
        return self.curve.delta0 if self.curve is not None else 0.0

    def error(self, samples: Array) -> float:
        """Σ w Δ(g D^s), the mean learning error of D, (I,); NaN without a learning curve."""
        if self.curve is None:
            return math.nan
        counted = self.weights > 0
        worth = (self.worth_scale * samples**self.worth_exponent)[counted]
        return float((self.weights[counted] * self.curve.error(worth)).sum())

    def subset(self, rows: slice | Array, *, weights: Array) -> FimiProblem:
        """The problem of some of its devices.

        Args:
            rows: which devices.
            weights: of these devices, sum 1.
        """
        index = np.arange(self.size)[rows]
        given: dict[str, object] = {}
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, np.ndarray):
                given[field] = value[index]
            elif isinstance(value, tuple):
                given[field] = tuple(value[i] for i in index)
        return msgspec.structs.replace(self, **(given | {"weights": weights}))

    def compute_j(self, cycles: Array, frequency_hz: Array) -> Array:
        """(2) e_cmp of so many cycles at f by the law, J, (..., I) each."""
        switching = self.capacitance_w_per_hz3 * frequency_hz**2 + self.linear_power_w_per_hz
        return cycles * (switching + self.active_power_w / frequency_hz)

    @property
    def round_max_s(self) -> float:
        """The longest that a round may last, s: receiving, training and sending."""
        return float((self.t_max_s + self.receive_s).max())

    @property
    def fixed_j(self) -> Array:
        """Energy above idle of a round that no plan changes, J, (I,): receiving, joules per bit."""
        return self.receive_power_w * self.receive_s + self.energy_per_bit_j * self.payload_bits

    def _set(self, field: str, value: object) -> None:
        msgspec.structs.force_setattr(self, field, value)

    def _set_array(self, field: str, count: int) -> None:
        given = np.asarray(getattr(self, field), float)
        if given.ndim > 1 or (given.ndim == 1 and given.size not in (1, count)):
            raise ProblemError(
                f"{field}: shape {given.shape} for {count} devices; give one number per device, "
                "or one for all"
            )
        values = np.array(np.broadcast_to(given, (count,)))
        positive = field in _POSITIVE or field in _LIMITS
        most = _MOST.get(field, LARGEST)
        good = (values >= SMALLEST) & (values <= most) | (values == 0.0) & (not positive)
        good |= (values == math.inf) & (field in _LIMITS)
        if not good.all():
            i = int(np.flatnonzero(~good)[0])
            need = "greater than 0" if positive else "0 or more"
            raise ProblemError(
                f"device {self.devices[i]!r}: {field} is {values[i]:.6g}; "
                f"it must be a finite number, {need} ({SMALLEST:g} to {most:g}, SI units)"
                + _advice(field, float(values[i]))
            )
        if field == "channel_gain" and (values > 1.0).any():
            i = int(np.flatnonzero(values > 1.0)[0])
            raise ProblemError(f"device {self.devices[i]!r}: {refusal(field, float(values[i]))}")
        self._set(field, _frozen(values))

    def _set_counts(self, count: int) -> None:
        given = np.asarray(self.local_counts)
        if given.ndim != 2 or given.shape[0] != count or given.shape[1] == 0:
            raise ProblemError(
                f"local_counts: shape {given.shape} for {count} devices; give one row of samples "
                "per class for each device"
            )
        good = (given >= 0) & (given <= _SAMPLES_MAX) & (given == np.floor(given))
        if not good.all():
            i, k = (int(j) for j in np.argwhere(~good)[0])
            raise ProblemError(
                f"device {self.devices[i]!r}: local_counts of class {k} is {given[i, k]}; "
                "it must be a whole number, 0 or more"
            )
        counts = np.array(given, dtype=np.int64)
        counts.flags.writeable = False
        self._set("local_counts", counts)

    def _check_scalars(self) -> None:
        if not (1 <= self.epochs <= _SAMPLES_MAX and self.epochs == int(self.epochs)):
            raise ProblemError(f"epochs is {self.epochs}; it must be a whole number, 1 or more")
        if not SMALLEST <= self.bandwidth_hz <= LARGEST:
            raise ProblemError(f"bandwidth_hz is {self.bandwidth_hz}; it must be finite, above 0")
        if not (SMALLEST <= self.error_max <= LARGEST or self.error_max == math.inf):
            raise ProblemError(
                f"error_max is {self.error_max}; it must be above 0 (inf: no learning constraint)"
            )
        if not SMALLEST <= self.rounds <= LARGEST:
            raise ProblemError(
                f"rounds is {self.rounds}; it must be a finite number, greater than 0: the rounds "
                "of the whole run"
            )
        if not (SMALLEST <= self.fleet_budget_j <= LARGEST or self.fleet_budget_j == math.inf):
            raise ProblemError(
                f"fleet_budget_j is {self.fleet_budget_j}; it must be greater than 0 "
                f"({SMALLEST:g} to {LARGEST:g} J, or inf: no limit), the most board energy of "
                "all devices in all rounds"
            )
        if self.curve is None and math.isfinite(self.error_max):
            raise ProblemError(f"error_max is {self.error_max} but curve is missing: give Δ(D)")

    def _check_frequencies(self, count: int) -> None:
        above = self.frequency_min_hz > self.frequency_max_hz
        if above.any():
            i = int(np.flatnonzero(above)[0])
            raise ProblemError(
                f"device {self.devices[i]!r}: frequency_min_hz ({self.frequency_min_hz[i]:.4g}) "
                f"is above frequency_max_hz ({self.frequency_max_hz[i]:.4g})"
                + _meant("frequency_max_hz", float(self.frequency_max_hz[i]))
            )
        steps = self.frequency_steps_hz or ((),) * count
        if len(steps) != count:
            raise ProblemError(f"frequency_steps_hz: {len(steps)} entries for {count} devices")
        for i, row in enumerate(steps):
            if said := steps_out_of_order(row):
                raise ProblemError(f"device {self.devices[i]!r}: {said}")
            low, high = self.frequency_min_hz[i], self.frequency_max_hz[i]
            outside = [step for step in row if not low <= step <= high]
            if outside:
                raise ProblemError(
                    f"device {self.devices[i]!r}: {outside[0]:.6g} Hz of frequency_steps_hz is not "
                    f"between frequency_min_hz ({low:.6g}) and frequency_max_hz ({high:.6g}); "
                    "remove it, or widen the limits"
                    + _meant("frequency_steps_hz", float(outside[0]))
                )
            if row and row[-1] < self.frequency_max_hz[i]:
                raise ProblemError(
                    f"device {self.devices[i]!r}: the highest of frequency_steps_hz is "
                    f"{row[-1]:.4g}, so frequency_max_hz ({self.frequency_max_hz[i]:.4g}) cannot "
                    "be set; make them equal"
                )
        self._set("frequency_steps_hz", tuple(tuple(map(float, row)) for row in steps))
        self._check_points(count)

    def _check_points(self, count: int) -> None:
        steps = self.frequency_steps_hz
        kinds: tuple[tuple[str, type], ...] = (("step_power_w", float), ("step_names", str))
        for field, kind in kinds:
            rows = getattr(self, field) or ((),) * count
            if len(rows) != count:
                raise ProblemError(f"{field}: {len(rows)} entries for {count} devices")
            for i, row in enumerate(rows):
                if row and len(row) != len(steps[i]):
                    raise ProblemError(
                        f"device {self.devices[i]!r}: {field} has {len(row)} values for "
                        f"{len(steps[i])} frequency_steps_hz; give one for each"
                    )
            self._set(field, tuple(tuple(map(kind, row)) for row in rows))
        beaten = self.beaten_names or ((),) * count
        if len(beaten) != count:
            raise ProblemError(f"beaten_names: {len(beaten)} entries for {count} devices")
        self._set("beaten_names", tuple(tuple(row) for row in beaten))
        for i, row in enumerate(self.step_power_w):
            wrong = [k for k, watts in enumerate(row) if not 0.0 <= watts <= LARGEST]
            if wrong:
                raise ProblemError(
                    f"device {self.devices[i]!r}: step_power_w is {row[wrong[0]]:g} W at "
                    f"{steps[i][wrong[0]]:.6g} Hz; it must be a finite power above idle, 0 W or "
                    "more"
                )


def _advice(field: str, value: float) -> str:
    """What to do about a value that is refused, as the end of a sentence."""
    said = _meant(field, value)
    if value > _MOST.get(field, math.inf):
        said += f"; {_REMEDY[field]}"
    if why := reason(field, value):
        said += f"; {why}"
    return said


def _meant(field: str, value: float) -> str:
    """The unit that would explain a value that is refused, as the end of a sentence."""
    said = hint(field, value) if doubt(field, value) else ""
    return f"; {said}" if said else ""


def tfl(problem: FimiProblem) -> FimiProblem:
    """The baseline on the same fleet: local data only, no learning constraint, same deadlines."""
    return msgspec.structs.replace(
        problem, generated_max=np.zeros(problem.size), error_max=math.inf
    )


def _frozen(values: Array) -> Array:
    values.flags.writeable = False
    return values
