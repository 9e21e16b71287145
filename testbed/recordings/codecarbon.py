"""CodeCarbon's ``emissions.csv``: one line a run, with energies and no course of the power.

Such a line gives the energy of a whole run and its mean power. It cannot say what a phase took, and
its joules are partly modelled: memory from a constant, the processor from one where no counter can
be read. A recording made of it has two rows, the beginning and the end of the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from fimi.energy.meters.replay import cells_of
from fimi.energy.timestamps import read_stamp
from fimi.testbed.recordings.recording import (
    ImportSettings,
    Recording,
    RecordingDraft,
    RecordingError,
)

_KWH_J = 3.6e6
_NEEDED = ("timestamp", "run_id", "duration", "energy_consumed")
_PARTS = ("cpu_energy", "gpu_energy", "ram_energy")


def looks_so(heading: Sequence[str]) -> bool:
    """Whether a heading is CodeCarbon's."""
    return {"run_id", "emissions", "energy_consumed"} <= set(heading)


def read(path: str, lines: Sequence[str], settings: ImportSettings) -> Recording:
    """The recording of a run.

    Raises:
        RecordingError: columns are missing, or the file has several runs and none was chosen.
    """
    draft = RecordingDraft(path, "codecarbon")
    heading: list[str] = []
    runs: dict[str, tuple[int, dict[str, str]]] = {}
    for number, line in enumerate(lines, 1):
        try:
            cells = cells_of(line)
        except ValueError as error:
            draft.leave_out(number, str(error))
            continue
        if not heading:
            heading = cells
            if missing := [name for name in _NEEDED if name not in heading]:
                raise RecordingError(f"{path}: a file of CodeCarbon has {', '.join(missing)} too")
        elif cells:
            row = dict(zip(heading, cells + [""] * len(heading), strict=False))
            if row["run_id"].strip():
                runs[row["run_id"]] = (number, row)  # a later line of a run has more of it
            else:
                draft.leave_out(number, "it has no run_id")
    if not runs:
        return draft.finish(counts=True, dated=True)
    if settings.run is None and len(runs) > 1:
        raise RecordingError(
            f"{path}: it has {len(runs)} runs, a line each. Choose one with --run:"
            + "".join(f"\n  {name}  {_brief(row)}" for name, (_, row) in runs.items())
        )
    if settings.run is not None and settings.run not in runs:
        raise RecordingError(f"{path}: no run {settings.run!r}; its runs are {', '.join(runs)}")
    number, row = runs[settings.run or next(iter(runs))]
    where = f"{path}, line {number}"
    try:
        end = read_stamp(row["timestamp"], settings.tzinfo())
        duration_s = float(row["duration"])
        energy_j = float(row["energy_consumed"]) * _KWH_J
    except (TypeError, ValueError) as error:
        raise RecordingError(f"{where}: {error}") from error
    if not duration_s > 0.0:
        raise RecordingError(f"{where}: its duration is {row['duration']} s")
    draft.add(number, end.unix_s - duration_s, 0.0)
    draft.add(number, end.unix_s, energy_j)
    draft.notes += [
        "one line a run: the energy of the whole, and nothing of its course. No phase can be "
        "metered with it",
        "CodeCarbon models what it cannot read (memory always), for the whole machine or this "
        f"process (tracking_mode {row.get('tracking_mode') or 'unknown'}); it is no measurement",
        _parts(row),
    ]
    if not end.zoned and settings.zone is None:
        draft.notes.append("its times have no zone and are taken as those of this machine")
    pue = (row.get("pue") or "1").strip()
    if pue not in ("1", "1.0"):
        draft.notes.append(f"a factor for the building, pue = {pue}, is part of the energy")
    return draft.finish(counts=True, dated=True)


def _brief(row: dict[str, str]) -> str:
    return f"{row['timestamp']}, {row['duration']} s, {row['energy_consumed']} kWh"


def _parts(row: dict[str, str]) -> str:
    told = []
    for name in _PARTS:
        try:
            told.append(f"{name.removesuffix('_energy')} {float(row[name]) * _KWH_J:.4g} J")
        except (KeyError, TypeError, ValueError):
            told.append(f"{name.removesuffix('_energy')} unknown")
    return "of it " + ", ".join(told)
