"""How near the search comes to the certified optimum, and in what time.

Random fleets in which the learning error, the band (a quarter more than the least that is
feasible) and for some devices the power bind; every row is over several seeds. The other searches
get the same number of candidates. "textbook-cross-entropy" is the method as published: Gaussians
on τ itself (mean 0.5, deviation 1), cut off at 0 and 1, 100 candidates, infeasible ones worth
nothing, 10 % elite, no smoothing.

    python benchmarks/optim_gap.py [--sizes 5,20,50,100] [--seeds 10] [--others-up-to 100]
"""

from __future__ import annotations

import argparse
import math
import statistics

import msgspec
import numpy as np
from policies import SEARCHES, compare

from fimi.optim.leanest import least_bandwidth
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import SearchSettings, plan
from fimi.optim.problem import FimiProblem

OTHERS = tuple(name for name in SEARCHES if name != "cross-entropy")


def fleet(seed: int, size: int) -> FimiProblem:
    rng = np.random.default_rng(seed)
    problem = FimiProblem(
        devices=tuple(f"device-{i}" for i in range(size)),
        local_counts=rng.integers(0, 80, (size, 10)),
        epochs=5,
        cycles_per_sample=rng.uniform(5e6, 2e7, size),
        capacitance_w_per_hz3=rng.uniform(0.5e-28, 2e-28, size),
        active_power_w=rng.choice([0.0, 0.5], size),
        frequency_min_hz=np.full(size, 2e8),
        frequency_max_hz=rng.uniform(1.0e9, 2.0e9, size),
        channel_gain=10 ** (-rng.uniform(9.5, 11.5, size)),
        noise_density_w_per_hz=np.asarray(4e-21),
        transmit_power_max_w=rng.choice([0.01, 0.2], size),
        payload_bits=np.asarray(1.12e8),
        t_max_s=np.asarray(60.0),
        bandwidth_hz=1e6 * size,
        generated_max=np.asarray(1500.0),
        error_max=0.27,
        curve=LearningCurve(alpha=2.0, beta=0.3),
    )
    least_hz = least_bandwidth(problem).bandwidth_hz
    return msgspec.structs.replace(problem, bandwidth_hz=1.25 * least_hz)


def others(problem: FimiProblem, seed: int, evaluations: int, bound_j: float) -> dict[str, float]:
    """Gap in percent of every other search with the same budget; infinite if nothing feasible."""
    gaps = {}
    for name in OTHERS:
        found = compare(problem, name, seed=seed, evaluations=evaluations)
        gaps[name] = 100.0 * (found.energy_j / bound_j - 1.0)
    return gaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="5,20,50,100")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--others-up-to", type=int, default=100, help="largest fleet for the rest")
    options = parser.parse_args()
    settings = SearchSettings(gap_tolerance_percent=math.inf)
    plan(fleet(0, 2), seed=0)  # imports CVXPY
    print(
        "devices  search gap % median/worst  as it runs %  search s  certificate s  at p_max %",
        flush=True,
    )
    for size in map(int, options.sizes.split(",")):
        rows, rest, at_limit = [], [], 0
        for seed in range(options.seeds):
            problem = fleet(seed, size)
            result = plan(problem, seed=seed, settings=settings)
            rows.append(result)
            powers = np.array([share.point.transmit_power_w for share in result.devices])
            at_limit += int((powers > 0.999 * problem.transmit_power_max_w).sum())
            if size <= options.others_up_to:
                rest.append(others(problem, seed, result.evaluations, result.bound_j or math.nan))
        gaps = [row.search_gap_percent or 0.0 for row in rows]
        print(
            f"{size:>7}  {statistics.median(gaps):>12.2g} /{max(gaps):>11.2g}  "
            f"{statistics.median([row.gap_percent or 0.0 for row in rows]):>12.2g}  "
            f"{statistics.median([row.search_s for row in rows]):>8.2f}  "
            f"{statistics.median([row.certificate_s for row in rows]):>13.2f}  "
            f"{100 * at_limit / (size * len(rows)):>10.0f}",
            flush=True,
        )
        for name in OTHERS if rest else ():
            found = [row[name] for row in rest if math.isfinite(row[name])]
            text = f"{statistics.median(found):.3g} %" if found else "-"
            print(f"         {name:<24} median gap {text}, {len(found)} of {len(rest)} feasible")


if __name__ == "__main__":
    main()
