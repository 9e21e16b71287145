"""Training on ONNX Runtime against PyTorch: time per step, memory, parity. Paired in one run.

    python benchmarks/onnx_training.py [--quick] [--models small-cnn,vgg-9,resnet-18]
        [--batches 1,8,32,64] [--threads 1,2] [--images FOLDER]
    python benchmarks/onnx_training.py --parity [--models …] [--batches 32] [--images FOLDER]
    python benchmarks/onnx_training.py --accuracy [--images FOLDER]

Every figure comes from a fresh process for one backend, unless it says otherwise. Times are paired:
the two backends take turns, with a pause between them in which threads that wait by spinning calm
down, and the ratio is the median over the turns, PyTorch's time over ONNX Runtime's, above 1 where
ONNX Runtime is faster. Memory is the peak resident size of the process, imports included. Parity is
the distance of all parameters after 50 steps, relative to their size, between ONNX Runtime,
PyTorch, and PyTorch in double precision on the same batches: how far rounding alone leads. Accuracy
is that of a short training from the same start on the same batches, on images kept apart. Images
are the bundled digits, enlarged to 32×32 for the larger networks, or those below FOLDER/CLASS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PAUSE_S = 0.3
"""Between turns."""
PARITY_STEPS = 50

CHILD = """
import json, sys, time
from pathlib import Path
import numpy as np
backend, model, batch, threads, steps, folder = sys.argv[1:7]
batch, threads, steps = int(batch), int(threads), int(steps)
from fimi.learning.onnx import graphs
from fimi.learning.training import tensors
from fimi.learning.training.trainer import TrainingSettings
with np.load(Path(folder) / "data.npz") as data:
    images, labels, classes = data["images"], data["labels"], int(data["classes"])
settings = TrainingSettings(model=model, epochs=1, batch_size=batch, learning_rate=0.001)
start = tensors.load((Path(folder) / "start.safetensors").read_bytes())
if backend == "onnx":
    from fimi.learning.training.onnx_trainer import OnnxTrainer
    trainer = OnnxTrainer(graphs.decode((Path(folder) / "graphs").read_bytes()), threads=threads)
else:
    from fimi.learning.training.torch_trainer import TorchTrainer
    trainer = TorchTrainer(model, classes, images.shape[1:], threads=threads)
order = np.random.default_rng(0).integers(0, len(labels), batch * steps)
def train(count):
    chosen = order[: batch * count]
    began = time.perf_counter()
    trainer.train(start, images[chosen], labels[chosen], settings, stream=(0,))
    return (time.perf_counter() - began) / count
train(min(2, steps))
print("ready", flush=True)
for line in sys.stdin:
    seconds = train(steps)
    peak = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    print(json.dumps({"ms": seconds * 1e3, "mb": int(peak.split()[1]) / 1024}), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="small-cnn,vgg-9,resnet-18")
    parser.add_argument("--batches", default="")
    parser.add_argument("--threads", default="")
    parser.add_argument("--turns", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="batch 1 and 32, one thread, 3 turns")
    parser.add_argument("--parity", action="store_true", help="compare parameters after 50 steps")
    parser.add_argument("--accuracy", action="store_true", help="compare a short training")
    parser.add_argument("--rate", type=float, default=0.001, help="learning rate of --parity")
    parser.add_argument("--images", type=Path, help="folder CLASS/FILE of 32×32 images")
    given = parser.parse_args()
    usual = "32" if given.parity else "1,32" if given.quick else "1,8,32,64"
    batches = [int(batch) for batch in (given.batches or usual).split(",")]
    threads = given.threads or ("1" if given.quick else "1,2")
    turns = given.turns or (3 if given.quick else 5)
    if given.parity:
        print("model batch | onnx-torch | torch-double | onnx-double")
    elif given.accuracy:
        print("model | samples trained on | accuracy torch | accuracy onnx")
    else:
        print("model batch threads | torch ms | onnx ms | ratio | torch MB | onnx MB")
    for model in given.models.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, model, given.images)
            if given.parity:
                for batch in batches:
                    parity(folder, model, batch, given.rate)
            elif given.accuracy:
                accuracy(folder, model)
            else:
                for thread in map(int, threads.split(",")):
                    for batch in batches:
                        compare(folder, model, batch, thread, turns)


def prepare(folder: Path, model: str, source: Path | None) -> None:
    """Data, start parameters and graphs, for both backends alike."""
    from fimi.learning.data import dataset
    from fimi.learning.onnx import export, graphs
    from fimi.learning.training import tensors
    from fimi.learning.training.torch_trainer import initial_parameters
    from fimi.learning.training.trainer import TrainingSettings

    if source is None:
        digits = dataset.load_digits()
        images, labels = digits.images, digits.labels
        if model != "small-cnn":
            images = images.repeat(4, axis=2).repeat(4, axis=3)
    else:
        from PIL import Image

        kinds = sorted(path for path in source.iterdir() if path.is_dir())
        files = [(f, label) for label, kind in enumerate(kinds) for f in sorted(kind.iterdir())]
        images = np.stack(
            [np.asarray(Image.open(f).convert("RGB")).transpose(2, 0, 1) for f, _ in files]
        )
        labels = np.array([label for _, label in files], np.int64)
    mixed = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[mixed], labels[mixed]
    classes = int(labels.max()) + 1
    np.savez(folder / "data.npz", images=images, labels=labels, classes=classes)
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    start = initial_parameters(model, classes, shape, seed=0)
    (folder / "start.safetensors").write_bytes(tensors.dump(start))
    made = graphs.encode(export.export(TrainingSettings(model=model), classes, shape))
    (folder / "graphs").write_bytes(made)


def compare(folder: Path, model: str, batch: int, threads: int, turns: int) -> None:
    """One line of the table of times."""
    steps = max(2, 800 // batch) if model == "small-cnn" else (4 if batch == 1 else 2)
    children = {
        backend: subprocess.Popen(
            [
                *(sys.executable, "-c", CHILD, backend, model),
                *(str(batch), str(threads), str(steps), str(folder)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for backend in ("torch", "onnx")
    }
    for child in children.values():
        ask(child, "")
    figures: dict[str, list[dict[str, float]]] = {"torch": [], "onnx": []}
    for turn in range(turns):
        for backend in ("torch", "onnx") if turn % 2 else ("onnx", "torch"):
            time.sleep(PAUSE_S)
            figures[backend].append(json.loads(ask(children[backend], "go")))
    for child in children.values():
        child.communicate()
    ratios = [
        one["ms"] / other["ms"]
        for one, other in zip(figures["torch"], figures["onnx"], strict=True)
    ]
    torch_ms, onnx_ms = (statistics.median(f["ms"] for f in figures[b]) for b in ("torch", "onnx"))
    torch_mb, onnx_mb = (max(f["mb"] for f in figures[b]) for b in ("torch", "onnx"))
    print(
        f"{model:10} {batch:3} {threads} | {torch_ms:9.2f} | {onnx_ms:9.2f} | "
        f"{statistics.median(ratios):5.2f} | {torch_mb:5.0f} | {onnx_mb:5.0f}",
        flush=True,
    )


def parity(folder: Path, model: str, batch: int, rate: float) -> None:
    """One line of the table of distances; both backends in this process."""
    import torch
    from torch.nn import functional

    from fimi.learning.networks import models
    from fimi.learning.onnx import graphs
    from fimi.learning.training import tensors
    from fimi.learning.training.onnx_trainer import OnnxTrainer
    from fimi.learning.training.torch_trainer import TorchTrainer
    from fimi.learning.training.trainer import TrainingSettings, batches

    images, labels, classes = load(folder)
    images, labels = images[: batch * PARITY_STEPS], labels[: batch * PARITY_STEPS]
    rounds = -(-PARITY_STEPS // -(-len(labels) // batch))
    settings = TrainingSettings(model=model, epochs=rounds, batch_size=batch, learning_rate=rate)
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    start = tensors.load((folder / "start.safetensors").read_bytes())
    onnx = OnnxTrainer(graphs.decode((folder / "graphs").read_bytes()))
    single = TorchTrainer(model, classes, shape)
    one, other = (
        t.train(start, images, labels, settings, stream=(0,)).parameters for t in (onnx, single)
    )
    exact = models.build(model, classes, shape, seed=0)
    models.load_parameters(exact, start)
    exact.double().train()
    weights = list(exact.parameters())
    for _, order in batches(len(labels), settings, stream=(0,)):
        # In double precision from the first division on; only the pixels are the same.
        logits = exact(torch.from_numpy(images[order]).double() / 255)
        loss = functional.cross_entropy(logits, torch.from_numpy(labels[order]))
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= rate * gradient
    double = {n: t.detach().numpy() for n, t in exact.state_dict().items()}
    gaps = [distance(one, other), distance(other, double), distance(one, double)]
    print(f"{model:10} {batch:3} | {' | '.join(f'{gap:.1e}' for gap in gaps)}", flush=True)


def accuracy(folder: Path, model: str) -> None:
    """One line of the table of accuracies; both backends in this process."""
    from fimi.learning.onnx import graphs
    from fimi.learning.training import tensors
    from fimi.learning.training.onnx_trainer import OnnxTrainer
    from fimi.learning.training.torch_trainer import TorchTrainer
    from fimi.learning.training.trainer import TrainingSettings

    images, labels, classes = load(folder)
    size = min(len(labels) * 4 // 5, 8000 if model == "small-cnn" else 1600)
    settings = TrainingSettings(
        model=model,
        epochs=10 if model == "small-cnn" else 2,
        batch_size=32,
        learning_rate=0.02 if model == "resnet-18" else 0.1,
    )
    channels, height, width = images.shape[1:]
    start = tensors.load((folder / "start.safetensors").read_bytes())
    found = []
    for trainer in (
        TorchTrainer(model, classes, (channels, height, width)),
        OnnxTrainer(graphs.decode((folder / "graphs").read_bytes())),
    ):
        trained = trainer.train(start, images[:size], labels[:size], settings, stream=(0,))
        held = slice(size, size + 1000)
        found.append(trainer.evaluate(trained.parameters, images[held], labels[held]).accuracy)
    print(f"{model:10} | {size} | {found[0]:.4f} | {found[1]:.4f}", flush=True)


def load(folder: Path) -> tuple[np.ndarray, np.ndarray, int]:  # type: ignore[type-arg]
    """Images, labels and the number of classes."""
    with np.load(folder / "data.npz") as data:
        return data["images"], data["labels"], int(data["classes"])


def ask(child: subprocess.Popen[str], text: str) -> str:
    """Send a line, unless it is empty, and wait for one."""
    assert child.stdin is not None and child.stdout is not None
    if text:
        child.stdin.write(f"{text}\n")
        child.stdin.flush()
    answer = child.stdout.readline()
    if not answer:
        raise SystemExit("a process of the benchmark ended early; see its message above")
    return answer


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:  # type: ignore[type-arg]
    """Of two models' parameters, relative."""
    gap = sum(float(np.sum((one[n] - other[n]) ** 2)) for n in other)
    return float(np.sqrt(gap / sum(float(np.sum(other[n] ** 2)) for n in other)))


if __name__ == "__main__":
    main()
