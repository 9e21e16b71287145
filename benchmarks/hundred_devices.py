"""Memory of a large fleet: 100 emulated devices, 10 per round, ResNet-18 on 32×32 images.

    python benchmarks/hundred_devices.py [--data FOLDER] [--devices 100] [--drawn 10] [--rounds 2]

A short real dry run: broker, generator node, emulated devices and coordinator as processes of their
own, one epoch of batches of 64, few samples a device, because memory does not depend on how long
devices train. Images are drawn here (ten classes of coloured noise, 32×32) unless ``--data`` names
an image folder (``train/CLASS/FILE`` and ``test/CLASS/FILE``, or ``CLASS/FILE``).

Printed is the peak over the run of all processes' proportional set sizes together, in which a page
that several share counts once (Linux only), and its ratio to 4 GB; and for each kind of process
what it had at that moment, and at most at any other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

LIMIT_GB = 4.0
INTERVAL_S = 0.25
CLASSES, TEST_SAMPLES = 10, 200


def draw_images(root: Path, training: int) -> None:
    """An image folder of coloured noise, a colour for each class."""
    generator = np.random.default_rng(0)
    colours = generator.integers(40, 216, (CLASSES, 3, 1, 1))
    for part, samples in (("train", training), ("test", TEST_SAMPLES)):
        for k in range(CLASSES):
            folder = root / part / f"class-{k}"
            folder.mkdir(parents=True)
            noise = generator.integers(-40, 41, (samples // CLASSES, 3, 32, 32))
            for number, image in enumerate((colours[k] + noise).astype(np.uint8)):
                Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:05d}.png")


def kind_of(process: psutil.Process) -> str:
    """What a process of a dry run is: ``broker``, or by its open log file."""
    logs = [Path(f.path).stem for f in process.open_files() if f.path.endswith(".log")]
    if logs:
        return logs[0].split("-")[0]
    broker = any("mosquitto" in word or "amqtt" in word for word in process.cmdline())
    return "broker" if broker else "process server"


class Peaks:
    """The largest memory of all processes together and of each kind, MB."""

    def __init__(self) -> None:
        self.most_mb = 0.0
        self.then: dict[str, float] = {}
        self.each: dict[str, float] = {}
        self.processes: Counter[str] = Counter()

    def look(self, coordinator: psutil.Process) -> None:
        """Read the sizes of a process and its children, unless one is just ending."""
        sizes: Counter[str] = Counter()
        count: Counter[str] = Counter()
        try:
            for member in (coordinator, *coordinator.children(recursive=True)):
                kind = "coordinator" if member.pid == coordinator.pid else kind_of(member)
                sizes[kind] += member.memory_full_info().pss
                count[kind] += 1
        except psutil.Error:
            return
        together = {kind: size / 1e6 for kind, size in sizes.items()}
        self.processes |= count
        for kind, size_mb in together.items():
            self.each[kind] = max(self.each.get(kind, 0.0), size_mb)
        if sum(together.values()) > self.most_mb:
            self.most_mb, self.then = sum(together.values()), together


def watched(command: list[str]) -> tuple[str, Peaks]:
    """Run a command: its output, and the memory of all its processes."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr)
    assert process.stdout is not None
    peaks, family = Peaks(), psutil.Process(process.pid)
    while process.poll() is None:
        peaks.look(family)
        time.sleep(INTERVAL_S)
    return process.stdout.read().decode(), peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--drawn", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="resnet-18")
    parser.add_argument("--samples", type=int, default=40, help="private samples per device")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = asked.data
        if root is None:
            root = Path(folder) / "images"
            draw_images(root, 2 * asked.samples * asked.devices)
        settings = {
            "data.dataset": "image-folder",
            "data.root": str(root),
            "data.partition": "iid",
            "data.public_fraction": 0.5,
            "generator.kind": "bootstrap",
            "generator.gate": str(asked.data is not None).lower(),  # noise looks like copies
            "training.model": asked.model,
            "training.epochs": 1,
            "training.batch_size": 64,
            "training.learning_rate": 0.05,
            "rounds.participants": asked.drawn,
            "rounds.gather_timeout_s": 600,
            "rounds.wall_timeout_s": 3000,
            "plan.deadline_s": 3600,
            "plan.bandwidth_hz": 1e7,
            "plan.error_max": 0.19,
        }
        command = [str(Path(sys.executable).with_name("fimi")), "dry-run", "--format", "json"]
        command += ["--directory", folder, "--name", "hundred"]
        command += ["--devices", str(asked.devices), "--rounds", str(asked.rounds)]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        began_s = time.monotonic()
        output, peaks = watched(command)
    if output:
        result = json.loads(output)
        print(
            f"{asked.devices} devices, {asked.drawn} per round, {asked.model}, {result['rounds']} "
            f"rounds, {result['synthetic_samples']} synthetic samples, final accuracy "
            f"{result['accuracy'][-1]:.1%}, {time.monotonic() - began_s:.0f} s"
        )
    else:
        print("the dry run failed; until then")
    print("   at the peak    at most")
    for kind, most_mb in sorted(peaks.each.items(), key=lambda part: -part[1]):
        print(
            f"  {peaks.then.get(kind, 0.0):9.0f} MB  {most_mb:6.0f} MB  "
            f"{kind} ({peaks.processes[kind]})"
        )
    print(
        f"peak of all processes together: {peaks.most_mb / 1000:.2f} GB proportional, "
        f"{peaks.most_mb / 1000 / LIMIT_GB:.2f} of the {LIMIT_GB:g} GB aimed at"
    )
    sys.exit(not output or peaks.most_mb / 1000 > LIMIT_GB)


if __name__ == "__main__":
    main()
