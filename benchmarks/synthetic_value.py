"""What a round costs when a synthetic sample is worth q real ones, over the cost at q = 1.

python benchmarks/synthetic_value.py [--devices 20] [--seeds 5] [--values 1,0.9,0.7,0.5] [--band 4]
"""

from __future__ import annotations

import argparse
import statistics

import msgspec
import optim_gap

from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.quality import plan


def fleet(seed: int, devices: int, band: float) -> FimiProblem:
    """A fleet of ``optim_gap.py``, with more band: there every sample more is one too many."""
    problem = optim_gap.fleet(seed, devices)
    return msgspec.structs.replace(problem, bandwidth_hz=band * problem.bandwidth_hz)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--values", default="1,0.9,0.7,0.5")
    parser.add_argument("--band", type=float, default=4.0, help="factor on optim_gap.py's band")
    options = parser.parse_args()
    fleets = [fleet(seed, options.devices, options.band) for seed in range(options.seeds)]
    base = [plan(problem, seed=seed) for seed, problem in enumerate(fleets)]
    print(f"{options.devices} devices, {options.seeds} fleets, medians; × is over q = 1")
    print("   q  feasible  J per round      ×  synthetic      ×  search gap %, worst      s")
    for value in map(float, options.values.split(",")):
        rows = []
        for seed, (problem, one) in enumerate(zip(fleets, base, strict=True)):
            try:
                found = plan(problem, synthetic_value=value, seed=seed)
            except InfeasibleError:
                continue
            made, least = (
                sum(sum(share.synthetic_counts) for share in each.devices) for each in (found, one)
            )
            rows.append(
                (
                    found.energy_j,
                    found.energy_j / one.energy_j,
                    made,
                    made / least,
                    found.search_s + found.certificate_s,
                    found.search_gap_percent or 0.0,
                )
            )
        line = f"{value:>4g}  {len(rows):>3} of {options.seeds}"
        if rows:
            joules, more_j, made, more, seconds, _ = map(statistics.median, zip(*rows, strict=True))
            worst = max(row[-1] for row in rows)
            line += (
                f"  {joules:>11.1f}  {more_j:>5.2f}  {made:>9.0f}  {more:>5.2f}  {worst:>19.2g}"
                f"  {seconds:>5.2f}"
            )
        print(line, flush=True)


if __name__ == "__main__":
    main()
