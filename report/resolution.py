"""How the figures of phases were made, and what the boards draw at rest.

Both are found in :mod:`fimi.record.resolution`.

* :func:`figures_table`  phases that their meter could not tell apart, one row per device and phase
* :func:`resting_table`  resting power of each device
* :func:`lines`          both for the terminal, as far as there is something to say
* :func:`told_by`        how a phase's energy was told, in words
"""

from __future__ import annotations

from fimi.record.phases import PhaseCell
from fimi.record.resolution import RestFigure
from fimi.record.summary import Summary
from fimi.report import plot_style
from fimi.report.markup import Column, Html, table
from fimi.report.words import MISSING, alike, heading, joules, plus_minus, rounds_in_number

ROUNDS_MAX = 1000
"""A regression that needs more rounds is not promised."""
_SHORT_S = 1e-3


def told_by(cell: PhaseCell) -> str:
    """``direct``, ``regression``, or ``not resolved: at most 3.10 J (measured)``."""
    if "unresolved" not in cell.hows:
        return " and ".join(cell.hows) or MISSING
    said = "in part not resolved" if len(cell.hows) > 1 else "not resolved"
    if cell.most_j is not None:
        said += f": at most {joules(cell.most_j)} ({_meter_kind(cell)})"
    if cell.rounds_needed is not None and cell.rounds_needed <= ROUNDS_MAX:
        said += f"; {rounds_in_number(cell.rounds_needed)} or so would tell it"
    return said


def _meter_kind(cell: PhaseCell) -> str:
    """The kind of what readings show at most; that of the phase's other joules."""
    known = cell.energy.known
    return known.kind if known is not None else "by its meter"


def _unlike(summary: Summary) -> list[PhaseCell]:
    """The phases of devices that are not all metered directly."""
    return [cell for cell in summary.cells if cell.hows not in ((), ("direct",))]


def figures_table(summary: Summary) -> Html | None:
    """How each figure was made that is not direct; ``None`` if there is none."""
    found = _unlike(summary)
    if not found:
        return None
    columns: list[Column[PhaseCell]] = [
        Column("Device", "", lambda c: c.device, "text"),
        Column("Phase", "", lambda c: plot_style.PHASE_NAMES.get(c.phase, c.phase), "text"),
        Column("Energy", "", lambda c: plus_minus(c.energy.value) if c.energy.value else MISSING),
        Column("Told by", "", told_by, "text"),
        Column("Mean length", "metered", lambda c: _seconds(c.measured_s)),
    ]
    return table(columns, found)


def _seconds(value_s: float | None) -> str:
    return MISSING if value_s is None else f"{value_s:#.3g} s"


def resting_table(summary: Summary) -> Html | None:
    """What each device draws at rest; ``None`` where nothing was measured."""
    rows = [(name, rest) for name, rest in sorted(summary.resting.items())]
    if not any(rest.count for _, rest in rows):
        return None
    meters = {device.device: device.energy.known for device in summary.devices}
    known = [meters.get(name) for name, rest in rows if rest.count]
    bare = alike(known)

    def watts(name: str, rest: RestFigure) -> str:
        energy = meters.get(name) if rest.count else None
        return _watts(rest) + (
            "" if bare or energy is None else f" ({energy.kind}, {energy.scope})"
        )

    columns: list[Column[tuple[str, RestFigure]]] = [
        Column("Device", "", lambda r: r[0], "text"),
        Column("Resting power", heading(known), lambda r: watts(*r)),
        Column("Drift", "", lambda r: _drift(r[1])),
        Column("Measured", "", lambda r: _times(r[1].count), "text"),
    ]
    return table(columns, rows)


def _watts(rest: RestFigure) -> str:
    return f"{rest.power_w:#.3g} ± {rest.uncertainty_w:.2g} W"


def _times(count: int) -> str:
    return {0: "no", 1: "once"}.get(count, f"{count} times")


def _drift(rest: RestFigure) -> str:
    if rest.count < 3:
        return MISSING
    return f"{rest.drift_w_per_h:+.2g} W/h".replace("-", "−")


def lines(summary: Summary) -> list[tuple[str, str]]:
    """Which phases of which devices are not metered directly."""
    of_device: dict[str, list[str]] = {}
    for cell in _unlike(summary):
        if cell.measured_s is not None and cell.measured_s < _SHORT_S:
            continue  # nobody asks for it
        said = f"{cell.phase} {told_by(cell)}"
        if cell.energy.value is not None:
            said += f", {plus_minus(cell.energy.value)}"
        of_device.setdefault(cell.device, []).append(said)
    return [("resolution", f"{device}: {'; '.join(s)}") for device, s in of_device.items()]
