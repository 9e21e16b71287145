"""The denoising network, its noise schedule and its solvers: diffusers' own classes, configured.

A U-Net predicts the velocity v from a noisy image, its time step and its class. There is one class
more than in the data set, the *null class*, which means "any class" and which guidance needs. The
schedule is the squared cosine (Nichol and Dhariwal, arXiv:2102.09672), the prediction is v
(Salimans and Ho, arXiv:2202.00512), the sampler is DPM-Solver++ of order 2 (Lu et al.,
arXiv:2211.01095).

Epsilon prediction does not work with this schedule and this solver, because the last time step has
no signal left to divide by; v-prediction does.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from msgspec import Meta, Struct

TRAINING_TIMESTEPS = 1000
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TRAINING_TIMESTEPS,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
}


class NetworkSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The size of the U-Net; the defaults make 160,401 parameters for ten classes.

    Attributes:
        channels: channels of each resolution level; every level but the last halves the image.
        layers_per_block: residual layers per level.
        norm_groups: groups of the group normalisation; divides all ``channels``.
    """

    channels: tuple[Annotated[int, Meta(ge=1)], ...] = (16, 32)
    layers_per_block: Annotated[int, Meta(ge=1)] = 1
    norm_groups: Annotated[int, Meta(ge=1)] = 8


def network_for(
    image_shape: tuple[int, int, int], channels: tuple[int, ...] = ()
) -> NetworkSettings:
    """Settings of a network for images (channels, height, width); ``channels`` empty: default."""
    if not channels and min(image_shape[1:]) <= 16:
        return NetworkSettings()
    levels = channels or (64, 128, 128, 128)[: 2 + (min(image_shape[1:]) >= 32)]
    group = math.gcd(32, *levels)
    layers = 1 if min(image_shape[1:]) <= 16 else 2
    return NetworkSettings(channels=levels, layers_per_block=layers, norm_groups=group)


def build_unet(
    settings: NetworkSettings, classes: int, image_shape: tuple[int, int, int], *, seed: int
) -> UNet2DModel:
    """A freshly initialised U-Net; PyTorch's global generator is not changed.

    It gets one class more than the data, the null class K; the seed determines the weights.

    Raises:
        ValueError: images cannot be halved often enough, or the groups do not divide the channels.
    """
    channels, height, width = image_shape
    factor = 2 ** (len(settings.channels) - 1)
    if not settings.channels or height % factor or width % factor:
        raise ValueError(
            f"channels {settings.channels} halve the image {max(0, len(settings.channels) - 1)} "
            f"times, which {height}×{width} pixels do not allow; take sides divisible by {factor}, "
            "or fewer levels"
        )
    if bad := [n for n in settings.channels if n % settings.norm_groups]:
        raise ValueError(
            f"norm_groups {settings.norm_groups} does not divide channels {bad[0]}; "
            "take a common divisor of all channels"
        )
    levels = len(settings.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DModel(
            sample_size=height if height == width else (height, width),
            in_channels=channels,
            out_channels=channels,
            block_out_channels=settings.channels,
            layers_per_block=settings.layers_per_block,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            add_attention=False,
            norm_num_groups=settings.norm_groups,
            num_class_embeds=classes + 1,
        )


def training_schedule() -> DDPMScheduler:
    """The forward process: how noise is added, and which velocity the network predicts."""
    return DDPMScheduler(**SCHEDULE)


def sampling_solver() -> DPMSolverMultistepScheduler:
    """The reverse process; a solver has state, so every batch takes a new one."""
    return DPMSolverMultistepScheduler(
        **SCHEDULE, timestep_spacing="trailing", algorithm_type="dpmsolver++", solver_order=2
    )


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let PyTorch's operators use ``threads`` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draw_each(draw: Callable[[slice], None], parts: list[slice], threads: int) -> None:
    """Call ``draw`` for every part, without gradients and with so many of PyTorch's threads."""
    with torch_threads(threads), torch.inference_mode():
        for part in parts:
            draw(part)


def library_versions() -> dict[str, str]:
    """Versions of the libraries that determine the results."""
    return {name: importlib.metadata.version(name) for name in ("diffusers", "numpy", "torch")}
