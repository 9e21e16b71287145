"""Prediction against measurement: errors and their causes.

* :class:`Residual`     one phase of one device in one round
* :func:`residuals`     all phases of a device-round
* :func:`parts_of`      where the difference of a phase comes from
* :class:`Agreement`    a set of residuals in numbers: MAPE, bias, parts
* :func:`agreement`     of any set of residuals
* :func:`energy_error`, :func:`time_error`  of a device in a round, or of any set

An error is (predicted − measured) / measured: positive where the model promised more than was used.

Energy is a product of factors, and predicted less measured joules are divided among them by the
logarithmic mean Divisia method (Ang 2004, Energy Policy 32, 1131): with L(a, b) = (a − b)/ln(a/b),
the part of a factor x is L(E_predicted, E_measured) ln(x_predicted/x_measured). The parts add up to
the whole difference, whatever the order of the factors. docs/model.md (41).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from fimi.energy.cost_model import BoardModel, OperatingPoint, Phase, achieved_power_w
from fimi.record.results import DeviceRound, metered


class Parts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Predicted less measured joules, by what they come from.

    Attributes:
        cycles_j: the work took fewer cycles than predicted, or more.
        throttling_j: it ran at another frequency than planned.
        rate_j: the link was faster or slower.
        waiting_j: the round lasted longer or shorter than planned while this device idled.
        power_j: the board drew another power in the same state.
    """

    cycles_j: float = 0.0
    throttling_j: float = 0.0
    rate_j: float = 0.0
    waiting_j: float = 0.0
    power_j: float = 0.0

    @property
    def sum_j(self) -> float:
        """Predicted less measured, J."""
        return math.fsum(getattr(self, name) for name in self.__struct_fields__)


class Residual(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One phase of one device in one round.

    Attributes:
        round: number, from 1.
        device: its id.
        phase: which.
        predicted_s: as the plan in force had it.
        measured_s: as metered.
        predicted_j: board energy.
        measured_j: board energy.
        parts: where the difference comes from.
    """

    round: int
    device: str
    phase: Phase
    predicted_s: float
    measured_s: float
    predicted_j: float
    measured_j: float
    parts: Parts


class Agreement(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How well a set of predictions held.

    Attributes:
        mape_percent: mean absolute error of the joules of a device-round.
        bias_percent: error of the sum of all joules.
        time_mape_percent: mean absolute error of a device's busy time in a round; ``None`` if no
            time but idling was measured.
        parts: of the difference of all joules.
        measured_j: all measured joules.
        count: device-rounds.
    """

    mape_percent: float
    bias_percent: float
    time_mape_percent: float | None
    parts: Parts
    measured_j: float
    count: int


def residuals(
    number: int, entry: DeviceRound, point: OperatingPoint, board: BoardModel
) -> tuple[Residual, ...]:
    """Every phase of a device in a round that was both predicted and metered.

    ``point`` and ``board`` are those that the prediction was made with. Waiting for a pull is
    compared together with idling: the plan has the device idle for what its work leaves of the
    round.
    """
    found = []
    for cost in entry.predicted:
        of_it = ("idle", "waiting") if cost.phase == "idle" else (cost.phase,)
        records = [record for record in entry.phases if record.phase in of_it]
        energy = metered(records)
        if energy is None or not all(record.resolved for record in records):
            continue
        measured_s = math.fsum(record.duration_s for record in records)
        found.append(
            Residual(
                round=number,
                device=entry.device,
                phase=cost.phase,
                predicted_s=cost.duration_s,
                measured_s=measured_s,
                predicted_j=cost.board_j,
                measured_j=energy.value_j,
                parts=parts_of(
                    cost.phase,
                    (cost.duration_s, cost.board_j),
                    (measured_s, energy.value_j),
                    point,
                    entry.frequency_hz or point.frequency_hz,
                    board,
                ),
            )
        )
    return tuple(found)


def agreement(found: Iterable[Residual]) -> Agreement | None:
    """A set of residuals in numbers; ``None`` if there is nothing to compare."""
    items = list(found)
    rounds = by_device_round(items)
    energy = [e for group in rounds.values() if (e := energy_error(group)) is not None]
    times = [e for group in rounds.values() if (e := time_error(group)) is not None]
    measured_j = math.fsum(r.measured_j for r in items)
    if not energy or measured_j <= 0.0:
        return None
    return Agreement(
        mape_percent=100.0 * math.fsum(map(abs, energy)) / len(energy),
        bias_percent=100.0 * (math.fsum(r.predicted_j for r in items) - measured_j) / measured_j,
        time_mape_percent=100.0 * math.fsum(map(abs, times)) / len(times) if times else None,
        parts=Parts(
            **{
                name: math.fsum(getattr(r.parts, name) for r in items)
                for name in Parts.__struct_fields__
            }
        ),
        measured_j=measured_j,
        count=len(energy),
    )


def by_device_round(found: Iterable[Residual]) -> dict[tuple[int, str], list[Residual]]:
    """Residuals of the same device in the same round together."""
    groups: dict[tuple[int, str], list[Residual]] = {}
    for each in found:
        groups.setdefault((each.round, each.device), []).append(each)
    return groups


def drift_percent(found: Iterable[Residual]) -> float:
    """How far one device's predictions are off in the same direction, percent.

    The larger of the mean signed errors of a round's joules and of its busy time, without sign:
    noise averages out, a wrong profile does not.
    """
    rounds = by_device_round(found)
    means = []
    for error in (energy_error, time_error):
        values = [e for group in rounds.values() if (e := error(group)) is not None]
        means.append(abs(math.fsum(values)) / len(values) if values else 0.0)
    return 100.0 * max(means)


def energy_error(group: Sequence[Residual]) -> float | None:
    """Signed error of the sum of their joules, 1 = 100 %; ``None`` if nothing was measured."""
    return _error((r.predicted_j for r in group), (r.measured_j for r in group))


def time_error(group: Sequence[Residual]) -> float | None:
    """The same of the time without waiting."""
    busy = [r for r in group if r.phase != "idle"]
    return _error((r.predicted_s for r in busy), (r.measured_s for r in busy))


def _error(predicted: Iterable[float], measured: Iterable[float]) -> float | None:
    whole = math.fsum(measured)
    return (math.fsum(predicted) - whole) / whole if whole > 0.0 else None


def parts_of(
    phase: Phase,
    predicted: tuple[float, float],
    measured: tuple[float, float],
    point: OperatingPoint,
    achieved_hz: float,
    board: BoardModel,
) -> Parts:
    """What predicted less measured joules come from, by docs/model.md (41).

    Args:
        phase: of which.
        predicted: its seconds and joules.
        measured: likewise.
        point: that it was predicted for.
        achieved_hz: at which it ran.
        board: with which it was predicted.
    """
    (predicted_s, predicted_j), (measured_s, measured_j) = predicted, measured
    lasting = {"compute": "cycles_j", "idle": "waiting_j"}.get(phase, "rate_j")
    if min(predicted_s, measured_s, predicted_j, measured_j) <= 0.0:
        return Parts(**{lasting: predicted_j - measured_j})
    weight_j = _logarithmic_mean(predicted_j, measured_j)
    longer = math.log(predicted_s / measured_s)
    stronger = math.log(predicted_j / measured_j) - longer
    slower = weaker = 0.0
    if phase == "compute":
        planned_hz = point.frequency_hz
        planned_w, achieved_w = (
            board.idle_power_w + achieved_power_w(board.compute, point, hertz)
            for hertz in (planned_hz, achieved_hz)
        )
        slower = math.log(achieved_hz / planned_hz)
        weaker = math.log(planned_w / achieved_w)
    return Parts(
        **{
            lasting: weight_j * (longer - slower),
            "throttling_j": weight_j * (slower + weaker),
            "power_j": weight_j * (stronger - weaker),
        }
    )


def _logarithmic_mean(a: float, b: float) -> float:
    ratio = math.log(a / b)
    return a if abs(ratio) < 1e-12 else (a - b) / ratio
