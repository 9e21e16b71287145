"""Sampling images from a trained class-conditional diffusion model with PyTorch.

It uses diffusers' own schedulers, on a CPU or a CUDA device. This is the engine for GPUs, and for
folders without an exported graph; on a CPU :mod:`fimi.generator_node.generators.onnx_diffusion`
does the same faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from torch import Tensor

from fimi.generator_node.generators import folder as folders
from fimi.generator_node.generators.base import Seeds
from fimi.generator_node.generators.card import Card, FromCard, noise_of, read_card
from fimi.generator_node.generators.solver import SolverName, check_sampling
from fimi.generator_node.training.network import draw_each, library_versions
from fimi.learning.data.dataset import Labels


class DiffusionGenerator(FromCard):
    """Draws images with a solver of diffusers.

    Steps, guidance and solver are explained in
    :class:`fimi.generator_node.generators.onnx_diffusion.OnnxDiffusionGenerator`. ``unet`` is in
    inference mode. A CUDA device computes in half precision.

    Raises:
        ValueError: steps, guidance or threads are out of range.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        card: Card,
        scheduler: Mapping[str, Any],
        *,
        steps: int = 20,
        guidance: float = 1.0,
        solver: SolverName = "dpm++",
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        check_sampling(solver, steps, guidance)
        super().__init__(card, threads)
        self._solver = solver
        self._device = torch.device(device)
        self._unet = unet.to(self._device)
        self._scheduler = dict(scheduler)
        self._steps = steps
        self._guidance = guidance

    @classmethod
    def load(
        cls,
        folder: Path,
        **sampling: Any,
    ) -> DiffusionGenerator:
        """Read a generator from its folder; ``sampling`` as of the class.

        Raises:
            GeneratorError: files are missing, damaged, or do not belong together.
            ValueError: steps, guidance or threads are out of range.
        """
        card = read_card(folder)
        unet, scheduler = folders.read_unet(folder, card), folders.read_scheduler(folder)
        return cls(unet, card, scheduler, **sampling)

    @property
    def name(self) -> str:
        """Weights, solver, steps and guidance as text for people."""
        return (
            f"{self._card.name} ({self._solver}, {self._steps} steps, guidance {self._guidance:g})"
        )

    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that make its images."""
        return library_versions()

    def _each(self, draw: Callable[[slice], None], parts: list[slice]) -> None:
        draw_each(draw, parts, self._threads)

    def _draw(self, class_ids: Labels, seeds: Seeds) -> NDArray[np.float32]:
        if self._solver == "ddim":
            solver = DDIMScheduler.from_config(self._scheduler, clip_sample=False)
        else:
            solver = DPMSolverMultistepScheduler.from_config(self._scheduler)
        solver.set_timesteps(self._steps)
        labels = torch.from_numpy(np.ascontiguousarray(class_ids, np.int64)).to(self._device)
        noise = noise_of(seeds, self.image_shape)
        images: Tensor = torch.from_numpy(noise).to(self._device) * solver.init_noise_sigma
        with torch.autocast("cuda", enabled=self._device.type == "cuda"):
            for timestep in solver.timesteps:
                velocity = self._velocity(images, timestep.to(self._device), labels).float()
                images = solver.step(velocity, timestep, images, return_dict=False)[0]
        drawn: NDArray[np.float32] = images.float().cpu().numpy()
        return drawn

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
