"""Fast inner solvers against CVXPY: seconds per candidate, and the largest difference.

    python benchmarks/optim_inner.py [--devices 20] [--candidates 200] [--fleets 10]

The reference is compiled before the clock starts; both get the same feasible candidates. The fast
solvers are timed on batches of 160 candidates, as the search uses them.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from optim_gap import fleet

from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.reference import ReferenceSolver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--fleets", type=int, default=10)
    options = parser.parse_args()
    fast_s, slow_s, worst, compared, given_up = [], [], 0.0, 0, 0
    for seed in range(options.fleets):
        problem = fleet(seed, options.devices)
        fast, slow = InnerSolver(problem), ReferenceSolver(problem)
        centre = solve(fast).window_s
        rng = np.random.default_rng(seed)
        windows = centre * np.exp(rng.normal(0, 0.01, (4 * options.candidates, options.devices)))
        windows = windows[fast.evaluate(windows).violation == 0][: options.candidates]
        if not len(windows):
            continue
        slow.evaluate(windows[:1])
        began = time.perf_counter()
        reference = slow.evaluate(windows)
        slow_s.append((time.perf_counter() - began) / len(windows))
        many = np.resize(windows, (160, options.devices))
        began = time.perf_counter()
        for _ in range(5):
            fast.evaluate(many)
        fast_s.append((time.perf_counter() - began) / (5 * len(many)))
        good = reference.violation == 0
        mine = fast.evaluate(windows).energy_j[good]
        worst = max(worst, float(np.abs(reference.energy_j[good] / mine - 1).max(initial=0.0)))
        compared += int(good.sum())
        given_up += int((~good).sum())
    fast_median, slow_median = float(np.median(fast_s)), float(np.median(slow_s))
    print(
        f"{options.devices} devices, {compared} candidates compared, "
        f"{given_up} given up by Clarabel"
    )
    print(f"fast      {1e6 * fast_median:10.1f} µs per candidate")
    print(f"reference {1e6 * slow_median:10.1f} µs per candidate")
    print(f"ratio     {slow_median / fast_median:10.0f}")
    print(f"largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
