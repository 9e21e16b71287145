"""How long a text of ``/metrics`` takes, by devices.

``python benchmarks/metrics_text.py [--devices 500] [--repeats 20]``
"""

from __future__ import annotations

import argparse
import statistics
import time

from fimi.energy.joules import Energy
from fimi.monitor.metrics.exposition import metrics
from fimi.monitor.snapshot import DeviceNow, JoulesNow, RunNow, Snapshot


def snapshot(devices: int) -> Snapshot:
    """A run with so many devices that say everything."""
    energy = Energy(value_j=1234.5, kind="emulated", source="emulated:raspberry-pi-4:ina219")
    joules = JoulesNow(energy=energy, compared=energy, predicted_j=1200.0)
    device = DeviceNow(
        board="raspberry-pi-4", kind="emulated", samples=100, synthetic=50, set_hz=1.5e9,
        applied_hz=1.5e9, clock_hz=1.4e9, set_bps=1e6, sent_bps=9e5, power_w=4.2,
        power_kind="emulated", power_scope="board", meter=energy.source, temperature_c=51.5,
        round=7, round_energy=joules, total=joules, accuracy=0.9, seen_unix_s=1.7e9,
    )  # fmt: skip
    names = (f"device-{number:04d}" for number in range(devices))
    return Snapshot(unix_s=1.7e9, run=RunNow(name="r"), devices=dict.fromkeys(names, device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    seen = snapshot(given.devices)
    accept = "application/openmetrics-text; version=1.0.0"
    took_s, size = [], 0
    for _ in range(given.repeats):
        began_s = time.perf_counter()
        size = len(metrics(seen, accept)[0])
        took_s.append(time.perf_counter() - began_s)
    print(
        f"{given.devices} devices: {size / 1e3:.0f} kB in {1e3 * statistics.median(took_s):.1f} ms "
        f"(median of {given.repeats})"
    )


if __name__ == "__main__":
    main()
