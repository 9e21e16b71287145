"""A trained generator on disk: a folder in the layout of diffusers' pipelines.

::

    digits-writers/
        generator.json                               the card
        unet/config.json                             as UNet2DModel.save_config writes it
        unet/diffusion_pytorch_model.safetensors     its weights
        unet/model.onnx                              the same network for ONNX Runtime
        judge.onnx                                   the classifier that judges its images
        scheduler/scheduler_config.json              as the solver's save_config writes it

So ``UNet2DModel.from_pretrained(folder, subfolder="unet")`` reads it too. Nothing is ever
unpickled. The card states the digest of the training data. A generator that was trained on other
data than the public part could send private samples to the devices, so the digests are compared
before it is used (:func:`fimi.generator_node.generators.base.require_trained_on`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import safetensors
import safetensors.torch
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from fimi.files import write_whole
from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.generators.card import CARD, GRAPH, JUDGE, Card, read_part
from fimi.generator_node.training.onnx_export import denoiser_graph
from fimi.learning.training.tensors import digest

UNET_CONFIG = "unet/config.json"
UNET_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"

Network = TypeVar("Network", bound=torch.nn.Module)


def save(
    folder: Path,
    card: Card,
    unet: UNet2DModel,
    scheduler: DPMSolverMultistepScheduler,
    judge: bytes = b"",
) -> Card:
    """Write a generator; the card last, so that a folder with a card is complete.

    ``judge`` is the judge of its images as an ONNX graph; empty for none. Returns the card as
    written, with all digests.
    """
    weights = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in unet.state_dict().items()}
    )
    graph = denoiser_graph(unet, card.image_shape)
    card = msgspec.structs.replace(card, weights_digest=digest(weights), graph_digest=digest(graph))
    (folder / CARD).unlink(missing_ok=True)
    for part in ("unet", "scheduler"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_whole(folder / UNET_CONFIG, unet.to_json_string())
    write_whole(folder / UNET_WEIGHTS, weights)
    write_whole(folder / GRAPH, graph)
    write_whole(folder / SCHEDULER_CONFIG, scheduler.to_json_string())
    return finish(folder, card, judge)


def finish(folder: Path, card: Card, judge: bytes) -> Card:
    """Write the judge, if any, and the card; returns the card as written."""
    if judge:
        write_whole(folder / JUDGE, judge)
        card = msgspec.structs.replace(card, judge_digest=digest(judge))
    write_whole(folder / CARD, msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    return card


def read_network(folder: Path, name: str, card: Card, build: Callable[[], Network]) -> Network:
    """A network of a saved generator, ready for inference; ``build`` makes it with any weights.

    Raises:
        GeneratorError: the file is missing, its digest differs from the card's, or its weights
            belong to another network.
    """
    data = read_part(folder, name, card.weights_digest)
    try:
        with torch.random.fork_rng(devices=[]):
            network = build()
        network.load_state_dict(safetensors.torch.load(data))
    except (RuntimeError, ValueError, TypeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise GeneratorError(
            f"the weights in {folder / name} do not fit the network that the folder describes: "
            f"{reason}; copy the folder again or train it again"
        ) from error
    return network.eval().requires_grad_(False)


def read_unet(folder: Path, card: Card) -> UNet2DModel:
    """The network of a saved diffusion model, ready for inference.

    Raises:
        GeneratorError: files are missing, damaged, or do not belong together.
    """
    config = _read_json(folder / UNET_CONFIG)
    unet: UNet2DModel = read_network(
        folder, UNET_WEIGHTS, card, lambda: UNet2DModel.from_config(config)
    )
    channels = card.image_shape[0]
    expected = (channels, channels, len(card.class_names) + 1)
    actual = (unet.config.in_channels, unet.config.out_channels, unet.config.num_class_embeds)
    if actual != expected:
        raise GeneratorError(
            f"{folder / UNET_CONFIG} has (in, out, classes + null) {actual}, but {CARD} promises "
            f"images {card.image_shape} of {len(card.class_names)} classes, {expected}"
        )
    return unet


def read_scheduler(folder: Path) -> Mapping[str, Any]:
    """The solver's configuration; make a solver of it with its ``from_config``.

    Raises:
        GeneratorError: it is missing, or this project cannot sample with it.
    """
    config = _read_json(folder / SCHEDULER_CONFIG)
    kind = config.get("_class_name")
    if kind != DPMSolverMultistepScheduler.__name__:
        raise GeneratorError(
            f"{folder / SCHEDULER_CONFIG} names scheduler {kind!r}; this generator samples with "
            f"{DPMSolverMultistepScheduler.__name__}"
        )
    return config


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GeneratorError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise GeneratorError(f"{path} does not hold a JSON object")
    return content
