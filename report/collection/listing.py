"""Runs listed: as text for 80 columns, as CSV, as JSON.

* :func:`as_lines`  a line for each run; what all have alike is said once, above
* :func:`as_rows`   everything that is known of each, flat, for programs
* :func:`as_csv`    the same as CSV

Joules stand with their kind and scope: in the heading those of most runs, below the joules those of
the others. ``≥`` stands before joules of which a part is missing.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from fimi.energy.joules import Energy
from fimi.plural import plural
from fimi.record.catalogue import Listed
from fimi.record.clean import clean
from fimi.record.export.files import guarded
from fimi.record.headline import Headline
from fimi.report.collection.selection import BROKEN, STANDINGS, stands
from fimi.report.layout import Marked, Paper, Style, columns, fitted, table, wrap
from fimi.report.words import MISSING, joules, percent, seconds

_GAP = 2
_NAME_LEAST, _NAME_MOST = 16, 44
_STYLES: dict[str, Style] = {
    "failed": "problem", BROKEN: "problem", "interrupted": "warning", "killed": "warning",
    "running": "good",
}  # fmt: skip


class _Shown(NamedTuple):
    """A column of the table.

    Attributes:
        title: its heading; a line break stands before the unit.
        cell: its text for a run that can be read.
        once: the words for it above the table where all runs have the same; empty: never.
    """

    title: str
    cell: Callable[[Headline], str]
    once: str = ""


def as_lines(runs: Sequence[Listed], paper: Paper) -> Iterator[str]:
    """Runs as text.

    Args:
        runs: in their order.
        paper: layout.
    """
    read = [run.headline for run in runs if run.headline is not None]
    shown, same = _columns(read, several=len(runs) > 1)
    yield from _summary(runs, same, paper)
    if runs:
        yield ""
        yield from _table(runs, shown, paper)
    broken = [run for run in runs if run.headline is None]
    if broken:
        yield ""
    for run in broken:
        first, *rest = wrap(f"{clean(run.path, 200)}: {run.problem}", paper.text_width - 2)
        yield f"{paper.ink(Marked('✗', 'problem'))} {first}"
        yield from (f"  {line}" for line in rest)


def _summary(runs: Sequence[Listed], same: Sequence[str], paper: Paper) -> Iterator[str]:
    counts = {name: sum(stands(run) == name for run in runs) for name in STANDINGS}
    told = [f"{count} {name}" for name, count in counts.items() if count]
    said = plural(len(runs), "run")
    if told and told != [f"{len(runs)} completed"]:
        said += f": {', '.join(told)}"
    for line in wrap(said, paper.text_width):
        yield paper.ink(line, "title")
    if same:
        yield from wrap(f"all: {', '.join(same)}", paper.text_width)


def _columns(read: Sequence[Headline], *, several: bool) -> tuple[list[_Shown], list[str]]:
    """The columns whose cells differ, the ones that matter most first; and what is the same."""
    usual, unlike = _usual(read)
    said = f"\n{usual}" if usual else ""
    said += "\nif not said" if unlike else ""
    every = [
        _Shown("rounds", _rounds),
        _Shown("acc.\n%", lambda h: percent(h.accuracy).removesuffix(" %")),
        _Shown(f"energy{said}", lambda h: _joules(h, usual)),
        _Shown("strategy", lambda h: clean(h.strategy, 16) or MISSING, "strategy"),
        _Shown("data", lambda h: clean(h.data, 16) or MISSING, "data"),
        _Shown("devices", lambda h: str(h.devices), "devices"),
        _Shown("α", lambda h: MISSING if h.alpha is None else f"{h.alpha:g}", "α"),
        _Shown("seed", lambda h: MISSING if h.seed is None else str(h.seed), "seed"),
        _Shown("resumed", lambda h: str(h.resumed) if h.resumed else MISSING, "resumed"),
        _Shown("wall\ntime", lambda h: seconds(h.wall_s)),
    ]
    shown, same = [], []
    for column in every:
        values = {column.cell(each) for each in read}
        if column.once and several and len(values) == 1:
            value = values.pop()
            same += [f"{column.once} {value}"] if value != MISSING else []
        else:
            shown.append(column)
    return shown, same


def _rounds(run: Headline) -> str:
    return f"{run.rounds}/{run.rounds_asked}" if run.rounds_asked is not None else str(run.rounds)


def _usual(read: Sequence[Headline]) -> tuple[str, bool]:
    """Kind and scope of the joules of most runs, and whether any has others."""
    found = Counter(_kind(each.energy) for each in read if each.energy is not None)
    return (found.most_common(1)[0][0], len(found) > 1) if found else ("", False)


def _kind(energy: Energy) -> str:
    return f"{energy.kind}, {energy.scope}"


def _joules(run: Headline, usual: str) -> str:
    """Joules, and below them what they are where that is not the usual."""
    if run.energy is None:
        return "unknown" if run.rounds else MISSING
    told = ("" if run.whole else "≥ ") + joules(run.energy.value_j)
    kind = _kind(run.energy)
    return told if kind == usual else f"{told}\n{kind}"


def _table(runs: Sequence[Listed], shown: Sequence[_Shown], paper: Paper) -> Iterator[str]:
    """The table; below it the titles of columns that did not fit."""
    names = [clean(run.name, 200) for run in runs]
    kept = [*map(_standing, runs)]
    longest = min(max(map(columns, names)), _NAME_MOST)
    began = [_began(run, "%Y-%m-%d %H:%M") for run in runs]
    status_width = max(6, *map(columns, kept))
    room = paper.width - _GAP - status_width - min(longest, max(_NAME_LEAST, paper.width // 4))
    title = "began"
    if room - _GAP - max(map(columns, began)) < paper.width // 2:
        title, began = _short(runs)
    room -= _GAP + max(*map(columns, began), *map(columns, title.split("\n")))
    parts: list[tuple[str, list[str]]] = [(title, began)]
    left_out = []
    for column in shown:
        texts = [column.cell(run.headline) if run.headline else "" for run in runs]
        lines = [line for cell in (column.title, *texts) for line in cell.split("\n")]
        if (width := max(map(columns, lines)) + _GAP) > room:
            left_out.append(column.title.split("\n")[0])
            continue
        room -= width
        parts.append((column.title, texts))
    width = max(_NAME_LEAST, min(longest, paper.width // 4 + room))
    rows = [
        [_ended(name, width), *(texts[k] for _, texts in parts), kept[k]]
        for k, name in enumerate(names)
    ]
    heads = ["run", *(head for head, _ in parts), "status"]
    yield from table(heads, rows, paper=paper).split("\n")
    if left_out:
        yield ""
        yield from wrap(
            f"in a wider terminal, and with --format csv: {', '.join(left_out)}", paper.text_width
        )


def _short(runs: Sequence[Listed]) -> tuple[str, list[str]]:
    """When runs began in few columns: what is the same of all stands in the heading alone."""
    for once, each in (("%Y-%m-%d", "%H:%M"), ("%Y", "%m-%d")):
        known = {_began(run, once) for run in runs} - {""}
        if len(runs) > 1 and len(known) == 1:
            return f"began\n{known.pop()}", [_began(run, each) for run in runs]
    return "began", [_began(run, "%Y-%m-%d") for run in runs]


def _began(run: Listed, form: str) -> str:
    """When a run began; nothing where that cannot be read."""
    return f"{run.began:{form}}" if run.headline else ""


def _ended(name: str, width: int) -> str:
    """A name cut in its middle: its end tells runs apart."""
    if columns(name) <= width:
        return name
    half = (width - 1) // 2
    tail = name[-(width - 1 - half) :]
    return fitted(name, half + 1) + tail


def _standing(run: Listed) -> str:
    word = stands(run)
    if run.headline is not None and run.headline.paused:
        return Marked(f"{word}, paused", "warning")
    return Marked(word, _STYLES[word]) if word in _STYLES else word


def as_rows(runs: Sequence[Listed]) -> list[dict[str, Any]]:
    """Everything that is known of each run; ``None`` where it is not known."""
    return [_row(run) for run in runs]


def _row(run: Listed) -> dict[str, Any]:
    found = run.headline
    energy = found.energy if found else None
    return {
        "path": str(run.path),
        "run": found.run if found else run.name,
        "experiment": run.experiment or None,
        "status": stands(run),
        "strategy": found.strategy or None if found else None,
        "data": found.data or None if found else None,
        "alpha": found.alpha if found else None,
        "seed": found.seed if found else None,
        "devices": found.devices if found else None,
        "rounds": found.rounds if found else None,
        "rounds_asked": found.rounds_asked if found else None,
        "accuracy": found.accuracy if found else None,
        **_energy(energy, whole=found is not None and found.whole),
        "resumed": found.resumed if found else None,
        "began": run.began.isoformat() if found else None,
        "finished_at": found.finished_at or None if found else None,
        "wall_s": found.wall_s if found else None,
        "command": found.command or None if found else None,
        "reason": clean(found.reason, 500) or None if found else None,
        "problem": run.problem or None,
        "paused": found.paused if found else None,
    }


def _energy(energy: Energy | None, *, whole: bool) -> dict[str, Any]:
    """Joules with what they are; ``energy_j`` is unknown where a part of the sum is missing."""
    return {
        "energy_j": energy.value_j if energy and whole else None,
        "energy_known_j": energy.value_j if energy else None,
        "energy_kind": energy.kind if energy else None,
        "energy_scope": energy.scope if energy else None,
        "energy_source": energy.source if energy else None,
        "energy_uncertainty_j": energy.uncertainty_j if energy else None,
    }


def as_csv(runs: Sequence[Listed]) -> str:
    """One line per run; an empty cell is not known, and no cell is a formula."""
    out = io.StringIO()
    nobody = Listed(path=Path(), name="", experiment="", began=datetime.fromtimestamp(0))
    writer = csv.DictWriter(out, list(_row(nobody)), lineterminator="\n")
    writer.writeheader()
    for row in as_rows(runs):
        writer.writerow({k: guarded(v) if isinstance(v, str) else v for k, v in row.items()})
    return out.getvalue()
