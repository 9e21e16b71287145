"""Rounds to an accuracy at several learning errors, and the model (34) fitted to them.

    python benchmarks/rounds_model.py [--seeds 5] [--first-seed 10] [--rounds 20]
                                      [--errors 0.073 0.087 0.1 0.113 0.137 0.17]

Runs are ``fimi dry-run`` with the default configuration and ``plan.error_max`` as given; their
seeds are not those of energy_to_target.py, whose plans use what is fitted here. Prints the observed
rounds, those of the fit and of the default, and the root mean square of the logarithm of observed
over predicted rounds for both.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile

from energy_to_target import dry_run, round_to

from fimi.optim.target import RoundsModel

ACCURACIES = (0.85, 0.9, 0.93, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--errors", type=float, nargs="+", default=[0.073, 0.087, 0.1, 0.113, 0.137, 0.17]
    )
    asked = parser.parse_args()
    seen: dict[tuple[float, float], list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for error in asked.errors:
            for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
                setting = ("--set", f"plan.error_max={error}")
                run = dry_run(f"error-{error}", seed, asked.rounds, folder, setting)
                for accuracy in ACCURACIES:
                    if (number := round_to(run, accuracy)) is not None:
                        seen.setdefault((error, accuracy), []).append(number)
    points = [(error, accuracy, n) for (error, accuracy), rows in seen.items() for n in rows]
    errors, accuracies, counts = zip(*points, strict=True)
    fitted, default = RoundsModel.fit(errors, accuracies, counts), RoundsModel()
    print("error  accuracy  rounds seen (median)         fit  default")
    for (error, accuracy), rows in sorted(seen.items()):
        listed = f"{' '.join(map(str, sorted(rows)))} ({statistics.median(rows):g})"
        print(
            f"{error:5g}  {accuracy:8.0%}  {listed:<25}  {fitted.rounds(error, accuracy):5.1f}  "
            f"{default.rounds(error, accuracy):7.1f}"
        )
    print(f"\nfit: scale {fitted.scale:.3f}, sensitivity {fitted.sensitivity:.2f}")
    for name, model in (("fit", fitted), ("default", default)):
        off = [math.log(n / model.rounds(error, accuracy)) for error, accuracy, n in points]
        rms = math.sqrt(statistics.mean(x * x for x in off))
        print(f"{name}: rms of log(seen / predicted) {rms:.2f}")


if __name__ == "__main__":
    main()
