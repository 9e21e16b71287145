"""Training on ONNX Runtime against PyTorch: time per step, memory, parity. Paired in one run.

    python benchmarks/onnx_training.py [--models small-cnn,vgg-9] [--batches 1,8,32,64]
        [--threads 1,2] [--images FOLDER]

Every figure comes from a fresh process for one backend. Times are paired: the two backends take
turns, and the ratio is the median over the turns, PyTorch's time over ONNX Runtime's, above 1 where
ONNX Runtime is faster. Memory is the peak resident size of the process, imports included. Parity is
the distance of all parameters after 50 steps, relative to their size. Images are the bundled
digits, enlarged to 32×32 for the larger networks, or the JPEG and PNG files below a folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHILD = """
import json, sys, time
from pathlib import Path
import numpy as np
backend, model, batch, threads, steps, folder = sys.argv[1:7]
batch, threads, steps = int(batch), int(threads), int(steps)
from learning import graphs, tensors
from learning.training import TrainingSettings
with np.load(Path(folder) / "data.npz") as data:
    images, labels = data["images"], data["labels"]
settings = TrainingSettings(model=model, epochs=1, batch_size=batch, learning_rate=0.001)
start = tensors.load((Path(folder) / f"{model}.safetensors").read_bytes())
if backend == "onnx":
    from learning.onnx_trainer import OnnxTrainer
    trainer = OnnxTrainer(
        graphs.decode((Path(folder) / f"{model}.graphs").read_bytes()), threads=threads)
else:
    from learning.torch_trainer import TorchTrainer
    trainer = TorchTrainer(model, 10, images.shape[1:], threads=threads)
order = np.random.default_rng(0).integers(0, len(labels), batch * steps)
def train(count):
    chosen = order[: batch * count]
    began = time.perf_counter()
    result = trainer.train(start, images[chosen], labels[chosen], settings, stream=(0,))
    return (time.perf_counter() - began) / count, result
train(min(2, steps))
print("ready", flush=True)
for line in sys.stdin:
    seconds, result = train(steps)
    if line.strip() == "keep":
        Path(folder, f"{backend}.safetensors").write_bytes(tensors.dump(result.parameters))
    peak = next(l for l in open("/proc/self/status") if l.startswith("VmHWM"))
    print(json.dumps({"ms": seconds * 1e3, "mb": int(peak.split()[1]) / 1024}), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="small-cnn,vgg-9,resnet-18")
    parser.add_argument("--batches", default="1,8,32,64")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="steps per turn; 0: by size")
    parser.add_argument("--parity", action="store_true", help="50 steps, and compare parameters")
    parser.add_argument("--images", type=Path, help="folder CLASS/FILE of 32×32 images")
    given = parser.parse_args()
    print("model batch threads | torch ms | onnx ms | ratio | torch MB | onnx MB | distance")
    for model in given.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), model, given.images)
            for threads in map(int, given.threads.split(",")):
                for batch in map(int, given.batches.split(",")):
                    steps = given.steps or (100 if model == "small-cnn" else 2)
                    compare(model, batch, threads, 50 if given.parity else steps, given, folder)


def prepare(folder: Path, model: str, source: Path | None) -> None:
    """Data, start parameters and graphs, for both backends alike."""
    from learning import datasets, export, graphs, tensors
    from learning.torch_trainer import initial_parameters
    from learning.training import TrainingSettings

    if source is None:
        digits = datasets.load_digits()
        images, labels = digits.images, digits.labels
        if model != "small-cnn":
            images = images.repeat(4, axis=2).repeat(4, axis=3)
    else:
        from PIL import Image

        kinds = sorted(path for path in source.iterdir() if path.is_dir())[:10]
        files = [(f, label) for label, kind in enumerate(kinds) for f in sorted(kind.iterdir())]
        images = np.stack([np.asarray(Image.open(f)).transpose(2, 0, 1) for f, _ in files])
        labels = np.array([label for _, label in files], np.int64)
    np.savez(folder / "data.npz", images=images, labels=labels)
    channels, height, width = images.shape[1:]
    shape = (channels, height, width)
    start = initial_parameters(model, 10, shape, seed=0)
    (folder / f"{model}.safetensors").write_bytes(tensors.dump(start))
    made = graphs.encode(export.export(TrainingSettings(model=model), 10, shape))
    (folder / f"{model}.graphs").write_bytes(made)


def compare(
    model: str, batch: int, threads: int, steps: int, given: argparse.Namespace, folder: str
) -> None:
    """One line of the table."""
    children = {
        backend: subprocess.Popen(
            [
                sys.executable,
                "-c",
                CHILD,
                backend,
                model,
                str(batch),
                str(threads),
                str(steps),
                folder,
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
    for turn in range(1 if given.parity else given.turns):
        for backend in ("torch", "onnx") if turn % 2 else ("onnx", "torch"):
            answer = ask(children[backend], "keep" if given.parity else "go")
            figures[backend].append(json.loads(answer))
    for child in children.values():
        child.communicate()
    ratios = [
        one["ms"] / other["ms"]
        for one, other in zip(figures["torch"], figures["onnx"], strict=True)
    ]
    torch_ms, onnx_ms = (statistics.median(f["ms"] for f in figures[b]) for b in ("torch", "onnx"))
    torch_mb, onnx_mb = (max(f["mb"] for f in figures[b]) for b in ("torch", "onnx"))
    gap = f"{distance(Path(folder)):.1e}" if given.parity else "-"
    print(
        f"{model:10} {batch:3} {threads} | {torch_ms:9.2f} | {onnx_ms:9.2f} | "
        f"{statistics.median(ratios):5.2f} | {torch_mb:5.0f} | {onnx_mb:5.0f} | {gap}",
        flush=True,
    )


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


def distance(folder: Path) -> float:
    """Of the two backends' parameters, relative."""
    from learning import tensors

    one, other = (
        tensors.load((folder / f"{b}.safetensors").read_bytes()) for b in ("torch", "onnx")
    )
    gap = sum(float(np.sum((one[n] - other[n]) ** 2)) for n in one)
    return float(np.sqrt(gap / sum(float(np.sum(one[n] ** 2)) for n in one)))


if __name__ == "__main__":
    main()
