"""Where PyTorch computes and in which precision: the device, autocast, the scale of the loss.

Parameters stay in single precision in every mode; only operators that autocast takes to be safe run
in half precision. Evaluation is never in half precision, so that accuracies can be compared.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from fimi.errors import InputError
from fimi.learning.training.trainer import TrainingSettings

Amp = Literal["off", "bf16", "fp16"]

_START_SCALE, _GROWTH_STEPS = 65536.0, 2000


class PrecisionError(InputError, ValueError):
    """This machine's PyTorch cannot follow the settings; the message says why and what to do."""

    code = "C008"


def device_of(settings: TrainingSettings) -> torch.device:
    """The device to train on.

    Raises:
        PrecisionError: the settings ask for CUDA, and there is none.
    """
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise PrecisionError(
            'training.device is "cuda", and PyTorch finds no CUDA device here; set "auto" to use '
            'one where there is one, or "cpu"'
        )
    wanted = "cuda" if there and settings.device in ("auto", "cuda") else "cpu"
    return torch.device(wanted)


def amp_of(settings: TrainingSettings, device: torch.device) -> Amp:
    """The precision to train in.

    Raises:
        PrecisionError: the device cannot train in the half precision of the settings.
    """
    cuda = device.type == "cuda"
    if settings.amp == "auto":
        if not cuda:
            return "off"
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if settings.amp == "fp16" and not cuda:
        raise PrecisionError(
            'training.amp is "fp16", which is for CUDA; this training is on the CPU: set "auto" '
            '(half precision where there is CUDA), "bf16" or "off"'
        )
    if settings.amp == "bf16" and cuda and not torch.cuda.is_bf16_supported():
        raise PrecisionError(
            'training.amp is "bf16", which this CUDA device cannot; set "fp16" or "auto"'
        )
    return settings.amp


def make_deterministic(device: torch.device) -> None:
    """Make results repeatable on the same machine; a setting of the whole process.

    On the CPU a fixed number of threads is enough. On CUDA it costs speed: algorithms are not
    chosen by timing, none sums in random order, and TF32 is off.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def autocast(device: torch.device, amp: Amp) -> AbstractContextManager[object]:
    """A context in which a forward pass runs in this precision."""
    if amp == "off":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.float16 if amp == "fp16" else torch.bfloat16)


class LossScale:
    """Keeps small gradients from becoming zero in half precision (Micikevicius et al. 2018).

    It works as ``torch.amp.GradScaler``, but for gradients that are not in a ``torch.optim``. The
    loss is multiplied by a factor and the gradients are divided by it. If a gradient is not finite,
    the step is left out and the factor halved; after 2,000 good steps it is doubled. With
    ``enabled`` false nothing is changed.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.factor = _START_SCALE if enabled else 1.0
        self._good = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to differentiate."""
        return loss * self.factor if self.enabled else loss

    @torch.no_grad()
    def unscale(self, gradients: list[Tensor]) -> bool:
        """Divide the gradients by the factor, in place; returns whether all are finite."""
        if not self.enabled:
            return True
        torch._foreach_mul_(gradients, 1.0 / self.factor)
        norm = torch.stack(torch._foreach_norm(gradients)).sum()
        if not bool(torch.isfinite(norm)):
            self.factor /= 2.0
            self._good = 0
            return False
        self._good += 1
        if self._good == _GROWTH_STEPS:
            self.factor, self._good = 2.0 * self.factor, 0
        return True
