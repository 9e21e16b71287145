"""A carbon figure by ISO/IEC 21031:2024, Software Carbon Intensity: SCI = (E · I + M) per R.

* :func:`carbon`          of a run for which an intensity is given; docs/model.md (C1) to (C3)
* :class:`Carbon`         what that is
* :class:`CarbonFigure`   per one functional unit R
* :func:`emissions_so_far`  the same up to each round
* :func:`with_carbon`     a run with settings that were given afterwards

E is energy in kWh and stays what it is: measured, modelled or emulated, of boards or of their
processors. I is declared: nobody here measures it. M is the part of the embodied emissions of the
hardware in the boundary that falls on the time for which the run holds it. Without M for all of
that hardware the figure is operational, and no whole SCI; it says so. Where a part of E is not
known, neither is the figure; what is known of it stands beside it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.energy.joules import Energy
from fimi.record.carbon_settings import CarbonSettings, embodied_of, settings_of
from fimi.record.curve import Price, RoundPoint
from fimi.record.record import RunData
from fimi.record.sums import Sum

J_PER_KWH = 3.6e6
S_PER_YEAR = 365 * 24 * 3600.0
"""As the standard's own example has it."""

FunctionalUnit = Literal["run", "round", "target"]


class Grams(Struct, frozen=True, kw_only=True):
    """Emissions.

    Attributes:
        value_g: g CO2eq.
        uncertainty_g: one standard deviation, from those of the energy and of the intensity.
    """

    value_g: float
    uncertainty_g: float = 0.0


class CarbonFigure(Struct, frozen=True, kw_only=True):
    """Emissions per one functional unit.

    Attributes:
        per: the unit R: a run, a round of it, or training to a target accuracy.
        target: that accuracy, 0 to 1; ``None`` for the others.
        count: how many units the run has of it.
        energy: E of all these units together, with its kind and scope.
        operational: O = E · I for one unit; ``None`` where a part of E is missing.
        operational_known: the same of what is known of E; ``None`` where nothing is.
        embodied: M for one unit; ``None`` where it is given for no hardware.
        total: O + M, or O where no M is given; ``None`` where O is not known.
    """

    per: FunctionalUnit
    target: float | None = None
    count: int = 1
    energy: Sum
    operational: Grams | None
    operational_known: Grams | None
    embodied: Grams | None
    total: Grams | None


class Carbon(Struct, frozen=True, kw_only=True):
    """A run's carbon figures.

    Attributes:
        settings: intensity, boundary and embodied emissions, as they were given.
        given: where the intensity came from: a file, or an option.
        intensity_kind: ``declared``: no meter of ours has read it.
        figures: per run, per round, and per training to each accuracy that was reached.
        without_embodied: hardware in the boundary for which no M is given; empty: the figures are
            whole SCI values.
    """

    settings: CarbonSettings
    given: str
    intensity_kind: Literal["declared"] = "declared"
    figures: tuple[CarbonFigure, ...]
    without_embodied: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the figures have what an SCI must have: M of all hardware in the boundary."""
        return not self.without_embodied

    @property
    def of_run(self) -> CarbonFigure:
        """That of the run."""
        return self.figures[0]


def with_carbon(run: RunData, given: Mapping[str, Any]) -> RunData:
    """A run as if its configuration had these settings.

    Args:
        run: the run.
        given: names of :class:`CarbonSettings` to values; none: the run as it is.
    """
    if not given:
        return run
    config = {**run.info.config, **{f"carbon.{name}": value for name, value in given.items()}}
    origins = {**run.info.origins, **{f"carbon.{name}": "--carbon" for name in given}}
    info = msgspec.structs.replace(run.info, config=config, origins=origins)
    return msgspec.structs.replace(run, info=info)


def carbon(
    run: RunData,
    points: Sequence[RoundPoint],
    prices: Sequence[Price],
    boards: Sum,
    total: Sum,
) -> Carbon | None:
    """The carbon figures of a run; ``None`` where no intensity is given.

    Args:
        run: the run.
        points: its rounds.
        prices: of its target accuracies.
        boards: joules of all boards.
        total: joules of all machines.

    Raises:
        msgspec.ValidationError: the stored settings are none.
    """
    settings = settings_of(run.info.config)
    if settings is None:
        return None
    whole = settings.boundary == "all"
    energy = total if whole else boards
    hardware = _Hardware(run, settings, points)
    number = points[-1].number if points else 0
    in_all = _figure("run", energy, settings, hardware.embodied_g(number))
    figures = [in_all]
    if points:
        figures.append(_figure("round", energy, settings, in_all.embodied, count=len(points)))
    for price in prices:
        taken = price.total if whole else price.energy
        if price.rounds is not None and taken is not None:
            embodied = hardware.embodied_g(price.rounds)
            figures.append(_figure("target", taken, settings, embodied, target=price.target))
    return Carbon(
        settings=settings,
        given=run.info.origins.get("carbon.intensity_g_per_kwh", ""),
        figures=tuple(figures),
        without_embodied=hardware.without,
    )


def emissions_so_far(run: RunData, points: Sequence[RoundPoint]) -> tuple[Grams | None, ...]:
    """Emissions of a run up to the end of each round; ``None`` where a part of E is missing.

    None at all where no intensity is given.

    Raises:
        msgspec.ValidationError: the stored settings are none.
    """
    settings = settings_of(run.info.config)
    if settings is None:
        return ()
    hardware, whole = _Hardware(run, settings, points), settings.boundary == "all"
    return tuple(
        _figure(
            "run",
            point.total_so_far if whole else point.energy_so_far,
            settings,
            hardware.embodied_g(point.number),
        ).total
        for point in points
    )


def _figure(
    per: FunctionalUnit,
    energy: Sum,
    settings: CarbonSettings,
    embodied: Grams | None,
    *,
    count: int = 1,
    target: float | None = None,
) -> CarbonFigure:
    operational = _operational(energy.value, settings, count)
    known = _operational(energy.known, settings, count)
    one = embodied and Grams(value_g=embodied.value_g / count)
    summed = operational
    if operational is not None and one is not None:
        summed = Grams(
            value_g=operational.value_g + one.value_g, uncertainty_g=operational.uncertainty_g
        )
    return CarbonFigure(
        per=per,
        target=target,
        count=count,
        energy=energy,
        operational=operational,
        operational_known=known,
        embodied=one,
        total=summed,
    )


def _operational(energy: Energy | None, settings: CarbonSettings, count: int) -> Grams | None:
    """E · I for one of so many units; both uncertainties to first order, independent (C2)."""
    if energy is None:
        return None
    e_kwh, sigma_kwh = energy.value_j / J_PER_KWH, energy.uncertainty_j / J_PER_KWH
    intensity, sigma = settings.intensity_g_per_kwh, settings.intensity_uncertainty_g_per_kwh
    return Grams(
        value_g=e_kwh * intensity / count,
        uncertainty_g=math.hypot(sigma_kwh * intensity, e_kwh * sigma) / count,
    )


class _Hardware:
    """What is in the boundary, and for how long a run has held it.

    Attributes:
        without: that of which no embodied emissions are given.
    """

    def __init__(
        self, run: RunData, settings: CarbonSettings, points: Sequence[RoundPoint]
    ) -> None:
        named, common = embodied_of(settings), settings.embodied_kg or None
        self._share = settings.resource_share / (settings.lifetime_years * S_PER_YEAR or math.inf)
        self._run = run
        self._held_s = _held_s(run, {point.number: point.duration_s for point in points})
        trained = ((r.number, r.server.seconds) for r in run.rounds if r.server is not None)
        self._trained_s = _so_far(trained)
        self._of_device: dict[str, float] = {}
        self._of_role: dict[str, float] = {}
        lacking = []
        for device in run.devices:
            profile = run.profiles.get(device)
            board = profile.hardware.board if profile else ""
            kg = named.get(device, named.get(board, common))
            if kg is None:
                lacking.append(device)
            else:
                self._of_device[device] = kg
        if settings.boundary == "all":
            roles = {"generator": run.generation is not None, "server": _trains(run)}
            for role in (role for role, is_there in roles.items() if is_there):
                if role in named:
                    self._of_role[role] = named[role]
                else:
                    lacking.append(role)
        self.without = tuple(lacking)

    def embodied_g(self, number: int) -> Grams | None:
        """M up to the end of a round (C3); ``None`` where it is given for nothing."""
        if not self._of_device and not self._of_role:
            return None
        parts = [
            kg * _up_to(self._held_s.get(device, _NEVER), number)
            for device, kg in self._of_device.items()
        ]
        parts += [kg * self._worked_s(role, number) for role, kg in self._of_role.items()]
        return Grams(value_g=1e3 * self._share * math.fsum(parts))

    def _worked_s(self, role: str, number: int) -> float:
        if role == "generator":
            return self._run.generation.seconds if self._run.generation else 0.0
        return _up_to(self._trained_s, number)


_SoFar = tuple[list[int], list[float]]
"""Numbers of rounds that grow, and seconds from the beginning to the end of each."""
_NEVER: _SoFar = ([], [])


def _held_s(run: RunData, lasted_s: Mapping[int, float]) -> dict[str, _SoFar]:
    """How long each device was in the run, also while it waited, on the fleet's clock, s."""
    found: dict[str, list[tuple[int, float]]] = {}
    for result in run.rounds:
        for entry in result.devices:
            if not entry.is_outside:
                found.setdefault(entry.device, []).append((result.number, lasted_s[result.number]))
    return {device: _so_far(own) for device, own in found.items()}


def _so_far(own: Iterable[tuple[int, float]]) -> _SoFar:
    """Sums of seconds, rounded once: as if each were made of all before it."""
    rounds = [*own]
    sums = accumulate(Fraction(seconds) for _, seconds in rounds)
    return [number for number, _ in rounds], [float(each) for each in sums]


def _up_to(sums: _SoFar, number: int) -> float:
    numbers, seconds = sums
    at = bisect_right(numbers, number)
    return seconds[at - 1] if at else 0.0


def _trains(run: RunData) -> bool:
    return any(result.server is not None for result in run.rounds)
