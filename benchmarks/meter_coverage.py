"""Whether the joules of phases are as certain as they say, for every family of meters.

Emulated meters (:class:`fimi.energy.emulation.late_meter.LateMeter`) look at powers whose integral
is known exactly. A round is download, compute, upload and a rest of two seconds or more; the first
three have the length that the table names, ± 20 %. Every run is one meter with a gain of its own
(1 ± 0.01), and has five rounds.

Powers: ``noise``, constant with 10 % of fast noise; ``ou 0.1``, ``ou 0.5`` and ``ou 5``, one that
wanders by 10 % (Ornstein-Uhlenbeck) with that correlation time in seconds; ``bursts`` of + 80 %
that last 20 to 120 ms and come every 0.4 s on average; ``ramp``, 0.3 s from the power before to
that of the phase; ``drift``, ± 15 % over two minutes.

``phases``   per family and length: share of phases resolved; share of these within 2 σ of the truth
             (wanted: 93 to 98 %), and the least of any power; mean error over σ (wanted: below
             0.5), and for all powers; root mean square of it; share of unresolved phases whose
             bound holds. Beside these, the rule before: trapezoids between readings that were
             forced at the edges, share within 2 σ and root mean square error of both in percent
``powers``   20 rounds of 4 s of compute and 2 s of upload (and of a quarter of it) through meters
             that are late: error of regression, percent, and what it says of itself
``dynamic``  dynamic energy of such runs: how many within 2 σ, and the error in percent. The
             rule before subtracts the power of rests, metered over all of them

    python benchmarks/meter_coverage.py [phases] [powers] [dynamic] [--runs 6] [--family NAME]
                                        [--length SECONDS] [--power NAME]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from plain_integration import integrate

from fimi.energy import resting
from fimi.energy.clock import VirtualClock
from fimi.energy.emulation.late_meter import LateMeter
from fimi.energy.joules import Energy, total
from fimi.energy.ledger import Ledger, PhaseRecord
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import MeterResponse
from fimi.energy.phase_powers import PowerEquations, solve
from fimi.record.resolution import PRECISE, DeviceMetering, above_rest
from fimi.record.sums import EnergyPart

Array = NDArray[np.float64]

GAIN_SD = 0.01
REST_W = 3.0
BASE_W = {"model-download": 3.6, "compute": 5.5, "upload": 4.4, "idle": REST_W}
LENGTHS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
STEP_S = 0.02
AT_WORK = ("compute", "upload")


def _meter(rate_hz: float, step_w: float = 0.0, **response: float) -> MeterDescription:
    return MeterDescription(
        source="m:1",
        kind="emulated",
        scope="board",
        rate_hz=rate_hz,
        resolution_w=step_w,
        relative_uncertainty=GAIN_SD,
        response=MeterResponse(**response),
    )


def _counter(rate_hz: float, step_j: float = 0.0) -> MeterDescription:
    return MeterDescription(
        source="m:1",
        kind="emulated",
        scope="board",
        rate_hz=rate_hz,
        counts=True,
        resolution_j=step_j,
        relative_uncertainty=GAIN_SD,
        response=MeterResponse(refresh_s=1.0 / rate_hz),
    )


FAMILIES = {
    "counter 1 ms": _counter(1000.0, 6.1e-5),
    "counter 100 ms": _counter(10.0, 1e-3),
    "instants": _meter(10.0, 0.02),
    "averaging 10 Hz": _meter(10.0, 0.02, window_s=0.1, refresh_s=0.1),
    "averaging 27 Hz": _meter(27.0, 0.02, window_s=0.036, refresh_s=0.036),
    "plug 1 s, lag 1 s": _meter(1.0, 0.1, delay_s=0.5, refresh_s=1.0),
    "plug 1 s, lag 2 s": _meter(1.0, 0.1, delay_s=1.0, window_s=1.0, refresh_s=1.0),
    "plug 3 s, lag 4 s": _meter(1.0, 1.0, delay_s=2.5, refresh_s=3.0),
    "plug, lag uncertain": _meter(
        1.0, 0.1, delay_s=2.0, window_s=1.0, refresh_s=1.0, delay_sd_s=0.5
    ),
    "battery 2 s": _meter(1.0, 0.1, refresh_s=2.0),
    "battery 10 s": _meter(1.0, 0.1, window_s=10.0, refresh_s=10.0),
}
"""Lag is what a step of power takes to be seen on average: the delay and half of the kernel."""
POWERS = ("noise", "ou 0.1", "ou 0.5", "ou 5", "bursts", "ramp", "drift")


class Power:
    """A board's power, phase after phase, in steps of about 20 ms."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        self._name, self._rng = name, rng
        self._state, self._at_s, self._last_w = rng.normal(), rng.uniform(0.0, 120.0), REST_W
        self._burst_s, self._quiet_s = 0.0, rng.exponential(0.4)

    def phase(self, kind: str, seconds: float) -> Iterator[tuple[float, float]]:
        """Durations and powers."""
        rng, base_w, left_s = self._rng, BASE_W[kind], seconds
        since_s = 0.0
        while left_s > 1e-9:
            step_s = min(left_s, STEP_S * rng.uniform(0.5, 1.5))
            power_w = base_w if kind == "idle" else base_w * self._factor(step_s)
            if self._name == "ramp" and kind != "idle":
                risen = min(1.0, (since_s + step_s / 2.0) / 0.3)
                power_w = self._last_w + (base_w - self._last_w) * risen
            yield step_s, max(0.1, power_w)
            left_s, since_s = left_s - step_s, since_s + step_s
            self._at_s += step_s
        self._last_w = power_w

    def _factor(self, step_s: float) -> float:
        rng, name = self._rng, self._name
        if name == "noise":
            return 1.0 + 0.1 * rng.normal()
        if name.startswith("ou"):
            kept = math.exp(-step_s / float(name.split()[1]))
            self._state = kept * self._state + math.sqrt(1.0 - kept * kept) * rng.normal()
            return 1.0 + 0.1 * self._state
        if name == "drift":
            return 1.0 + 0.15 * math.sin(2.0 * math.pi * self._at_s / 120.0)
        if name == "bursts":
            self._quiet_s -= step_s
            if self._quiet_s < 0.0:
                self._burst_s, self._quiet_s = rng.uniform(0.02, 0.12), rng.exponential(0.4)
            self._burst_s -= step_s
            return 1.8 if self._burst_s > 0.0 else 1.0
        return 1.0


class Phase(NamedTuple):
    """A phase as it was metered, by the rule before, and in truth."""

    record: PhaseRecord
    before: Energy | None
    true_j: float


class Run(NamedTuple):
    """What one meter has seen of one run."""

    phases: list[Phase]
    equations: list[PowerEquations]
    rests: list[resting.Resting]


class _Watched:
    """A recorder that keeps the readings of each phase, for the rule before."""

    def __init__(self, meter: LateMeter) -> None:
        self.meter = meter
        self.readings: list[Reading] = []

    def describe(self) -> MeterDescription:
        return self.meter.describe()

    def mark(self) -> list[Reading]:
        self.readings = self.meter.mark()
        return self.readings


def simulate(
    family: str,
    power: str,
    seed: int,
    *,
    runs: int,
    rounds: int,
    lengths_s: dict[str, float],
    rest_s: tuple[float, float] = (2.0, 3.0),
    baseline: bool = False,
) -> Run:
    """A run of one meter; phases are of these lengths, ± 20 %.

    Gains of all powers' runs are spread evenly over their distribution: no luck in a few runs.
    """
    rng = np.random.default_rng([seed, list(FAMILIES).index(family), POWERS.index(power)])
    place = (seed * len(POWERS) + POWERS.index(power) + 0.5) / (runs * len(POWERS))
    gain = statistics.NormalDist(1.0, GAIN_SD).inv_cdf(place)
    clock, described = VirtualClock(0.0), FAMILIES[family]
    true_delay_s = described.response.delay_s + rng.normal(0.0, described.response.delay_sd_s)
    shown = MeterDescription(
        **{
            name: getattr(described, name)
            for name in described.__struct_fields__
            if name != "response"
        },
        response=MeterResponse(
            delay_s=max(0.0, true_delay_s),
            window_s=described.response.window_s,
            refresh_s=described.response.refresh_s,
        ),
    )
    meter = LateMeter(
        shown,
        noise_w=0.02,
        gain=gain,
        resting_power_w=REST_W,
        clock=clock,
        relative_noise=0.005,
        refresh_from_s=rng.uniform(-10.0, 0.0),
    )
    meter.reseed(rng)
    watched = _Watched(meter)
    watched.describe = lambda: described  # type: ignore[method-assign]
    ledger, load = Ledger(clock, watched), Power(power, rng)
    found, equations, rests = {}, [], []
    truths: list[tuple[float, Energy | None]] = []

    def take(number: int) -> None:
        for records in ledger.corrections().values():
            found.update((record.start_s, record) for record in records)
        found.update((record.start_s, record) for record in ledger.take(number))
        evidence = ledger.take_evidence()
        if evidence is not None:
            rests.extend(evidence.rests)
            if evidence.powers is not None:
                equations.append(evidence.powers)

    wait_s = resting.enough_s(described)
    if baseline:
        with ledger.resting("before"):
            meter.observe(wait_s, REST_W)
    for number in range(1, rounds + 1):
        for kind in BASE_W:
            seconds = rng.uniform(*rest_s) if kind == "idle" else lengths_s[kind]
            seconds *= 1.0 if kind == "idle" else rng.uniform(0.8, 1.2)
            ledger.begin(kind)  # type: ignore[arg-type]
            start_s, before_j = clock.now_s(), meter.true_energy_j
            for step_s, power_w in load.phase(kind, seconds):
                meter.observe(step_s, power_w)
            ledger.end()
            old = integrate(watched.readings, start_s, clock.now_s(), described)
            truths.append((meter.true_energy_j - before_j, old))
        take(number)
    with ledger.resting("after"):
        meter.observe(max(wait_s, 30.0), REST_W)
    take(rounds + 1)
    records = [found[start_s] for start_s in sorted(found)]
    phases = [Phase(r, old, true_j) for r, (true_j, old) in zip(records, truths, strict=True)]
    return Run(phases, equations, rests)


def within(energy: Energy, true_j: float) -> float:
    """Error over σ."""
    return (energy.value_j - true_j) / max(energy.uncertainty_j, 1e-12)


def phases(
    families: Sequence[str], lengths_s: Sequence[float], powers: Sequence[str], runs: int
) -> None:
    print(
        f"{'family':20s} {'length':>6s} {'resolved':>8s} {'2 σ':>6s} {'least':>13s} {'bias/σ':>6s}"
        f" {'worst':>14s} {'rms/σ':>5s} {'bounds':>9s} | {'before 2 σ':>10s} {'error':>6s}"
        f" {'before':>6s}"
    )
    for family in families:
        for length_s in lengths_s:
            scores: dict[str, list[float]] = defaultdict(list)
            olds: list[float] = []
            errors: list[float] = []
            old_errors: list[float] = []
            bounds: list[bool] = []
            count = 0
            for power in powers:
                for seed in range(runs):
                    lengths = dict.fromkeys(("model-download", *AT_WORK), length_s)
                    run = simulate(family, power, seed, runs=runs, rounds=5, lengths_s=lengths)
                    for record, old, true_j in run.phases:
                        if record.phase == "idle":
                            continue
                        count += 1
                        if old is not None:
                            olds.append(within(old, true_j))
                            old_errors.append(old.value_j / true_j - 1.0)
                        if record.energy is not None and record.resolved:
                            scores[power].append(within(record.energy, true_j))
                            errors.append(record.energy.value_j / true_j - 1.0)
                        elif record.most_j is not None:
                            bounds.append(true_j <= record.most_j)
            flat = np.array([z for each in scores.values() for z in each])
            line = f"{family:20s} {length_s:6.2f} {len(flat) / count:8.0%}"
            if len(flat):
                covered = {
                    p: float(np.mean(np.abs(z) <= 2.0)) for p, z in scores.items() if len(z) > 20
                }
                biases = {p: float(np.mean(z)) for p, z in scores.items() if len(z) > 20}
                least = min(covered, key=covered.__getitem__, default="")
                worst = max(biases, key=lambda p: abs(biases[p]), default="")
                line += f" {np.mean(np.abs(flat) <= 2.0):6.1%}"
                line += f" {covered.get(least, math.nan):6.1%} {least:6s}"
                line += f" {np.mean(flat):+6.2f} {biases.get(worst, math.nan):+6.2f} {worst:7s}"
                line += f" {np.sqrt(np.mean(flat**2)):5.2f}"
            else:
                line += " " * 49
            line += f" {sum(bounds):4d}/{len(bounds):4d}" if bounds else " " * 10
            old_covered = np.mean(np.abs(olds) <= 2.0) if olds else math.nan
            line += f" | {old_covered:10.1%} {_rms(errors):6.1%} {_rms(old_errors):6.1%}"
            print(line, flush=True)


def powers_and_dynamic(
    families: Sequence[str], powers: Sequence[str], runs: int, *, dynamic: bool
) -> None:
    for family in families:
        if not dynamic and not FAMILIES[family].response.settling_s:
            continue
        for shrink in (1.0, 0.25):
            lengths = {"model-download": 0.5, "compute": 4.0 * shrink, "upload": 2.0 * shrink}
            seen = [
                simulate(
                    family,
                    power,
                    seed,
                    runs=runs,
                    rounds=20,
                    lengths_s=lengths,
                    rest_s=(1.0, 6.0),
                    baseline=True,
                )
                for power in powers
                for seed in range(runs)
            ]
            name = f"{family:20s} {lengths['compute']:.1f}/{lengths['upload']:.1f} s"
            if dynamic:
                _print_dynamic(name, seen)
                continue
            for kind in AT_WORK:
                _print_powers(name, kind, seen)


def _print_powers(name: str, kind: str, runs: Sequence[Run]) -> None:
    errors, stated, old = [], [], []
    for run in runs:
        same = [p for p in run.phases if p.record.phase == kind]
        true_j, seconds = (
            math.fsum(p.true_j for p in same),
            math.fsum(p.record.duration_s for p in same),
        )
        old.append(math.fsum(p.before.value_j for p in same if p.before is not None) / true_j - 1.0)
        found = solve(run.equations)
        if found is not None and found.deviation_w(kind) * seconds <= PRECISE * true_j:
            value_j, sd_j = found.energy({kind: seconds})
            errors.append(value_j / true_j - 1.0)
            stated.append(math.hypot(sd_j / true_j, GAIN_SD))
    line = f"{name} {kind:7s} told in {len(errors):3d} of {len(runs)}"
    if errors:
        covered = np.mean(np.abs(errors) <= 2.0 * np.array(stated))
        line += f": error {_rms(errors):.1%}, worst {np.max(np.abs(errors)):.1%}, "
        line += f"within 5 % {np.mean(np.abs(errors) <= 0.05):.1%}, "
        line += f"stated {np.mean(stated):.1%}, {covered:.1%} within 2 σ"
    print(f"{line}; before {_rms(old):.1%}", flush=True)


def _print_dynamic(name: str, runs: Sequence[Run]) -> None:
    scores, errors, stated, old, none = [], [], [], [], 0
    for run in runs:
        parts = [
            EnergyPart(
                device="d",
                round=place // len(BASE_W) + 1,
                phase=p.record.phase,
                energy=p.record.energy,
                resolved=p.record.resolved,
                duration_s=p.record.duration_s,
                middle_s=p.record.start_s + p.record.duration_s / 2.0,
            )
            for place, p in enumerate(run.phases)
        ]
        seen = DeviceMetering(
            powers=solve(run.equations),
            columns={(part.round, part.phase): part.phase for part in parts},
            resting=resting.fit(run.rests),
        )
        work = [p for p in run.phases if p.record.phase in AT_WORK]
        true_j = math.fsum(p.true_j - REST_W * p.record.duration_s for p in work)
        rests = [p for p in run.phases if p.record.phase == "idle" and p.before is not None]
        rest_w = math.fsum(p.before.value_j for p in rests if p.before is not None) / math.fsum(
            p.record.duration_s for p in rests
        )
        old_j = math.fsum(
            p.before.value_j - rest_w * p.record.duration_s for p in work if p.before is not None
        )
        old.append(old_j / true_j - 1.0)
        above = above_rest(parts, {"d": seen})
        if len(above) < len(work):
            none += 1
            continue
        found = total(above.values(), one_meter=True)
        assert found is not None
        scores.append(within(found, true_j))
        errors.append(found.value_j / true_j - 1.0)
        stated.append(found.uncertainty_j / true_j)
    covered = np.mean(np.abs(scores) <= 2.0) if scores else math.nan
    print(
        f"{name} dynamic, told in {len(scores):3d} of {len(runs)}: {covered:6.1%} within 2 σ, "
        f"bias/σ {np.mean(scores) if scores else math.nan:+.2f}, error {_rms(errors):5.1%}, stated "
        f"{np.mean(stated) if stated else math.nan:5.1%}; before {_rms(old):.1%}",
        flush=True,
    )


def _rms(values: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["phases", "powers", "dynamic"])
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--family", action="append", choices=FAMILIES)
    parser.add_argument("--length", type=float, action="append")
    parser.add_argument("--power", action="append", choices=POWERS)
    args = parser.parse_args()
    families, powers = args.family or list(FAMILIES), args.power or POWERS
    if "phases" in args.what:
        phases(families, args.length or LENGTHS_S, powers, args.runs)
    for name in ("powers", "dynamic"):
        if name in args.what:
            powers_and_dynamic(families, powers, args.runs, dynamic=name == "dynamic")


if __name__ == "__main__":
    main()
