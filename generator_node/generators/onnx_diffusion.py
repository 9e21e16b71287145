"""Sampling from a trained diffusion model with ONNX Runtime: no PyTorch, and faster on a CPU.

The denoiser was exported when it was trained (``unet/model.onnx``); the solver is
:mod:`fimi.generator_node.generators.solver`. Images are denoised in parts that fit a processor's
caches, and every thread denoises parts of its own. By measurement on two cores, this is faster than
letting the runtime divide each operator.
"""

from __future__ import annotations

import importlib.metadata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fimi.generator_node.generators.base import GeneratorError, Seeds
from fimi.generator_node.generators.card import (
    GRAPH,
    Card,
    FromCard,
    levels_table,
    noise_of,
    read_card,
    read_part,
)
from fimi.generator_node.generators.solver import Floats, SolverName, advance, plan
from fimi.learning.data.dataset import Images, Labels

PART = 64
"""Images that are denoised together; the fastest number of those from 32 to 512."""


class OnnxDiffusionGenerator(FromCard):
    """Draws images with ONNX Runtime.

    Args:
        graph: the denoiser: images, timestep, classes to velocity.
        card: its card.
        steps: denoising steps, evaluations of the graph per image.
        guidance: weight w of v_null + w · (v_class − v_null); 1 is the plain model at half the
            cost. With more, images look better but vary less, and train a classifier worse.
        solver: ``"dpm++"`` or ``"ddim"``.
        threads: parts that are denoised at the same time.

    Raises:
        GeneratorError: the graph cannot be loaded, or does not fit the card.
        ValueError: steps, guidance, solver or threads are out of range.
    """

    def __init__(
        self,
        graph: bytes,
        card: Card,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        solver: SolverName = "dpm++",
        threads: int = 1,
    ) -> None:
        if not 0 <= guidance <= 50:
            raise ValueError(f"guidance is {guidance}; take a value from 0 to 50")
        if threads < 1:
            raise ValueError(f"threads is {threads}; take at least one")
        super().__init__(card)
        self._plan = plan(solver, steps)
        self._guidance = guidance
        self._solver = solver
        self._threads = threads
        self._snap = levels_table(card.levels)
        from fimi.learning.training.onnx_runtime import (  # when it is needed: it takes a moment
            onnxruntime,
        )

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no common base
            reason = str(error).splitlines()[0]
            raise GeneratorError(f"{card.name}: {GRAPH} cannot be loaded: {reason}") from error
        inputs = {each.name: each.shape for each in self._session.get_inputs()}
        if set(inputs) != {"images", "timestep", "classes"}:
            raise GeneratorError(f"{card.name}: {GRAPH} takes {sorted(inputs)}, not what it should")
        if tuple(inputs["images"][1:]) != card.image_shape:
            raise GeneratorError(
                f"{card.name}: {GRAPH} makes images {tuple(inputs['images'][1:])}, the card "
                f"promises {card.image_shape}"
            )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        solver: SolverName = "dpm++",
        threads: int = 1,
    ) -> OnnxDiffusionGenerator:
        """Read a generator from its folder.

        Raises:
            GeneratorError: files are missing, damaged, or do not belong together.
            ValueError: steps, guidance, solver or threads are out of range.
        """
        card = read_card(folder)
        graph = read_part(folder, GRAPH, card.graph_digest)
        return cls(graph, card, steps=steps, guidance=guidance, solver=solver, threads=threads)

    @property
    def name(self) -> str:
        """Weights, solver, steps, guidance and engine as text for people."""
        return (
            f"{self._card.name} ({self._solver}, {len(self._plan)} steps, guidance "
            f"{self._guidance:g}, onnxruntime)"
        )

    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that make its images."""
        return {name: importlib.metadata.version(name) for name in ("numpy", "onnxruntime")}

    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        images = np.empty((len(class_ids), *self.image_shape), np.uint8)
        parts = [slice(start, start + PART) for start in range(0, len(class_ids), PART)]

        def draw(part: slice) -> None:
            images[part] = self._pixels(self._denoise(class_ids[part], seeds[part]))

        if self._threads == 1 or len(parts) < 2:
            for part in parts:
                draw(part)
        else:
            with ThreadPoolExecutor(self._threads) as workers:
                list(workers.map(draw, parts))
        return images

    def _denoise(self, class_ids: Labels, seeds: Seeds) -> Floats:
        """Images (n, channels, height, width), about −1 to 1."""
        classes = np.ascontiguousarray(class_ids, np.int64)
        images = np.stack([noise_of(int(seed), self.image_shape) for seed in seeds])
        before = images
        for step in self._plan:
            velocity = self._velocity(images, step.timestep, classes)
            images, before = advance(step, images, velocity, before)
        return images

    def _velocity(self, images: Floats, timestep: int, classes: Labels) -> Floats:
        """The network's prediction, with guidance if it is not 1."""
        if self._guidance == 1:
            return self._run(images, timestep, classes)
        null = np.full_like(classes, self.classes)
        both = self._run(
            np.concatenate([images, images]), timestep, np.concatenate([classes, null])
        )
        conditional, unconditional = np.split(both, 2)
        guided: Floats = unconditional + np.float32(self._guidance) * (conditional - unconditional)
        return guided

    def _run(self, images: Floats, timestep: int, classes: Labels) -> Floats:
        feeds = {"images": images, "timestep": np.array([timestep]), "classes": classes}
        velocity: Floats = self._session.run(None, feeds)[0]
        return velocity

    def _pixels(self, images: Floats) -> Images:
        if not np.isfinite(images).all():
            raise GeneratorError(
                f"{self.name} gives values that are not finite; its weights are damaged or its "
                "training diverged: train it again"
            )
        scaled = np.rint((np.clip(images, -1, 1) + 1) * np.float32(127.5)).astype(np.uint8)
        snapped: Images = self._snap[scaled]
        return snapped
