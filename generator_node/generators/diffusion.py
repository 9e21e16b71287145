"""Sampling images from a trained class-conditional diffusion model with PyTorch.

It uses diffusers' own schedulers, on a CPU or a CUDA device. This is the engine for GPUs, and for
folders without an exported graph; on a CPU :mod:`fimi.generator_node.generators.onnx_diffusion`
does the same faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from fimi.generator_node.generators import folder as folders
from fimi.generator_node.generators.base import GeneratorError, Seeds
from fimi.generator_node.generators.card import FromCard, levels_table, noise_of
from fimi.generator_node.generators.solver import SOLVERS, SolverName
from fimi.generator_node.training.network import library_versions, torch_threads
from fimi.learning.data.dataset import Images, Labels

CHUNK = 256
"""Images that pass through the network together; by measurement, more is not faster on a CPU."""


class DiffusionGenerator(FromCard):
    """Draws images with DPM-Solver++; a :class:`~fimi.generator_node.generators.base.Generator`.

    Args:
        unet: the network, in inference mode.
        card: its card.
        scheduler: the solver's configuration.
        steps: denoising steps, network evaluations per image.
        guidance: weight w of v_null + w · (v_class − v_null); 1 is the plain model at half the
            cost. With more, images look better but vary less, and train a classifier worse.
        solver: ``"dpm++"`` or ``"ddim"``.
        threads: PyTorch's threads while it draws.
        device: ``"cpu"``, or a CUDA device, where it computes in half precision.

    Raises:
        ValueError: steps, guidance or threads are out of range.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        card: folders.Card,
        scheduler: Mapping[str, Any],
        *,
        steps: int = 20,
        guidance: float = 1.0,
        solver: SolverName = "dpm++",
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        if not 1 <= steps <= 1000:
            raise ValueError(f"steps is {steps}; a sampler takes 1 to 1000 denoising steps")
        if not 0 <= guidance <= 50:
            raise ValueError(f"guidance is {guidance}; take a value from 0 to 50")
        if threads < 1:
            raise ValueError(f"threads is {threads}; take at least one")
        if solver not in SOLVERS:
            raise ValueError(f"solver is {solver!r}; there are {', '.join(SOLVERS)}")
        self._solver = solver
        self._device = torch.device(device)
        self._unet = unet.to(self._device)
        super().__init__(card)
        self._scheduler = dict(scheduler)
        self._steps = steps
        self._guidance = guidance
        self._threads = threads
        self._snap = levels_table(card.levels)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        steps: int = 20,
        guidance: float = 1.0,
        solver: SolverName = "dpm++",
        threads: int = 1,
        device: str = "cpu",
    ) -> DiffusionGenerator:
        """Read a generator from its folder.

        Raises:
            GeneratorError: files are missing, damaged, or do not belong together.
            ValueError: steps, guidance or threads are out of range.
        """
        card = folders.read_card(folder)
        return cls(
            folders.read_unet(folder, card),
            card,
            folders.read_scheduler(folder),
            steps=steps,
            guidance=guidance,
            solver=solver,
            threads=threads,
            device=device,
        )

    @property
    def name(self) -> str:
        """Weights, solver, steps and guidance as text for people."""
        return (
            f"{self._card.name} ({self._solver}, {self._steps} steps, guidance {self._guidance:g})"
        )

    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that make its images."""
        return library_versions()

    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        images = np.empty((len(class_ids), *self.image_shape), np.uint8)
        with torch_threads(self._threads), torch.inference_mode():
            for start in range(0, len(class_ids), CHUNK):
                part = slice(start, start + CHUNK)
                images[part] = self._pixels(self._draw(class_ids[part], seeds[part]))
        return images

    def _draw(self, class_ids: Labels, seeds: Seeds) -> Tensor:
        """Denoise; returns (n, channels, height, width), about −1 to 1."""
        if self._solver == "ddim":
            solver = DDIMScheduler.from_config(self._scheduler, clip_sample=False)
        else:
            solver = DPMSolverMultistepScheduler.from_config(self._scheduler)
        solver.set_timesteps(self._steps)
        labels = torch.from_numpy(np.ascontiguousarray(class_ids, np.int64)).to(self._device)
        noise = np.stack([noise_of(int(seed), self.image_shape) for seed in seeds])
        images: Tensor = torch.from_numpy(noise).to(self._device) * solver.init_noise_sigma
        with torch.autocast("cuda", enabled=self._device.type == "cuda"):
            for timestep in solver.timesteps:
                velocity = self._velocity(images, timestep.to(self._device), labels).float()
                images = solver.step(velocity, timestep, images, return_dict=False)[0]
        return images.float().cpu()

    def _velocity(self, images: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        """The network's prediction, with guidance if it is not 1."""
        if self._guidance == 1:
            plain: Tensor = self._unet(images, timestep, class_labels=labels).sample
            return plain
        null = torch.full_like(labels, self.classes)
        both = self._unet(
            torch.cat([images, images]), timestep, class_labels=torch.cat([labels, null])
        ).sample
        conditional, unconditional = both.chunk(2)
        guided: Tensor = unconditional + self._guidance * (conditional - unconditional)
        return guided

    def _pixels(self, images: Tensor) -> Images:
        if not bool(torch.isfinite(images).all()):
            raise GeneratorError(
                f"{self.name} gives values that are not finite; its weights are damaged or its "
                "training diverged: train it again"
            )
        scaled = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
        snapped: Images = self._snap[scaled]
        return snapped
