"""What second meters say beside the first ones, as sentences and as a table.

* :func:`second_lines`   one line per device, for the terminal
* :func:`second_table`   one row per device and phase, for the page
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fimi.energy.joules import Energy
from fimi.record.clean import clean
from fimi.record.second import BothMeters, SecondMeter
from fimi.record.summary import DeviceSummary, Summary
from fimi.report import plot_style
from fimi.report.markup import Column, Html, table
from fimi.report.words import MISSING, cell, joules

_SURE = 2.0


class _Row(NamedTuple):
    device: DeviceSummary
    both: BothMeters


def second_lines(summary: Summary) -> list[tuple[str, str]]:
    """What each second meter says of the whole run."""
    return [
        ("second meter", f"{row.device}: {_words(row.second)}")
        for row in summary.devices
        if row.second is not None
    ]


def _words(second: SecondMeter) -> str:
    both = second.whole
    said = (
        f"{clean(both.second.source, 80)} reads {_energy(both.second)}, "
        f"{clean(both.first.source, 80)} {_energy(both.first)} of the same phases"
    )
    if both.gain is not None:
        said += f": {_gain(both)} times as much, {_judged(both)}"
    if second.missing:
        missing = "1 stretch was" if second.missing == 1 else f"{second.missing} stretches were"
        said += f"; {missing} not metered by both"
    return said


def _judged(both: BothMeters) -> str:
    if both.first.scope != both.second.scope:
        return f"of the {both.second.scope} and of the {both.first.scope}"
    agree = abs((both.gain or 0.0) - 1.0) <= _SURE * (both.gain_sd or 0.0)
    return "within their uncertainties" if agree else "more apart than they are uncertain"


def _energy(energy: Energy) -> str:
    sigma = joules(energy.uncertainty_j)
    return f"{joules(energy.value_j)} ± {sigma} ({energy.kind}, {energy.scope})"


def _gain(both: BothMeters) -> str:
    """The second over the first with its uncertainty."""
    if both.gain is None or both.gain_sd is None:
        return MISSING if both.phase is None else "not told by both"
    digits = min(6, max(0, 1 - math.floor(math.log10(both.gain_sd)))) if both.gain_sd else 3
    return f"{both.gain:.{digits}f} ± {both.gain_sd:.{digits}f}"


def second_table(summary: Summary) -> Html | None:
    """One row per device and phase; nothing where no device has a second meter."""
    rows = [
        _Row(device, both)
        for device in summary.devices
        if device.second is not None
        for both in (*device.second.phases, device.second.whole)
    ]
    if not rows:
        return None
    columns: list[Column[_Row]] = [
        Column("Device", "", lambda r: r.device.device, "name"),
        Column("Phase", "", lambda r: _phase(r.both), "text"),
        Column("First meter", "", lambda r: clean(r.both.first.source, 80), "name"),
        Column("First meter", "energy", lambda r: cell(r.both.first, bare=False)),
        Column("Second meter", "", lambda r: clean(r.both.second.source, 80), "name"),
        Column("Second meter", "energy", lambda r: cell(r.both.second, bare=False)),
        Column("Second over first", "", lambda r: _gain(r.both)),
        Column("Stretches", "", lambda r: str(r.both.count)),
    ]
    return table(columns, rows, caption="Second meters, in no sum")


def _phase(both: BothMeters) -> str:
    return "all" if both.phase is None else plot_style.PHASE_NAMES.get(both.phase, both.phase)
