"""tegrastats of NVIDIA Jetson: one line every interval, JetPack 4 to 7.

=========  ============================================================================
JetPack    what a line looks like
=========  ============================================================================
4          no time, no unit: ``RAM … VDD_IN 5297/5297 VDD_SYS_CPU 1917/1917``
5 and 6    ``05-15-2025 18:30:28 RAM … VDD_IN 17946mW/15710mW VDD_SOC 3923mW/3515mW``
7          the same; on Thor ``VDD_GPU … VDD_CPU_SOC_MSS … VIN_SYS_5V0 …``, and ``VIN``, the
           input of the whole developer kit
=========  ============================================================================

Of the two numbers of a rail, the first is of now and the second the mean since tegrastats began,
in mW. Which rails are a module is known by one table, that of the live meter
(:data:`fimi.energy.meters.ina3221.TOTALS`). ``VIN`` is not in it: it is another chip, an INA238 of
the carrier board, which the live meter reads as ``hwmon:ina238``, and prefers as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fimi.energy.meters.ina3221 import TOTALS
from fimi.energy.timestamps import Stamp, read_stamp
from fimi.testbed.recordings.recording import (
    ImportSettings,
    Recording,
    RecordingDraft,
    RecordingError,
)

WHOLE = (("VIN",), *TOTALS)
"""Rails that add up to a module or more; the first row that matches is used."""

_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?\d+)(?:mW)?/(-?\d+)(?:mW)?(?!\S)")
_TIME = re.compile(r"^(\d\d[-/]\d\d[-/]\d{4} \d\d:\d\d:\d\d(?:\.\d+)?)\s")
_OTHER = ("RAM", "SWAP", "IRAM")


def looks_so(lines: Sequence[str]) -> bool:
    """Whether a file is of tegrastats, by its first lines."""
    first = [line for line in lines if line.strip()][:5]
    return any("RAM " in line and ("CPU [" in line or _rails(line)) for line in first)


def read(path: str, lines: Sequence[str], settings: ImportSettings) -> Recording:
    """The recording of a file.

    Raises:
        RecordingError: no line has the power, it is not known which rails are the whole module, or
            lines have no times and the interval was not given.
    """
    draft = RecordingDraft(path, "tegrastats")
    chosen = _choose(path, lines, settings.rails)
    zone = settings.tzinfo()
    written = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    rows: list[tuple[int, Stamp | None, float]] = []
    for number, line in written:
        rails = _rails(line)
        missing = [name for name in chosen if name not in rails]
        if missing:
            draft.leave_out(number, f"it has no {' and no '.join(missing)}")
            continue
        found = _TIME.match(line)
        try:
            stamp = read_stamp(found[1], zone) if found else None
        except ValueError as error:
            draft.leave_out(number, str(error))
            continue
        rows.append((number, stamp, sum(rails[name] for name in chosen) * 1e-3))
    dated = [(number, stamp, power_w) for number, stamp, power_w in rows if stamp is not None]
    if dated:
        for number, stamp, _ in rows:
            if stamp is None:
                draft.leave_out(number, "it has no time, and other lines have one")
        draft.add_dated(dated)
    else:
        ticks = {number: tick for tick, (number, _) in enumerate(written)}
        _add_undated(path, draft, rows, ticks, settings.interval_s)
    draft.notes.append(f"power is {' + '.join(chosen)}")
    if dated and settings.zone is None:
        draft.notes.append("its times have no zone and are taken as those of this machine")
    return draft.finish(counts=False, dated=bool(dated), holds=settings.holds)


def _rails(line: str) -> dict[str, int]:
    """Power of now of each rail, mW."""
    return {name: int(now) for name, now, _ in _RAIL.findall(line) if name not in _OTHER}


def _choose(path: str, lines: Sequence[str], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The rails to add up."""
    seen: dict[str, int] = {}
    for line in lines:
        for name in _rails(line):
            seen[name] = seen.get(name, 0) + 1
    if not seen:
        raise RecordingError(
            f"{path}: no line shows the power of a rail (such as VDD_IN 5297mW/5297mW). "
            "tegrastats shows it on modules that have a power monitor, as root on some"
        )
    for row in (wanted,) if wanted else WHOLE:
        if all(name in seen for name in row):
            return row
    there = ", ".join(seen)
    if wanted:
        raise RecordingError(f"{path}: --rail {'+'.join(wanted)}: its rails are {there}")
    raise RecordingError(
        f"{path}: its rails are {there}, and it is not known which of them add up to the whole "
        "module: adding rails that contain each other would count twice. Say it: --rail NAME, or "
        "--rail NAME+NAME"
    )


def _add_undated(
    path: str,
    draft: RecordingDraft,
    rows: list[tuple[int, Stamp | None, float]],
    ticks: dict[int, int],
    interval_s: float | None,
) -> None:
    """Add rows without times; ``ticks`` are the places of lines among those that are not blank."""
    if interval_s is None:
        raise RecordingError(
            f"{path}: its lines have no times, as tegrastats of JetPack 4 writes them. Say the "
            "time between two lines: --interval 1 is tegrastats' default, 0.1 is 'tegrastats "
            "--interval 100'"
        )
    for number, _, power_w in rows:
        draft.add(number, (ticks[number] - ticks[rows[0][0]]) * interval_s, power_w)
    draft.notes.append(f"one line every {interval_s:g} s, as you said; the file has no times")
