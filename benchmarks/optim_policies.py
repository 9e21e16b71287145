"""FIMI's plan against rules of thumb: joules per round at equal Δ_max and T_max.

    python benchmarks/optim_policies.py [--devices 20] [--fleets 20]

Fleets as in optim_gap.py, with 1.25 and with 4 times the least band. The ratio is the policy's
joules over FIMI's, for the fleets that the policy can plan at all. ``no-synthetic`` misses Δ_max:
its joules per round are lower, its rounds are more.
"""

from __future__ import annotations

import argparse
import math
import statistics

import msgspec
from optim_gap import fleet
from policies import RULES, compare

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--fleets", type=int, default=20)
    options = parser.parse_args()
    for factor in (1.25, 4.0):
        ratios: dict[str, list[float]] = {name: [] for name in RULES}
        for seed in range(options.fleets):
            problem = fleet(seed, options.devices)
            problem = msgspec.structs.replace(
                problem, bandwidth_hz=problem.bandwidth_hz * factor / 1.25
            )
            best = solve(InnerSolver(problem)).energy_j
            for name in RULES:
                ratios[name].append(compare(problem, name).energy_j / best)
        print(f"{options.devices} devices, band {factor} times the least, {options.fleets} fleets")
        for name, values in ratios.items():
            finite = [value for value in values if math.isfinite(value)]
            text = f"{statistics.median(finite):.3f}" if finite else "-"
            note = " (misses the error limit)" if name == "no-synthetic" else ""
            print(f"  {name:<16} {text:>7} × FIMI, {len(finite)} of {len(values)} possible{note}")


if __name__ == "__main__":
    main()
