"""Finds, checks and loads the generator for a public part.

Heavy libraries are loaded only by the generators that need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fimi.generator_node.generators.base import Generator, GeneratorError, require_trained_on
from fimi.generator_node.generators.card import GRAPH, NO_DIGEST, CardKind, find_for, read_card
from fimi.generator_node.generators.onnx_diffusion import OnnxDiffusionGenerator
from fimi.generator_node.generators.solver import SolverName
from fimi.learning.data.dataset import Dataset

Engine = Literal["auto", "onnx", "torch", "cuda"]


def open_generator(
    public: Dataset,
    weights: str = "",
    *,
    kind: CardKind | None = None,
    steps: int = 20,
    guidance: float = 1.0,
    solver: SolverName = "dpm++",
    engine: Engine = "auto",
    threads: int = 1,
) -> Generator:
    """The trained generator for a public part.

    Args:
        public: the only data on which the generator may have been trained.
        weights: folder of a trained generator; empty: the shipped one that was trained on
            ``public``.
        kind: see :func:`fimi.generator_node.generators.card.find_for`.
        steps: denoising steps.
        guidance: see :class:`fimi.generator_node.generators.onnx_diffusion.OnnxDiffusionGenerator`.
        solver: ``"dpm++"`` or ``"ddim"``.
        engine: ``"onnx"``: ONNX Runtime on the CPU; ``"torch"``: PyTorch on the CPU; ``"cuda"``:
            PyTorch on a GPU; ``"auto"``: ONNX Runtime if the folder holds a graph.
        threads: CPU threads.

    Raises:
        WrongDataError: no shipped generator, or not the named one, was trained on ``public``.
        GeneratorError: the folder or the engine cannot be used.
        ValueError: steps, guidance, solver or threads are out of range.
    """
    folder = find_for(public, weights, kind)
    sampling = {"steps": steps, "guidance": guidance, "solver": solver}
    generator = load(folder, engine=engine, threads=threads, **sampling)
    require_trained_on(generator.provenance, public)
    if generator.image_shape != public.image_shape:
        raise GeneratorError(
            f"{folder} makes images {generator.image_shape} (channels, height, width), "
            f"{public.name} has {public.image_shape}; train a generator on {public.name}"
        )
    return generator


def load(folder: Path, *, engine: Engine = "auto", threads: int = 1, **sampling: Any) -> Generator:
    """A generator from its folder, with any training data; see :func:`open_generator`."""
    card = read_card(folder)
    device = "cuda" if engine == "cuda" else "cpu"
    if device == "cuda":
        require_cuda()
    if card.kind == "conditional-gan":
        from fimi.generator_node.generators.gan import GanGenerator

        return GanGenerator.load(folder, threads=threads, device=device)
    if engine == "onnx" or (engine == "auto" and card.graph_digest != NO_DIGEST):
        if card.graph_digest == NO_DIGEST:
            raise GeneratorError(
                f"{folder} holds no {GRAPH}; take generator.engine = 'torch', or train it again"
            )
        return OnnxDiffusionGenerator.load(folder, threads=threads, **sampling)
    from fimi.generator_node.generators.diffusion import DiffusionGenerator

    return DiffusionGenerator.load(folder, threads=threads, device=device, **sampling)


def require_cuda(device: str = "cuda", instead: str = "generator.engine = 'auto'") -> None:
    """Make sure that there is a CUDA device.

    Args:
        device: ``"cuda"``, or one of several, such as ``"cuda:1"``.
        instead: the setting that the message suggests where there is none.

    Raises:
        GeneratorError: PyTorch finds none, or not that one.
    """
    import torch

    if not torch.cuda.is_available():
        raise GeneratorError(
            f"no CUDA device: PyTorch sees none; take {instead}, or install a driver and a PyTorch "
            "with CUDA",
            code="G005",
        )
    there = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if device not in ("cuda", *there):
        raise GeneratorError(f"no CUDA device {device}; there is {', '.join(there)}", code="G005")
