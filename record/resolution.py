"""What the meters of a run could resolve: how each figure of a phase was made, and how sure it is.

* :class:`RestFigure`       what a device draws at rest
* :class:`DeviceMetering`   what a device's readings say of its phases and of its resting power
* :func:`meterings`         of all devices
* :func:`constant`          a resting power without drift
* :func:`told_apart`        the parts of a run as figures of phases, each by a way of its own
* :func:`above_rest`        the paper's energy, part by part: compute and upload above resting

A part that its meter resolved is *direct*: integrated over its own readings. One that it did not
resolve is in every sum of the whole board, where the errors of neighbours cancel, but it is no
figure of its own. It gets one by *regression* over the rounds of the run
(:mod:`fimi.energy.phase_powers`) as soon as that is precise to :data:`PRECISE`. Until then it is
*unresolved*, and no more than its bound is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.cost_model import Phase
from fimi.energy.joules import Energy
from fimi.energy.phase_powers import PhasePowers, PowerEquations, add_up, solve
from fimi.energy.resting import Resting, RestingPower, above, fit
from fimi.record.record import RunData
from fimi.record.results import DeviceStretch
from fimi.record.sums import EnergyPart

PRECISE = 0.025
"""A regression is a figure if one standard deviation is at most this share of its power."""
DYNAMIC: tuple[Phase, ...] = ("compute", "upload")
"""The phases whose energy above idle the paper counts."""
DECLARED = 0.1
"""One standard deviation of an idle power that was declared and not measured, over that power."""

PartKey = tuple[str, int, Phase]
"""Device, round and phase of a part."""


class RestFigure(Struct, frozen=True, kw_only=True):
    """What a device draws at rest, in a run.

    Attributes:
        power_w: at the middle of its measurements, W.
        uncertainty_w: one standard deviation of that, without the error of the meter's gain, W.
        drift_w_per_h: how it changes.
        count: number of measurements; 0: it is the mean of idle phases, or declared.
    """

    power_w: float
    uncertainty_w: float
    drift_w_per_h: float
    count: int

    @classmethod
    def of(cls, resting: RestingPower) -> RestFigure:
        """That of a fit."""
        power_w, deviation_w = resting.at(resting.at_s)
        drift_w_per_h = 3600.0 * resting.slope_w_per_s
        return cls(
            power_w=power_w,
            uncertainty_w=deviation_w,
            drift_w_per_h=drift_w_per_h,
            count=resting.count,
        )


class DeviceMetering(Struct, frozen=True, kw_only=True):
    """What a device's readings say beside the energy of each phase.

    Attributes:
        powers: of its phases, by regression; ``None`` where its meter is not late, or before the
            second round.
        columns: of these powers, which is that of a phase in a round.
        resting: what it draws while it does nothing; ``None`` if that is unknown.
        is_presumed: whether that is its profile's, because nothing of it was measured.
        is_declared: whether all its joules are those of a constant power, in which no phase differs
            from another.
    """

    powers: PhasePowers | None = None
    columns: Mapping[tuple[int, str], str] = {}
    resting: RestingPower | None = None
    is_presumed: bool = False
    is_declared: bool = False

    def column(self, part: EnergyPart) -> str | None:
        """The column of a part's power, if it can be told."""
        if self.powers is None:
            return None
        name = self.columns.get((part.round, part.phase))
        if name is None:  # no readings came in that round: by those of the others
            names = {each for (_, phase), each in self.columns.items() if phase == part.phase}
            name = names.pop() if len(names) == 1 else None
        if name is None or math.isinf(self.powers.deviation_w(name)):
            return None
        return name

    def rounds_needed(self, phase: Phase) -> int | None:
        """After how many rounds, about, the regression of a phase will be precise enough.

        ``None`` where that cannot be said: it is precise already, or nothing is known of it.
        """
        if self.powers is None:
            return None
        names = {name for (_, of), name in self.columns.items() if of == phase}
        shares = [_share(self.powers, name) for name in names]
        worst = max((share for share in shares if math.isfinite(share)), default=0.0)
        if worst <= PRECISE:
            return None
        return math.ceil(self.powers.rounds * (worst / PRECISE) ** 2)


def meterings(run: RunData, parts: Iterable[EnergyPart]) -> dict[str, DeviceMetering]:
    """What the readings of each device say; ``parts`` are those of the run."""
    equations: dict[str, dict[int, list[PowerEquations]]] = {}
    rests: dict[str, list[Resting]] = {}
    stretches: list[tuple[int, DeviceStretch]] = [(0, each) for each in run.preparations]
    stretches += [(result.number, entry) for result in run.rounds for entry in result.devices]
    for number, stretch in stretches:
        for evidence in stretch.evidence:
            rests.setdefault(stretch.device, []).extend(evidence.rests)
            if evidence.powers is not None:
                of_device = equations.setdefault(stretch.device, {})
                of_device.setdefault(number, []).append(evidence.powers)
    idled = _idled(parts)
    found = {}
    for device in {*run.devices, *rests, *equations, *idled}:
        profile = run.profiles.get(device)
        rounds = {n: add_up(e) for n, e in sorted(equations.get(device, {}).items())}
        whole = {n: e for n, e in rounds.items() if e is not None}
        own = rests.get(device, ())
        begun_again = any(b.start_s < a.start_s for a, b in pairwise(own))
        resting = fit(own, one_clock=not begun_again) or idled.get(device)
        presumed = resting is None
        if resting is None and profile is not None:
            power_w = profile.board.idle_power_w
            resting = constant(power_w, DECLARED * power_w)
        found[device] = DeviceMetering(
            powers=solve(list(whole.values())),
            columns={
                (number, column.partition("@")[0]): column
                for number, each in whole.items()
                for column in sorted(each.columns, key=dict(_weights(each)).__getitem__)
            },
            resting=resting,
            is_presumed=presumed,
            is_declared=profile is not None and profile.hardware.meter.rate_hz == 0.0,
        )
    return found


def told_apart(
    parts: Iterable[EnergyPart], metering: Mapping[str, DeviceMetering]
) -> tuple[EnergyPart, ...]:
    """Parts with the energy that is a figure of each phase, and how it was made.

    What cannot be told has none.
    """
    found = []
    for part in parts:
        if part.energy is None or part.resolved:
            found.append(part)
            continue
        seen = metering.get(part.device, DeviceMetering())
        column = seen.column(part)
        energy = None
        if (
            column is not None
            and seen.powers is not None
            and part.duration_s is not None
            and _share(seen.powers, column) <= PRECISE
        ):
            value_j, deviation_j = seen.powers.energy({column: part.duration_s})
            energy = _told(part.energy, max(0.0, value_j), deviation_j)
        how = "unresolved" if energy is None else "regression"
        found.append(replace(part, energy=energy, how=how))
    return tuple(found)


def above_rest(
    parts: Sequence[EnergyPart], metering: Mapping[str, DeviceMetering]
) -> dict[PartKey, Energy]:
    """The energy above resting of each part that the paper counts, where it can be told.

    What the error of the resting power and that of the gain do to a device's parts, they have in
    common. Parts that their meter did not resolve are told by regression, all of a device together:
    what one of them has too much, another lacks, and their sum is surer than each.
    """
    found: dict[PartKey, Energy] = {}
    unresolved: dict[str, list[EnergyPart]] = {}
    for part in parts:
        seen = metering.get(part.device)
        if part.phase not in DYNAMIC or seen is None or seen.resting is None or seen.is_declared:
            continue
        if part.energy is None or part.duration_s is None:
            continue
        if not part.resolved:
            unresolved.setdefault(part.device, []).append(part)
            continue
        found[_key(part)] = above(part.energy, part.duration_s, part.middle_s, seen.resting)
    for device, own in unresolved.items():
        seen = metering[device]
        assert seen.resting is not None
        columns = [seen.column(part) for part in own]
        if seen.powers is None or None in columns:
            continue
        seconds: dict[str, float] = {}
        for part, column in zip(own, columns, strict=True):
            seconds[str(column)] = seconds.get(str(column), 0.0) + (part.duration_s or 0.0)
        _, deviation_j = seen.powers.energy(seconds)
        all_s = math.fsum(seconds.values())
        for part, column in zip(own, columns, strict=True):
            assert part.energy is not None and part.duration_s is not None
            place = seen.powers.columns.index(str(column))
            value_j = float(seen.powers.power_w[place]) * part.duration_s
            share_j = deviation_j * part.duration_s / all_s if all_s else 0.0
            told = _told(part.energy, max(0.0, value_j), 0.0)
            found[_key(part)] = above(
                told, part.duration_s, part.middle_s, seen.resting, regression_j=share_j
            )
    for key, energy in found.items():
        if metering[key[0]].is_presumed:  # what is taken off was measured by nobody
            source = f"{energy.source}+profile"
            found[key] = replace(energy, kind="mixed", source=source)
    return found


def _told(energy: Energy, value_j: float, deviation_j: float) -> Energy:
    """A figure by regression, from the same meter as an energy; all of its error is shared."""
    gain = energy.common_j / abs(energy.value_j) if energy.common_j and energy.value_j else 0.0
    common_j = math.hypot(deviation_j, gain * abs(value_j))
    return replace(energy, value_j=value_j, uncertainty_j=common_j, common_j=common_j)


def _share(powers: PhasePowers, column: str) -> float:
    """One standard deviation of a power over the power."""
    power_w = float(powers.power_w[powers.columns.index(column)])
    return powers.deviation_w(column) / power_w if power_w > 0.0 else math.inf


def _weights(equations: PowerEquations) -> list[tuple[str, float]]:
    """How much each column was seen."""
    count, place, found = len(equations.columns), 0, []
    for row, column in enumerate(equations.columns):
        found.append((column, equations.gram[place]))
        place += count - row
    return found


def _idled(parts: Iterable[EnergyPart]) -> dict[str, RestingPower]:
    """Mean power over the idle phases of devices, for those that measured no resting power."""
    energies: dict[str, list[Energy]] = {}
    seconds: dict[str, float] = {}
    for part in parts:
        told = part.energy is not None and part.resolved
        if part.phase == "idle" and told and part.energy is not None and part.duration_s:
            energies.setdefault(part.device, []).append(part.energy)
            seconds[part.device] = seconds.get(part.device, 0.0) + part.duration_s
    return {
        device: constant(
            math.fsum(e.value_j for e in own) / seconds[device],
            math.hypot(*(energy.own_j for energy in own)) / seconds[device],
        )
        for device, own in energies.items()
    }


def constant(power_w: float, deviation_w: float) -> RestingPower:
    """A resting power without drift."""
    covariance = np.array([[deviation_w**2, 0.0], [0.0, 0.0]])
    return RestingPower(
        at_s=0.0, power_w=power_w, slope_w_per_s=0.0, covariance=covariance, step_w=0.0, count=0
    )


def _key(part: EnergyPart) -> PartKey:
    return part.device, part.round, part.phase
