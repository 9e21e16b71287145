"""Dual decomposition: agreement with CVXPY and Clarabel, and how it grows with the fleet.

    python benchmarks/optim_joint.py [--agree 5,20,100,300] [--sizes 1000,3000,10000] [--seeds 3]

Fleets as in optim_gap.py; ``--idle 2`` gives every board 2 W at rest, so that the length of the
round is a variable too. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import tracemalloc

from optim_gap import fleet, with_idle_power

from fimi.optim.certificate import solve_program
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agree", default="5,20,100,300")
    parser.add_argument("--sizes", default="1000,3000,10000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=0.0, help="idle power of a board, W")
    options = parser.parse_args()
    print(
        "devices  program/joint - 1, worst  own gap, worst  joint s  Clarabel s  ratio  inaccurate"
    )
    for size in map(int, options.agree.split(",")):
        off, gaps, own_s, other_s, loose = [], [], [], [], 0
        for seed in range(options.seeds):
            problem = with_idle_power(fleet(seed, size), options.idle)
            inner = InnerSolver(problem)
            began = time.process_time()
            solution = solve(inner)
            solved = time.process_time()
            program = solve_program(problem, scale_j=solution.energy_j)
            gaps.append(solution.relative_gap)
            own_s.append(solved - began)
            other_s.append(time.process_time() - solved)
            if program.status == "optimal":
                off.append(abs(program.energy_j / solution.energy_j - 1.0))
            else:
                loose += 1
        own, other = statistics.median(own_s), statistics.median(other_s)
        print(
            f"{size:>7}  {max(off, default=math.nan):>24.1e}  {max(gaps):>14.1e}  {own:>7.3f}  "
            f"{other:>10.2f}  {other / own:>5.0f}  {loose} of {options.seeds}",
            flush=True,
        )
    print("\ndevices  own gap   joint s  peak MB  kB per device")
    for size in map(int, options.sizes.split(",")):
        inner = InnerSolver(with_idle_power(fleet(0, size), options.idle))
        seconds, gap = [], 0.0
        for _ in range(options.seeds):
            began = time.process_time()
            solution = solve(inner)
            seconds.append(time.process_time() - began)
            gap = solution.relative_gap
        tracemalloc.start()
        solve(inner)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(
            f"{size:>7}  {gap:>7.1e}  {statistics.median(seconds):>7.2f}  {peak / 1e6:>7.1f}  "
            f"{peak / 1e3 / size:>13.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
