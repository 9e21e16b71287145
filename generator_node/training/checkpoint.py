"""The state of a training on disk, from which it continues as if it had not been interrupted.

It is one safetensors file with weights, their moving average, the optimisers' moments, the state of
the random generator and the order of the images. Its metadata hold the position and the purpose. A
training with other settings or other data cannot continue from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from diffusers.training_utils import EMAModel
from msgspec import Struct
from torch import Tensor, nn

from fimi.files import write_whole
from fimi.generator_node.generators.base import GeneratorError


class Position(Struct, frozen=True, kw_only=True):
    """The position of a training.

    Attributes:
        step: number of finished steps.
        order: order of the images in this pass; empty where every step draws its own.
        at: how many of ``order`` have been used.
        loss: running mean of the loss.
        seconds: wall time so far, s.
    """

    step: int
    order: Tensor
    at: int
    loss: float
    seconds: float


_NOTED = ("step", "at", "loss", "seconds")


class Training(Struct, frozen=True, kw_only=True):
    """The state that changes during a training.

    Attributes:
        networks: networks by name, with their weights.
        average: moving average of the weights, which is the result of the training.
        optimisers: optimisers by name, with their moments.
        draw: the random generator for everything that is drawn.
        rate: schedule of the learning rate, of the only optimiser; ``None``: it is constant.
    """

    networks: Mapping[str, nn.Module]
    average: EMAModel
    optimisers: Mapping[str, torch.optim.Optimizer]
    draw: torch.Generator
    rate: torch.optim.lr_scheduler.LRScheduler | None = None


def write(path: Path, training: Training, position: Position, purpose: str) -> None:
    """Replace a checkpoint, completely or not at all.

    ``purpose`` names settings and data of the training; :func:`read` needs the same.
    """
    tensors = {f"average.{i}": v for i, v in enumerate(training.average.shadow_params)}
    for name, network in training.networks.items():
        tensors |= {f"{name}.{k}": v for k, v in network.state_dict().items()}
    for name, optimiser in training.optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{k}": v for k, v in state.items()}
    tensors |= {"draw": training.draw.get_state(), "order": position.order}
    note = {name: getattr(position, name) for name in _NOTED} | {
        "average_steps": training.average.optimization_step,
        "purpose": purpose,
    }
    # Tied tensors would be written twice or refused; contiguous copies avoid both.
    data = safetensors.torch.save(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
        metadata={"training": json.dumps(note)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)


def read(path: Path, training: Training, purpose: str) -> Position:
    """Read a checkpoint into ``training``; returns its position.

    Raises:
        GeneratorError: it cannot be read, or belongs to another training.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            note: dict[str, Any] = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise GeneratorError(
            f"checkpoint {path} cannot be read: {error}; delete it to train from the beginning"
        ) from error
    if note["purpose"] != purpose:
        raise GeneratorError(
            f"checkpoint {path} is of a training with other settings or other data; choose another "
            "folder, or delete it to train from the beginning"
        )
    for name, network in training.networks.items():
        network.load_state_dict(_below(tensors, f"{name}."))
    for index, shadow in enumerate(training.average.shadow_params):
        shadow.copy_(tensors[f"average.{index}"])
    training.average.optimization_step = note["average_steps"]
    for name, optimiser in training.optimisers.items():
        state = optimiser.state_dict()
        count = sum(len(group["params"]) for group in optimiser.param_groups)
        state["state"] = {i: _below(tensors, f"{name}.{i}.") for i in range(count)}
        optimiser.load_state_dict(state)
        if (rate := training.rate) is not None:
            rate.last_epoch = note["step"]
            for group, lr in zip(optimiser.param_groups, rate.base_lrs, strict=True):
                group["lr"] = lr * rate.lr_lambdas[0](note["step"])  # type: ignore[attr-defined]
    training.draw.set_state(tensors["draw"])
    return Position(order=tensors["order"], **{name: note[name] for name in _NOTED})


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
