"""Reading a recording of whatever format, and writing it as one of fimi."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from fimi.files import write_whole
from fimi.testbed.recordings import codecarbon, table, tegrastats
from fimi.testbed.recordings.recording import ImportSettings, Recording, RecordingError

_STEP_S = 1e-3
"""How long a power that holds takes to the next one in what is written, s."""


def read(path: Path, form: str = "auto", settings: ImportSettings | None = None) -> Recording:
    """Read a file.

    Args:
        path: of the file.
        form: what wrote it: ``tegrastats``, ``csv``, ``jtop``, ``codecarbon``; ``auto`` looks.
        settings: what the user says about it.

    Raises:
        RecordingError: it cannot be read or imported; names file and line.
    """
    settings = settings or ImportSettings()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecordingError(
            f"{path}: is no text in UTF-8 (byte {error.start}); it cannot be imported"
        ) from error
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise RecordingError(f"{path}: is empty")
    if form == "auto":
        form = _form(str(path), lines)
    if form == "tegrastats":
        return tegrastats.read(str(path), lines, settings)
    if form == "codecarbon":
        return codecarbon.read(str(path), lines, settings)
    return table.read(str(path), lines, settings, jtop=form == "jtop")


def write(recording: Recording, path: Path) -> None:
    """Write what ``replay`` of a profile reads: ``time_s`` and ``power_w`` or ``energy_j``.

    A power that holds has a second row just before the next one; a hole is a row without a value.

    Raises:
        OSError: it cannot be written; what was there before is untouched.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("time_s", "energy_j" if recording.counts else "power_w"))
    for place, (time_s, value) in enumerate(zip(recording.times_s, recording.values, strict=True)):
        writer.writerow((f"{time_s:.6f}", repr(value)))
        next_s = recording.times_s[place + 1] if place + 1 < len(recording.times_s) else time_s
        if place in recording.holes:
            writer.writerow((f"{(time_s + next_s) / 2.0:.6f}", ""))
        elif recording.holds and next_s - time_s > 2.0 * _STEP_S:
            writer.writerow((f"{next_s - _STEP_S:.6f}", repr(value)))
    write_whole(path, out.getvalue())


def _form(path: str, lines: list[str]) -> str:
    if tegrastats.looks_so(lines):
        return "tegrastats"
    heading, _ = table.heading_of(path, lines)
    if codecarbon.looks_so(heading):
        return "codecarbon"
    return "jtop" if table.is_jtop(heading) else "csv"
