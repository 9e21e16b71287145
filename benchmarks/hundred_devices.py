"""Memory of a large fleet: 100 emulated devices, 10 per round, ResNet-18 on 32×32 images.

    python benchmarks/hundred_devices.py [--data FOLDER] [--devices 100] [--drawn 10] [--rounds 2]

A short real dry run: broker, generator node, emulated devices and coordinator as processes of their
own, one epoch of batches of 64, few samples a device, because memory does not depend on how long
devices train. Images are drawn here (ten classes of coloured noise, 32×32) unless ``--data`` names
an image folder (``train/CLASS/FILE`` and ``test/CLASS/FILE``, or ``CLASS/FILE``).

Printed is the peak over the run of all processes' proportional set sizes together, in which a page
that several share counts once (Linux only), process by process, and its ratio to 4 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

LIMIT_GB = 4.0
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


def named(process: psutil.Process) -> str:
    """What a process of a dry run is, by its open log file."""
    logs = [Path(f.path).stem for f in process.open_files() if f.path.endswith(".log")]
    return logs[0] if logs else process.name()


def peak(command: list[str]) -> tuple[str, float, dict[str, float]]:
    """Run a command: its output, the peak of all its processes in MB, and who had what of it."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr)
    assert process.stdout is not None
    most_mb, parts = 0.0, {}
    while process.poll() is None:
        sizes: dict[str, float] = {}
        try:
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
            for number, member in enumerate(family):
                name = "coordinator" if not number else f"{named(member)} ({member.pid})"
                sizes[name] = member.memory_full_info().pss / 1e6
        except psutil.Error:
            continue
        if sum(sizes.values()) > most_mb:
            most_mb, parts = sum(sizes.values()), sizes
        time.sleep(0.25)
    return process.stdout.read().decode(), most_mb, parts


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
            "plan.error_max": 0.15,
        }
        command = [str(Path(sys.executable).with_name("fimi")), "dry-run", "--format", "json"]
        command += ["--directory", folder, "--name", "hundred"]
        command += ["--devices", str(asked.devices), "--rounds", str(asked.rounds)]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        began_s = time.monotonic()
        output, most_mb, parts = peak(command)
    if not output:
        sys.exit("the dry run failed")
    result = json.loads(output)
    print(
        f"{asked.devices} devices, {asked.drawn} per round, {asked.model}, {result['rounds']} "
        f"rounds, {result['synthetic_samples']} synthetic samples, final accuracy "
        f"{result['accuracy'][-1]:.1%}, {time.monotonic() - began_s:.0f} s"
    )
    for name, size_mb in sorted(parts.items(), key=lambda part: -part[1]):
        print(f"  {size_mb:7.0f} MB  {name}")
    print(
        f"peak of all processes together: {most_mb / 1000:.2f} GB proportional, "
        f"{most_mb / 1000 / LIMIT_GB:.2f} of the {LIMIT_GB:g} GB aimed at"
    )
    sys.exit(most_mb / 1000 > LIMIT_GB)


if __name__ == "__main__":
    main()
