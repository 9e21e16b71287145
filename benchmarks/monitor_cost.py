"""What monitoring costs: CPU time and memory of a process that does nothing else.

A child process reads a Jetson's rails (two meters: the module's total and its CPU rail, from files
in a temporary folder) at 10 Hz, samples clock, heat and throttling twice a second, and closes a
phase of the ledger every two seconds, as an agent on a physical board does. PyTorch is not loaded.
Printed beside it: the same process without the monitor, one that records a second meter (a chip in
the supply line) beside the module's total, and a loop that polls the rails at 1 kHz.

    python benchmarks/monitor_cost.py [--seconds 30]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

CHILD = """
import sys, time
from pathlib import Path
root, how, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
from fimi.energy.clock import MonotonicClock
from fimi.energy.ledger import Ledger
from fimi.energy.meters.detect import MeterSettings, open_recorder
from fimi.energy.observe.frequency import FrequencyWatch
from fimi.energy.observe.throttling import Throttling
clock = MonotonicClock()
own = ""
began, cpu = time.monotonic(), time.process_time()
if how == "without":
    time.sleep(seconds)
else:
    rate_hz = 1000.0 if how == "fast" else 10.0
    second = "hwmon:ina226" if how == "second" else None
    recorder = open_recorder(
        MeterSettings(meter="ina3221" if second else "auto", second=second, rate_hz=rate_hz),
        root,
        clock,
    )
    watch = FrequencyWatch(root, None, Throttling(root))
    ledger = Ledger(clock, recorder)
    while time.monotonic() - began < seconds:
        with ledger.phase("idle"):
            time.sleep(2.0)
        ledger.take()
    cost = recorder.take_cost()
    own = f"{cost.cpu_percent:.3f} {cost.looks}"
    watch.close()
    recorder.close()
spent = time.process_time() - cpu
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(100 * spent / (time.monotonic() - began), int(peak) / 1024, "torch" in sys.modules, own)
"""


def build(root: Path) -> None:
    folder = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    files: dict[str, object] = {"name": "ina3221", "update_interval": 1}
    for channel, label in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 1):
        files |= {
            f"in{channel}_label": label,
            f"in{channel}_input": 5000,
            f"curr{channel}_input": 900,
        }
    folder.mkdir(parents=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    chip = root / "sys/class/hwmon/hwmon4"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina226\n")
    (chip / "power1_input").write_text("9100000\n")
    (chip / "update_interval").write_text("100\n")
    policy = root / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    (policy / "scaling_cur_freq").write_text("1500000\n")
    for number, kind in enumerate(("cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal")):
        zone = root / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(f"{kind}\n")
        (zone / "temp").write_text("48500\n")
    for cpu in range(6):
        thermal = root / f"sys/devices/system/cpu/cpu{cpu}/thermal_throttle"
        thermal.mkdir(parents=True)
        (thermal / "core_throttle_count").write_text("0\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build(root)
        print(f"{'':<22}{'% of a core':>12}{'peak MB':>9}   monitor's own figure")
        for how, text in (
            ("without", "no monitor"),
            ("with", "monitor at 10 Hz"),
            ("second", "with a second meter"),
            ("fast", "polling at 1 kHz"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", CHILD, str(root), how, str(seconds)],
                capture_output=True,
                text=True,
                check=True,
            )
            percent, peak_mb, torch, *own = done.stdout.split()
            assert torch == "False"
            said = f"{own[0]} % of a core, {own[1]} looks" if own else ""
            print(f"{text:<22}{float(percent):>12.3f}{float(peak_mb):>9.1f}   {said}")


if __name__ == "__main__":
    main()
