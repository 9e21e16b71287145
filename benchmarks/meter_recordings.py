"""Whether phases read seldom are within their stated uncertainty, on recordings that others made.

    python benchmarks/meter_recordings.py FOLDER [--seeds 40]

``FOLDER`` is that of ``benchmarks/presets_against_recordings.py``, which says what is in it. Each
board's recordings are read once a period at a random place in it, as the agent reads a meter of
instants, and at the edges of phases: training, inference, and the waiting before. A board's rounds
are read one after the other by the same meter. The truth is the integral at the full rate. The rule
before is trapezoids between readings, forced at the edges.

Columns: phases that the recording covers, times the seeds; how many of them are resolved, and how
many of these within 2 σ (wanted: 93 to 98 %); root mean square error of these, percent; how many of
the unresolved are below their bound; the same of the rule before, of all phases.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
from plain_integration import integrate
from presets_against_recordings import Recording, board_of, read_events, read_power

from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.sampler import places
from fimi.energy.phase_energy import PhaseMeter
from fimi.energy.phase_readings import PhaseEnergy, Stretch

RATES_HZ = (10.0, 1.0, 0.3)
_LAST_S = 0.5  # of a recording that a phase may lack


class Phase(NamedTuple):
    """A phase of a recording, and what the full rate says of it."""

    kind: str
    start_s: float
    end_s: float
    true_j: float


def phases_of(recording: Recording, events: list[tuple[str, float, float]]) -> list[Phase]:
    """The phases that a recording covers from end to end, in order."""
    first_s, last_s = recording.readings[0].time_s, recording.readings[-1].time_s
    inside = [e for e in events if first_s <= e[1] and e[2] <= last_s + _LAST_S]
    if inside and inside[0][1] - first_s > 0.5:
        inside.insert(0, ("waiting", first_s + 0.05, inside[0][1]))
    found = []
    for kind, start_s, end_s in inside:
        energy = integrate(recording.readings, start_s, end_s, recording.meter)
        if energy is not None:
            found.append(Phase(kind, start_s, end_s, energy.value_j))
    return found


def read(
    recordings: list[Recording], phases: list[list[Phase]], rate_hz: float, seed: int
) -> list[tuple[Phase, PhaseEnergy, float, float]]:
    """All phases of a board, with the joules and the deviation of the rule before."""
    meter = MeterDescription(
        source="recording", kind="measured", scope="board", rate_hz=rate_hz, noise_w=None
    )
    table, spread = PhaseMeter(meter), places(random.Random(seed))
    ended: list[tuple[Phase, Stretch, float, float]] = []
    for recording, own in zip(recordings, phases, strict=True):
        times_s = np.array([r.time_s for r in recording.readings])
        power_w = [r.power_w for r in recording.readings]

        def show(
            at_s: float, times_s: np.ndarray = times_s, power_w: list[float | None] = power_w
        ) -> Reading:
            place = max(0, int(np.searchsorted(times_s, at_s, side="right")) - 1)
            return Reading(time_s=at_s, power_w=power_w[place])

        begin_s, end_s = float(times_s[0]), float(times_s[-1])
        looks_s = [
            begin_s + (k + next(spread)) / rate_hz
            for k in range(math.floor((end_s - begin_s) * rate_hz))
        ]
        table.add([Reading(time_s=begin_s - 1e-3)])  # nothing was read between two recordings
        seen_s = begin_s
        for phase in own:
            early = [t for t in looks_s if seen_s < t < phase.start_s]
            table.add([show(t) for t in [*early, phase.start_s]])
            first = table.count
            looks = [t for t in looks_s if phase.start_s < t < phase.end_s]
            readings = [show(t) for t in [*looks, phase.end_s]]
            table.add(readings)
            stretch = Stretch(phase.kind, phase.start_s, phase.end_s, first, table.count)
            table.end(stretch)
            forced = [show(phase.start_s), *readings]
            old = integrate(forced, phase.start_s, phase.end_s, meter)
            assert old is not None
            ended.append((phase, stretch, old.value_j, old.uncertainty_j))
            seen_s = phase.end_s
        table.add([show(t) for t in [*(t for t in looks_s if t > seen_s), end_s + _LAST_S]])
    return [(phase, table.energy(stretch), *old) for phase, stretch, *old in ended]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=40)
    args = parser.parse_args()
    events = {board_of(p, "fl"): read_events(p) for p in sorted(args.folder.glob("fl_*.csv"))}
    recordings: dict[str, list[Recording]] = {}
    for path in sorted(args.folder.glob("power_*.csv")):
        recording = read_power(path)
        recordings.setdefault(recording.board, []).append(recording)
    for board, own in recordings.items():
        own.sort(key=lambda each: each.readings[0].time_s)
        phases = [phases_of(each, events[board]) for each in own]
        for rate_hz in RATES_HZ:
            rows = [row for seed in range(args.seeds) for row in read(own, phases, rate_hz, seed)]
            for kind in sorted({phase.kind for phase, *_ in rows}):
                _print(board, rate_hz, kind, [row for row in rows if row[0].kind == kind])


def _print(
    board: str, rate_hz: float, kind: str, rows: list[tuple[Phase, PhaseEnergy, float, float]]
) -> None:
    scores, errors, below, bounded = [], [], 0, 0
    for phase, found, _, _ in rows:
        if found.energy is not None and found.resolved:
            error_j = found.energy.value_j - phase.true_j
            scores.append(abs(error_j) <= 2.0 * found.energy.uncertainty_j)
            errors.append(error_j / phase.true_j)
        elif found.most_j is not None:
            bounded += 1
            below += phase.true_j <= found.most_j
    old = [abs(value_j - phase.true_j) <= 2.0 * sd_j for phase, _, value_j, sd_j in rows]
    old_errors = [value_j / phase.true_j - 1.0 for phase, _, value_j, _ in rows]
    share = f"{sum(scores):4d} of {len(scores):4d} ({np.mean(scores):6.1%})" if scores else "none"
    length_s = np.mean([phase.end_s - phase.start_s for phase, *_ in rows])
    print(
        f"{board:7s} {rate_hz:4g} Hz {kind:9s} of {length_s:4.1f} s: {len(scores):4d} of "
        f"{len(rows):4d} resolved, within 2 σ {share:22s} error "
        f"{math.sqrt(np.mean(np.square(errors))) if errors else math.nan:6.2%}, "
        f"bounds {below:3d} of {bounded:3d} | before {np.mean(old):6.1%}, "
        f"{math.sqrt(np.mean(np.square(old_errors))):6.2%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
