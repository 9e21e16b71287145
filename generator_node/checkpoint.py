"""A training in the middle, on disk, so that it can go on as if nothing had happened.

One safetensors file: weights, their moving average, the optimiser's moments, the state of the
random generator, the order of the images; and, as its metadata, where it is and what it is of. A
training with other settings or other data does not go on from it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from diffusers.training_utils import EMAModel
from msgspec import Struct
from torch import Tensor, nn

from generator_node.generators import GeneratorError


class Position(Struct, frozen=True, kw_only=True):
    """Where a training is.

    Attributes:
        step: steps done.
        order: of the images in this pass.
        at: how many of ``order`` have been used.
        loss: its running mean.
        seconds: it has taken so far.
    """

    step: int
    order: Tensor
    at: int
    loss: float
    seconds: float


class Training(Struct, frozen=True, kw_only=True):
    """What changes while a network is trained.

    Attributes:
        network: its weights.
        average: their moving average.
        optimiser: its moments.
        rate: the learning rate's schedule.
        draw: what everything random is drawn from.
    """

    network: nn.Module
    average: EMAModel
    optimiser: torch.optim.Optimizer
    rate: torch.optim.lr_scheduler.LRScheduler
    draw: torch.Generator


def write(path: Path, training: Training, position: Position, purpose: str) -> None:
    """Write a checkpoint in place of the one that was there, all or nothing.

    Args:
        path: the file.
        training: the state.
        position: where it is.
        purpose: what it is a training of; :func:`read` wants the same.
    """
    tensors = {f"network.{k}": v for k, v in training.network.state_dict().items()}
    tensors |= {f"average.{i}": v for i, v in enumerate(training.average.shadow_params)}
    for index, state in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": v for k, v in state.items()}
    tensors |= {"draw": training.draw.get_state(), "order": position.order}
    note = {
        "step": position.step,
        "at": position.at,
        "loss": position.loss,
        "seconds": position.seconds,
        "average_steps": training.average.optimization_step,
        "purpose": purpose,
    }
    # Tied tensors would be written twice or refused: contiguous copies are neither.
    data = safetensors.torch.save(
        {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
        metadata={"training": json.dumps(note)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.replace(path)


def read(path: Path, training: Training, purpose: str) -> Position:
    """Put a checkpoint into force.

    Raises:
        GeneratorError: it cannot be read, or is of another training.
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
    training.network.load_state_dict(_below(tensors, "network."))
    for index, shadow in enumerate(training.average.shadow_params):
        shadow.copy_(tensors[f"average.{index}"])
    training.average.optimization_step = note["average_steps"]
    state = training.optimiser.state_dict()
    count = len(list(training.network.parameters()))
    state["state"] = {i: _below(tensors, f"optimiser.{i}.") for i in range(count)}
    training.optimiser.load_state_dict(state)
    training.rate.last_epoch = note["step"]
    for group, lr in zip(training.optimiser.param_groups, training.rate.base_lrs, strict=True):
        group["lr"] = lr * training.rate.lr_lambdas[0](note["step"])  # type: ignore[attr-defined]
    training.draw.set_state(tensors["draw"])
    return Position(
        step=note["step"],
        order=tensors["order"],
        at=note["at"],
        loss=note["loss"],
        seconds=note["seconds"],
    )


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
