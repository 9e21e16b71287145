#!/usr/bin/env python
"""The published image sets on a machine with a CUDA device, from the data to the papers' tables.

    scripts/cuda_study.py --data ~/data --out study --dry     what it would do, and what it needs
    scripts/cuda_study.py --data ~/data --out study           does it; the same command goes on
    scripts/cuda_study.py … --sets cifar-10,gtsrb --only train,evaluate

For each data set: reads it (``check``), trains the class-conditional diffusion model on its public
part with checkpoints (``train``), measures that (``evaluate``), and runs the settings of FIMI's
paper with this model and those of GenFL's with Stable Diffusion (``experiments``).

A step that has ended well leaves a file with its command in ``OUT/done``; it is left out as long as
its command is the same. A step that was interrupted or killed goes on where it was: a training at
its last checkpoint, an experiment at its last finished run. Ctrl-C ends the present step cleanly.

No machine with CUDA was at hand when this was written: it was run with tiny sizes on a CPU.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "experiments"
FIMI = (sys.executable, "-c", "from fimi.testbed.cli import main; main()")
STAGES = ("check", "train", "evaluate", "experiments")


class Study(NamedTuple):
    """A data set: where its files are below ``--data``, their size, and the papers' settings."""

    files: str
    size_gb: float
    experiments: tuple[str, ...]


SETS = {
    "cifar-10": Study("cifar-10-batches-py/", 0.2, ("fimi-cifar10", "genfl-cifar10")),
    "cifar-100": Study("cifar-100-python/", 0.2, ("genfl-cifar100",)),
    "gtsrb": Study("gtsrb/GTSRB/ and gtsrb/GT-final_test.csv", 0.4, ("fimi-gtsrb",)),
}
TEXT_MODEL_GB = 6
"""Stable Diffusion v1.5 in single precision, about, as fetched by diffusers."""
RUN_GB = 0.2
"""A run folder with its checkpoints and report, about; there are some dozens."""


class Step(NamedTuple):
    """A command, and the name under which its success is noted."""

    name: str
    command: tuple[str, ...]


def steps_of(given: argparse.Namespace) -> list[Step]:
    """All steps in their order."""
    out, found = given.out, []
    size = ("--steps", str(given.steps), "--every", str(given.every))
    if given.channels:
        size += ("--channels", given.channels)
    engine = "cuda" if given.device.startswith("cuda") else "auto"
    for name in given.sets:
        model, images = str(out / "generators" / name), str(out / "evaluation" / name)
        data = _set(
            data={
                "dataset": name,
                "root": given.data,
                "split_seed": 0,
                "image_size": given.image_size,
            }
        )
        use = _set(generator={"weights": model, "engine": engine})
        train = ("generator", "train", *data, "--out", model, "--device", given.device, *size)
        measure = ("--per-class", str(given.per_class), "--out", images)
        every = [
            ("check", name, ("check", *data)),
            ("train", name, train),
            ("evaluate", name, ("generator", "evaluate", *data, *use, *measure)),
        ]
        for each in SETS[name].experiments:
            file = str(out / "settings" / f"{each}.toml")
            every.append(("experiments", f"{name} {each}", ("experiment", file)))
        found += [
            Step(f"{stage} {what}", (*FIMI, *command))
            for stage, what, command in every
            if stage in given.only
        ]
    return found


def _set(**sections: dict[str, object]) -> list[str]:
    """Keys of the configuration as options."""
    return [
        part
        for section, keys in sections.items()
        for key, to in keys.items()
        for part in ("--set", f"{section}.{key}={to}")
    ]


def settings_for(text: str, data: Path, generators: Path) -> str:
    """A file of examples/experiments with these data, and with the diffusion model trained here."""
    name = re.search(r'^dataset = "(.+)"', text, re.MULTILINE)
    assert name is not None
    text = re.sub(r'^root = ".*"', f'root = "{data}"', text, flags=re.MULTILINE)
    mine = f'name = "diffusion"\nfolder = "{generators / name[1]}"'
    return text.replace('name = "diffusion"', mine)


def needs(given: argparse.Namespace) -> list[str]:
    """What it needs, as far as known, for people."""
    disk = sum(SETS[name].size_gb for name in given.sets)
    lines = [f"data set {name}: {given.data}/{SETS[name].files}" for name in given.sets]
    text = [e for name in given.sets for e in SETS[name].experiments if e.startswith("genfl")]
    if "experiments" in given.only:
        disk += 60 * RUN_GB + (TEXT_MODEL_GB if text else 0)
    free = shutil.disk_usage(_existing(given.out)).free / 1e9
    return [
        *lines,
        "(data.download = true fetches what is missing: "
        "fimi check --set data.dataset=NAME --set data.root=DIR --set data.download=true)",
        "packages: pip install 'fimi-testbed[all]', with a PyTorch that is built for CUDA"
        + ("; Stable Diffusion is fetched from its hub by the first run" if text else ""),
        f"disk: about {disk:.0f} GB, data included; {free:.0f} GB are free at {given.out}",
        "GPU memory: the diffusion model has 6.1 million parameters, 0.1 GB with optimiser and "
        "average; its activations at batches of 128 are not measured"
        + ("; Stable Diffusion in half precision about 4 GB more" if text else ""),
        "hours: not known, nobody has run this on CUDA; a training says what is left after one "
        "percent, an experiment after its first run. VGG-9 and ResNet-18 train on the CPU's cores: "
        "expect days for the experiments",
        f"device: {device_of(given.device)}",
    ]


def device_of(device: str) -> str:
    """The device as text; says so if it is not there."""
    if not device.startswith("cuda"):
        return device
    import torch

    if not torch.cuda.is_available():
        return f"{device}, which PyTorch does not see"
    there = torch.cuda.get_device_properties(device)
    return f"{there.name}, {there.total_memory / 1e9:.0f} GB"


def prepare(given: argparse.Namespace) -> None:
    """Write the settings of the experiments."""
    folder = given.out / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    for name in given.sets:
        for each in SETS[name].experiments:
            text = (EXAMPLES / f"{each}.toml").read_text(encoding="utf-8")
            mine = settings_for(text, given.data, given.out / "generators")
            (folder / f"{each}.toml").write_text(mine, encoding="utf-8")


def conduct(steps: list[Step], out: Path) -> int:
    """Run the steps that are not done, in ``out``; returns the exit code of one that fails."""
    done = out / "done"
    done.mkdir(parents=True, exist_ok=True)
    for step in steps:
        note, command = done / step.name.replace(" ", "-"), shlex.join(step.command)
        if note.is_file() and note.read_text(encoding="utf-8") == command:
            print(f"{step.name}: done before", flush=True)
            continue
        print(f"{step.name}: {shlex.join(step.command[len(FIMI) :])}", flush=True)
        if code := subprocess.run(step.command, cwd=out, check=False).returncode:
            print(f"{step.name}: ended with {code}; the same command goes on from here", flush=True)
            return code if code > 0 else 128 - code
        note.write_text(command, encoding="utf-8")
    return 0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("cuda-study"), help="everything it writes")
    parser.add_argument("--sets", type=_of(tuple(SETS)), default=tuple(SETS))
    parser.add_argument("--only", type=_of(STAGES), default=STAGES, help=", ".join(STAGES))
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, … or cpu")
    parser.add_argument("--steps", type=int, default=60_000, help="of a diffusion model")
    parser.add_argument("--every", type=int, default=1000, help="steps between checkpoints")
    parser.add_argument("--image-size", type=int, default=0, help="pixels; 0: as published")
    parser.add_argument("--channels", default="", help="of its levels; empty: from the image size")
    parser.add_argument("--per-class", type=int, default=360, help="images for a measurement")
    parser.add_argument("--dry", action="store_true", help="say what it would do, and stop")
    given = parser.parse_args(arguments)
    given.data, given.out = given.data.expanduser().resolve(), given.out.expanduser().resolve()
    return given


def main() -> int:
    """Run the study."""
    given = parse()
    steps = steps_of(given)
    for line in needs(given):
        print(line)
    if given.dry:
        for step in steps:
            print(f"{step.name}: fimi {shlex.join(step.command[len(FIMI) :])}")
        return 0
    if "not see" in device_of(given.device):
        print(
            "--device cpu runs it without, for a small trial only: --steps, --channels, "
            "--image-size"
        )
        return 3
    prepare(given)
    try:
        return conduct(steps, given.out)
    except KeyboardInterrupt:
        return 130


def _of(known: tuple[str, ...]):  # type: ignore[no-untyped-def]
    def chosen(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if unknown := [each for each in found if each not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return found

    return chosen


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


if __name__ == "__main__":
    sys.exit(main())
