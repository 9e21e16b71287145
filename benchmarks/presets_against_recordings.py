"""Presets of emulated boards held against recordings and published figures.

    python benchmarks/presets_against_recordings.py [--recordings FOLDER] [--voltages FILE]

``--recordings`` is the folder of a federation that others recorded, with one file of events a board
and any number of power recordings (github.com/sco-edge/E2FL, ``e2fl-20250328``):

* ``fl_DATE_BOARD.csv``: lines ``time,event,bytes sent,bytes received``; ``fit_init`` to ``fit_end``
  is training, ``eval_init`` to ``eval_end`` inference over a test set; before the first of them a
  board waits
* ``power_BOARD_*.csv``: ``Timestamp (s),Power (mW)``. The Raspberry Pi's columns are watts in spite
  of the heading: a recording whose median is below 0.1 W by its heading is taken for watts, because
  no board that runs Linux draws so little, and the output says so

Power is that of trapezoids over each phase, by the same integration as any meter's. A Raspberry
Pi's recordings are sums over the rails of its power controller; the whole board is
1.145 × that + 0.59 W, a published fit of a wall meter. A phase whose recording stops early counts
as far as it goes, where that is half of it or more.

Ratios are preset over recorded. ``--voltages`` is a file of operating points (``source, cluster,
frequency_hz, volt_uv``) to which both laws are fitted, P0 + κ f³ and P0 + c f + κ f³, by least
squares of relative errors of V² f; the chips of the emulation are fitted as well.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from msgspec import Struct
from plain_integration import integrate

from fimi.energy.emulation.chip import SILICON
from fimi.energy.emulation.presets import PRESETS, BoardPreset
from fimi.energy.meters import MeterDescription, Reading

PHASES = {"fit": "training", "eval": "inference"}
BOARDS = {"RPi5": "raspberry-pi-5", "jetson": "jetson-orin-nano"}
"""Boards of the recordings, as their files name them, and the presets that stand for them."""
LEAST_W = 0.1
"""A board that runs Linux draws more."""
WHOLE_BOARD = {"RPi5": (1.145, 0.59)}
"""Factor and watts from what a recording has to the whole board."""
COVERED = 0.5
"""Share of a phase that a recording must cover."""


class RecordingError(ValueError):
    """A recording cannot be read; the message says which file and line."""


class Recording(Struct, frozen=True, kw_only=True):
    """A power recording.

    Attributes:
        name: of its file.
        board: as the file names it.
        readings: in order of time, s since the epoch.
        notes: what was noticed.
    """

    name: str
    board: str
    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()

    @property
    def meter(self) -> MeterDescription:
        """What these readings come from."""
        span_s = self.readings[-1].time_s - self.readings[0].time_s
        return MeterDescription(
            source=self.name,
            kind="measured",
            scope="board",
            rate_hz=(len(self.readings) - 1) / span_s,
            resolution_w=0.0,
            relative_uncertainty=0.0,
        )


class Measured(Struct, frozen=True, kw_only=True):
    """Mean power of one phase of one recording.

    Attributes:
        board: as the files name it.
        phase: idle, training or inference.
        power_w: mean, whole board, W.
        duration_s: how long was recorded, s.
        energy_j: as recorded, before it is scaled to the whole board, J.
    """

    board: str
    phase: str
    power_w: float
    duration_s: float
    energy_j: float


class Published(Struct, frozen=True, kw_only=True):
    """A figure of others for a make.

    Attributes:
        make: a preset's name.
        state: ``idle``, ``training``, ``stress`` or ``sending`` (above idle).
        low_w: lowest reading, W.
        high_w: highest reading, W.
        what: how it was got.
        source: where it was read.
    """

    make: str
    state: str
    low_w: float
    high_w: float
    what: str
    source: str


def published(state: str, make: str, watts: Sequence[float], what: str, source: str) -> Published:
    return Published(
        make=make, state=state, low_w=min(watts), high_w=max(watts), what=what, source=source
    )


_JOULAR = "github.com/joular/powerjoular, src/raspberry_pi_cpu_formula.adb"
_CHIPWIRED = "chipwired.com/raspberry-pi-power-use"
_REVIEWS = "github.com/geerlingguy"
PUBLISHED = (
    published(
        "idle", "raspberry-pi-4", [2.2, 3.0], "two USB meters and one at the wall", _CHIPWIRED
    ),
    published(
        "idle", "raspberry-pi-4", [2.55], "0.5 A, USB meter", "github.com/iiab/iiab issue 4050"
    ),
    published("idle", "raspberry-pi-4", [2.29, 3.04], "fit at no load, 4B rev. 1.2", _JOULAR),
    published("stress", "raspberry-pi-4", [5.1, 6.3], "high load", _CHIPWIRED),
    published("stress", "raspberry-pi-4", [6.44, 6.82], "fit at full load, 4B rev. 1.2", _JOULAR),
    published(
        "idle", "raspberry-pi-5", [3.3], "0.65 A, USB meter", "github.com/iiab/iiab issue 4050"
    ),
    published("idle", "raspberry-pi-5", [4.40], "fit at no load", _JOULAR),
    published("idle", "raspberry-pi-5", [4.0, 5.0], "at the wall", f"{_REVIEWS}/pi-isp issue 6"),
    published("stress", "raspberry-pi-5", [7.86], "fit at full load", _JOULAR),
    published(
        "stress",
        "raspberry-pi-5",
        [7.9],
        "Geekbench, USB meter",
        f"{_REVIEWS}/sbc-reviews issue 21",
    ),
    published(
        "training",
        "jetson-nano",
        [4.1, 4.5],
        "rail POM_5V_IN while it infers",
        "github.com/dusty-nv/jetson-inference issue 1206",
    ),
    published("stress", "jetson-nano", [5.0, 10.0], "its two power modes", "NVIDIA, nvpmodel"),
    published("stress", "jetson-orin-nano", [7.0, 15.0], "its two power modes", "NVIDIA, nvpmodel"),
    published(
        "stress",
        "mini-pc",
        [23.5, 26.5],
        "N150 in HPL and with a language model, at the wall: a faster make than the preset",
        f"{_REVIEWS}/top500-benchmark issue 52, ai-benchmarks issue 12",
    ),
    published(
        "sending",
        "raspberry-pi-4",
        [0.6],
        "Wi-Fi in use, 0.7 W, less at rest, 0.1 W",
        "raspberrypi-5.com/questions/how-much-power-does-a-raspberry-pi-4-use",
    ),
    published(
        "sending",
        "raspberry-pi-4",
        [0.83, 1.01],
        "a chip with one antenna, always on air, 3.3 V",
        "data sheet of the ATWILC3000A",
    ),
    published(
        "sending",
        "jetson-nano",
        [0.9],
        "mt7612u, heavy less light load, 5 V",
        "github.com/morrownr/USB-WiFi, Bridged_Wireless_Access_Point.md",
    ),
)


def board_of(path: Path, prefix: str) -> str:
    """The board that a file's name has: ``power_BOARD_…``, ``fl_DATE_BOARD``."""
    parts = path.stem.split("_")
    place = {"power": 1, "fl": 2}[prefix]
    if len(parts) <= place:
        raise RecordingError(f"{path}: the name has no board; {prefix}_… was expected")
    return parts[place]


def seconds(text: str, where: str) -> float:
    """A moment, s since the epoch; local time is as good as any, because both files have it."""
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise RecordingError(f"{where}: {text!r} is no time (YYYY-MM-DD HH:MM:SS)") from None


def read_power(path: Path) -> Recording:
    """A power recording, with the unit that it has rather than the one that it claims.

    Raises:
        RecordingError: a line or the heading cannot be read, or there are too few readings.
    """
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    heading = ",".join(rows[0]) if rows else ""
    unit_w = {"(mW)": 1e-3, "(W)": 1.0}
    claimed = [factor for unit, factor in unit_w.items() if unit in heading]
    if len(claimed) != 1:
        raise RecordingError(f"{path}: heading {heading!r} has no power in W or mW")
    moments, values = [], []
    for number, row in enumerate(rows[1:], 2):
        where = f"{path}, line {number}"
        if len(row) != 2:
            raise RecordingError(f"{where}: {len(row)} values instead of time and power")
        moments.append(seconds(row[0], where))
        try:
            values.append(float(row[1]))
        except ValueError:
            raise RecordingError(f"{where}: power {row[1]!r} is no number") from None
    if len(values) < 2:
        raise RecordingError(f"{path}: {len(values)} readings; there must be two at least")
    factor, notes = claimed[0], []
    middle = statistics.median(values)
    if factor < 1.0 and middle * factor < LEAST_W:
        notes.append(
            f"{path.name}: a median of {middle:.3g} mW by its heading is no board; taken for watts"
        )
        factor = 1.0
    return Recording(
        name=path.name,
        board=board_of(path, "power"),
        readings=tuple(
            Reading(time_s=moment, power_w=value * factor)
            for moment, value in sorted(zip(moments, values, strict=True))
        ),
        notes=tuple(notes),
    )


def read_events(path: Path) -> list[tuple[str, float, float]]:
    """Phases of a file of events: name, start and end, s since the epoch, in order of time.

    Raises:
        RecordingError: a line cannot be read, or a phase ends that did not begin.
    """
    found, begun = [], {}
    with path.open(newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            where = f"{path}, line {number}"
            if len(row) < 2:
                raise RecordingError(f"{where}: {','.join(row)!r} has no time and event")
            moment, event = seconds(row[0], where), row[1].strip()
            name, _, edge = event.rpartition("_")
            if edge == "init" and name:
                begun[name] = moment
            elif edge == "end":
                if name not in begun:
                    raise RecordingError(f"{where}: {event} without {name}_init before it")
                found.append((name, begun.pop(name), moment))
    return sorted(found, key=lambda phase: phase[1])


def measured(
    recordings: Iterable[Recording], events: Mapping[str, Sequence[tuple[str, float, float]]]
) -> tuple[list[Measured], list[str]]:
    """Mean power of every phase that a recording covers, and what is worth a note.

    Args:
        recordings: of any boards.
        events: phases by board.
    """
    found, notes = [], []
    for recording in recordings:
        first_s, last_s = recording.readings[0].time_s, recording.readings[-1].time_s
        phases = [p for p in events.get(recording.board, ()) if first_s < p[2] and p[1] < last_s]
        if not phases:
            notes.append(f"{recording.name}: no phase of {recording.board} lies in it")
            continue
        waits = [("idle", first_s, phases[0][1])]
        for name, start_s, end_s in (*waits, *phases):
            covered_s = min(end_s, last_s) - max(start_s, first_s)
            if covered_s < COVERED * (end_s - start_s) or covered_s <= 0.0:
                notes.append(f"{recording.name}: {name} is hardly in it, left out")
                continue
            if covered_s < 0.99 * (end_s - start_s):
                share = covered_s / (end_s - start_s)
                notes.append(f"{recording.name}: {share:.0%} of {name} is in it")
            energy = integrate(
                recording.readings, max(start_s, first_s), min(end_s, last_s), recording.meter
            )
            if energy is None:
                notes.append(f"{recording.name}: too few readings of {name}")
                continue
            factor, extra_w = WHOLE_BOARD.get(recording.board, (1.0, 0.0))
            found.append(
                Measured(
                    board=recording.board,
                    phase=PHASES.get(name, name),
                    power_w=factor * energy.value_j / covered_s + extra_w,
                    duration_s=covered_s,
                    energy_j=energy.value_j,
                )
            )
    return found, notes


def load(folder: Path) -> tuple[list[Measured], list[str]]:
    """All recordings of a folder.

    Raises:
        RecordingError: a file cannot be read, or there is none.
    """
    powers = [read_power(path) for path in sorted(folder.glob("power_*.csv"))]
    if not powers:
        raise RecordingError(f"{folder}: no power_*.csv; give the folder of the recordings")
    events = {board_of(path, "fl"): read_events(path) for path in sorted(folder.glob("fl_*.csv"))}
    found, notes = measured(powers, events)
    return found, [note for power in powers for note in power.notes] + notes


def preset_w(preset: BoardPreset, state: str) -> float:
    """A preset's power in a state, W: of the board, or above idle while it sends."""
    radio = preset.radio
    return {
        "idle": preset.idle_power_w,
        "training": preset.training_power_w,
        "inference": preset.training_power_w,
        "stress": preset.stress_power_w,
        "sending": radio.electronics_power_w + radio.transmit_power_max_w,
    }[state]


def against_recordings(found: Sequence[Measured]) -> list[str]:
    """A table of the recordings' means, with the ratio of the preset to them."""
    lines = [
        "board   phase      recordings  seconds  joules as recorded   watts, whole board    preset"
        "  ratio"
    ]
    for board in dict.fromkeys(m.board for m in found):
        preset = PRESETS.get(BOARDS.get(board, ""))
        means = {}
        for phase in ("idle", "training", "inference"):
            of_it = [m for m in found if (m.board, m.phase) == (board, phase)]
            if not of_it:
                continue
            watts = [m.power_w for m in of_it]
            means[phase] = statistics.mean(watts)
            told = f"{preset_w(preset, phase):8.2f} {preset_w(preset, phase) / means[phase]:6.2f}"
            lines.append(
                f"{board:<7} {phase:<10} {len(of_it):10} {_range(m.duration_s for m in of_it):>8}"
                f"  {_range(m.energy_j for m in of_it):>18}   {means[phase]:5.2f} "
                f"({_range(watts, 2):>10})  {told if preset else '       –      –'}"
            )
        if preset and {"idle", "training"} <= set(means):
            more_w = means["training"] - means["idle"]
            told_w = preset.training_power_w - preset.idle_power_w
            lines.append(
                f"{board:<7} training above idle {more_w:40.2f} W {told_w:24.2f} "
                f"{told_w / more_w:6.2f}"
            )
    return lines


def _range(values: Iterable[float], digits: int = 1) -> str:
    low, high = min(known := list(values)), max(known)
    return f"{low:.{digits}f}–{high:.{digits}f}"


def against_published() -> list[str]:
    """A table of the published figures, with the ratio of the preset to their middle."""
    lines = ["make               state      published W    preset  ratio  how; source"]
    for each in PUBLISHED:
        told_w = preset_w(PRESETS[each.make], each.state)
        ratio = told_w / ((each.low_w + each.high_w) / 2.0)
        watts = f"{each.low_w:g}" + (f"–{each.high_w:g}" if each.high_w > each.low_w else "")
        lines.append(
            f"{each.make:<17}  {each.state:<9}  {watts:>11}  {told_w:8.2f}  {ratio:5.2f}  "
            f"{each.what}; {each.source}"
        )
    return lines


def law_errors(
    frequency_hz: Sequence[float], voltage_v: Sequence[float]
) -> dict[str, Sequence[float]]:
    """Mean and worst relative error of both laws, fitted to V² f, percent."""
    hertz = np.asarray(frequency_hz, float)
    power = np.asarray(voltage_v, float) ** 2 * hertz
    clock = hertz / hertz.max()
    found = {}
    for name, columns in (
        ("P0 + κ f³", [np.ones_like(clock), clock**3]),
        ("P0 + c f + κ f³", [np.ones_like(clock), clock, clock**3]),
    ):
        design = np.stack(columns, axis=1)
        fitted = np.linalg.lstsq(design / power[:, None], np.ones(len(power)), rcond=None)[0]
        off = 100.0 * np.abs(design @ fitted / power - 1.0)
        found[name] = (float(off.mean()), float(off.max()))
    return found


def clusters(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Frequencies, Hz, and voltages, V, of every cluster in a file of operating points."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            hertz, volts = found.setdefault(f"{row['source']} {row['cluster']}", ([], []))
            hertz.append(float(row["frequency_hz"]))
            volts.append(float(row["volt_uv"]) * 1e-6)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, help="folder of power_*.csv and fl_*.csv")
    parser.add_argument("--voltages", type=Path, help="CSV of frequencies and voltages")
    asked = parser.parse_args()
    if asked.recordings is not None:
        found, notes = load(asked.recordings)
        print("\n".join(against_recordings(found)))
        print("".join(f"note: {note}\n" for note in notes))
    print("\n".join(against_published()))
    tables = {
        f"emulated {name}": (list(s.frequencies_hz), list(s.voltages_v))
        for name, s in SILICON.items()
    }
    if asked.voltages is not None:
        tables = clusters(asked.voltages) | tables
    print("\nV² f fitted by a law: mean (worst) error, %")
    for name, (hertz, volts) in tables.items():
        if len(hertz) >= 4:
            errors = law_errors(hertz, volts)
            told = "   ".join(
                f"{law} {mean:5.1f} ({worst:4.1f})" for law, (mean, worst) in errors.items()
            )
            print(f"{name:<28} {told}")


if __name__ == "__main__":
    main()
