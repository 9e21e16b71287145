"""A round and a run as numbers with names, from the record.

A name is a path: what it is, with its unit, and for joules their kind and scope, for example
``board_energy_so_far_j/emulated/board``. So no curve mixes measured joules with emulated ones. A
number that is not known is left out; a sum with a missing part stands as ``…_known_j``, never under
the name of a whole one.

* :func:`of_round`  a round of :mod:`fimi.record.curve`
* :func:`of_run`    a run of :mod:`fimi.record.summary`
"""

from __future__ import annotations

import math

from fimi.energy.joules import Energy
from fimi.record.curve import RoundPoint
from fimi.record.summary import Summary
from fimi.record.sums import Compared, Sum

ALWAYS = "participants"
"""A figure that every round has."""


def of_round(point: RoundPoint) -> dict[str, float]:
    """The figures of a round."""
    found = {
        "accuracy": point.accuracy,
        "validation_accuracy": point.validation_accuracy,
        "loss": point.loss,
        "round_s": point.duration_s,
        "elapsed_s": point.elapsed_s,
        ALWAYS: point.participants,
        "accepted_updates": point.accepted,
        "absent_devices": point.absent,
        "predicted_energy_error_percent": point.error_percent,
        "moved_bytes": point.moved.size_bytes,
        "moved_so_far_bytes": point.moved_so_far.size_bytes,
        **_sum("board_energy", point.energy),
        **_sum("board_energy_so_far", point.energy_so_far),
        **_sum("server_energy_so_far", point.server_so_far),
        **_compared("board_energy", point.compared),
        **_compared("board_energy_so_far", point.compared_so_far),
    }
    return _finite(found)


def of_run(summary: Summary) -> dict[str, float]:
    """The figures of a whole run; names begin with ``run/``."""
    end = summary.points[-1] if summary.points else None
    found: dict[str, float | None] = {
        "rounds": len(summary.points),
        "accuracy": end.accuracy if end else None,
        "synthetic_samples": summary.synthetic_samples,
        "predicted_energy_error_percent": summary.mape_percent,
        **_sum("board_energy", summary.energy),
        **_sum("dynamic_energy", summary.dynamic),
        **_sum("server_energy", summary.server),
        **_sum("generator_energy", summary.generator),
        **_sum("all_energy", summary.total),
        **_compared("board_energy", summary.compared),
        **_compared("dynamic_energy", summary.dynamic_compared),
    }
    for price in summary.prices:
        to = f"to_accuracy_{price.target:g}"
        found[f"{to}_rounds"] = price.rounds
        if price.energy is not None:
            found |= _sum(f"{to}_board_energy", price.energy)
    return {f"run/{name}": value for name, value in _finite(found).items()}


def _sum(name: str, energy: Sum) -> dict[str, float | None]:
    """A sum of joules with its uncertainty; its known part under a name of its own."""
    if energy.value is not None:
        return _energy(name, energy.value)
    return _energy(f"{name}_known", energy.known) if energy.known is not None else {}


def _energy(name: str, energy: Energy) -> dict[str, float | None]:
    label = f"{energy.kind}/{energy.scope}"
    return {
        f"{name}_j/{label}": energy.value_j,
        f"{name}_uncertainty_j/{label}": energy.uncertainty_j,
    }


def _compared(name: str, compared: Compared) -> dict[str, float | None]:
    """The prediction of what was both predicted and metered."""
    if compared.measured is None:
        return {}
    return {
        f"{name}_predicted_j": compared.predicted_j,
        f"{name}_error_percent": compared.error_percent,
    }


def _finite(found: dict[str, float | None]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in found.items()
        if value is not None and math.isfinite(value)
    }
