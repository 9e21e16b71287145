"""What an update takes of a coordinator's memory that is decoded, or comes late.

For each coding, in a process of its own: a model is served, an update of its round lies in a file.
Printed is the largest memory (VmHWM, everything that is resident) above that of a process without a
model, over the size of the model: while the update is decoded with the model that was kept on the
disk, while it is written to the run store, while it is read from there for the mean of a later
round, and while one that comes in time is decoded. The aim is less than 4, of which the model and
its bytes on offer are 2; ``rounds.late_rounds`` does not matter.

    python benchmarks/late_memory.py [--megabytes 14] [--codings fp32 fp16 int8 top-k]

Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fimi.coordinator import checkpoint
from fimi.coordinator.checkpoint import HeldUpdate
from fimi.coordinator.late_models import MODELS, LateModels
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.settings import TransferSettings
from fimi.coordinator.update_store import UpdateStore
from fimi.learning.training import coded, memory, tensors
from fimi.record.store import RunStore

CODINGS = ("fp32", "fp16", "int8", "top-k")
STEPS = ("decoded", "stored", "read again", "in time")
LARGE = 1 << 40


def model_of(megabytes: float) -> dict[str, np.ndarray]:
    """A network's tensors: two thirds of the numbers in one of them, as in VGG-9."""
    rows = int(megabytes * 1e6 / 4 / 300)
    shapes = {"conv.weight": (rows, 100), "fc.weight": (rows, 200), "fc.bias": (128,)}
    drawn = np.random.default_rng(0)
    return {name: drawn.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def memory_bytes(what: str) -> int:
    """VmRSS or VmHWM of this process."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{what}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {what}; this benchmark needs Linux")


class Measured:
    """Peaks by step, bytes."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block; what earlier ones have freed is given back before."""
        memory.give_back(LARGE)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        yield
        self.peaks[name] = memory_bytes("VmHWM")


def run(megabytes: float, transfer: TransferSettings) -> dict[str, int]:
    """All steps with one update."""
    measured = Measured()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, spool = RunStore(folder / "run.sqlite"), UpdateStore(folder)
        late = LateModels(folder / MODELS, transfer)
        model = model_of(megabytes)
        payload = RoundPayload(model, transfer)
        late.keep(1, payload, 0)
        update, plain = folder / "update", transfer.of_update.is_plain
        change = {n: t * np.float32(1.01 if plain else 0.01) for n, t in model.items()}
        update.write_bytes(
            tensors.dump(change) if plain else coded.encode(change, transfer.of_update)
        )
        del change
        with measured.step("decoded"):
            whole = late.plain(1, update, model)
        held = checkpoint.in_pieces(HeldUpdate(device="d", round=1), whole)
        with measured.step("stored"), store.together():
            for part in checkpoint.of_held(held, whole):
                store.write_checkpoint(part)
        with measured.step("read again"):
            pieces = (store.read_part(key) for key in checkpoint.held_keys(held)[1:])
            spool.take("late", spool.joined(pieces), model)
        with measured.step("in time"):
            spool.take("punctual", update, model, payload.plain if payload.decodes else None)
        spool.close()
        store.close()
    return measured.peaks


def measure(megabytes: float, coding: str) -> None:
    """The measured process."""
    transfer = TransferSettings(update_coding=coding)  # type: ignore[arg-type]
    run(0.3, transfer)  # whatever is imported and set up once
    memory.give_back(LARGE)
    base = memory_bytes("VmRSS")
    peaks = run(megabytes, transfer)
    print(" ".join(f"{(peaks[step] - base) / (megabytes * 1e6):10.2f}" for step in STEPS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=14.0)
    parser.add_argument("--codings", nargs="+", choices=CODINGS, default=CODINGS)
    parser.add_argument("--only", choices=CODINGS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        measure(args.megabytes, args.only)
        return
    print(f"{args.megabytes:g} MB; peak over the size of the model")
    print(f"{'':8}" + " ".join(f"{step:>10}" for step in STEPS))
    for coding in args.codings:
        done = subprocess.run(
            [sys.executable, __file__, "--megabytes", str(args.megabytes), "--only", coding],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        print(f"{coding:8}{done.stdout}", end="")


if __name__ == "__main__":
    main()
