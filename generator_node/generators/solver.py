"""The denoising steps as coefficients of linear updates.

There are two samplers, for a v-prediction model with the squared-cosine schedule. Their
coefficients are known before the first image is drawn. The updates here are for NumPy arrays; for
PyTorch, diffusers' schedulers do the same (tests compare them).

With ᾱ the share of signal power left at a time step, α = √ᾱ, σ = √(1 − ᾱ), λ = log(α/σ), and the
predicted image x̂ = αx − σv:

* *DPM-Solver++* of order 2, multistep (Lu et al., arXiv:2211.01095, algorithm 2), with
  h = λ′ − λ and r = h_before/h:  x′ = (σ′/σ) x − α′(e^(−h) − 1) (x̂ + (x̂ − x̂_before)/(2r));
  of order 1 in the first and the last step;
* *DDIM* (Song et al., arXiv:2010.02502, η = 0):  x′ = α′ x̂ + σ′ ε̂  with  ε̂ = αv + σx,
  which is x′ = (σ′/σ) x + (α′ − σ′α/σ) x̂.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float32]
SolverName = Literal["dpm++", "ddim"]
SOLVERS: tuple[SolverName, ...] = ("dpm++", "ddim")

LARGEST_BETA = 0.999


class Step(Struct, frozen=True, gc=False):
    """One step: x̂ = alpha x − sigma v, then x′ = keep x + now x̂ + before x̂_before.

    Attributes:
        timestep: the time step, an input of the network.
        alpha: amplitude of the signal before the step.
        sigma: amplitude of the noise before the step.
        keep: weight of the noisy image.
        now: weight of the predicted image.
        before: weight of the image predicted a step earlier; 0 in the first step.
    """

    timestep: int
    alpha: float
    sigma: float
    keep: float
    now: float
    before: float


def signal_power(count: int) -> NDArray[np.float64]:
    """ᾱ of the squared-cosine schedule, (count,); Nichol and Dhariwal, arXiv:2102.09672."""

    def curve(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - curve((i + 1) / count) / curve(i / count), LARGEST_BETA) for i in range(count)]
    # In single precision, as the networks were trained with it.
    powers: NDArray[np.float64] = np.cumprod(1 - np.array(betas, np.float32)).astype(np.float64)
    return powers


def check_sampling(
    solver: str, steps: int, guidance: float = 1.0, training_steps: int = 1000
) -> None:
    """Check the settings of a sampler.

    Raises:
        ValueError: there is no such solver, or steps or guidance are out of range.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}; there are {', '.join(SOLVERS)}")
    if not 1 <= steps <= training_steps:
        raise ValueError(f"steps is {steps}; a sampler takes 1 to {training_steps} denoising steps")
    if not 0 <= guidance <= 50:
        raise ValueError(f"guidance is {guidance}; take a value from 0 to 50")


def plan(solver: SolverName, steps: int, *, training_steps: int = 1000) -> tuple[Step, ...]:
    """The steps from pure noise to an image.

    Args:
        solver: ``"dpm++"`` or ``"ddim"``.
        steps: number of steps, with "trailing" spacing: the first is the noisiest time step.
        training_steps: number of time steps with which the network was trained.

    Raises:
        ValueError: there is no such solver, or steps are out of range.
    """
    check_sampling(solver, steps, training_steps=training_steps)
    times = np.round(np.arange(training_steps, 0, -training_steps / steps)[:steps]).astype(int) - 1
    powers = np.append(signal_power(training_steps)[times], 1.0)
    alphas, sigmas = np.sqrt(powers), np.sqrt(1 - powers)
    with np.errstate(divide="ignore"):
        lambdas = np.log(alphas) - np.log(sigmas)
    done: list[Step] = []
    for i in range(steps):
        keep = float(sigmas[i + 1] / sigmas[i])
        now, before = float(alphas[i + 1] - keep * alphas[i]), 0.0
        if solver == "dpm++" and 0 < i < steps - 1:
            # now is −α′(e^(−h) − 1), the weight of x̂ at order 1
            ratio = float((lambdas[i] - lambdas[i - 1]) / (lambdas[i + 1] - lambdas[i]))
            before = -now / (2 * ratio)
            now -= before
        done.append(
            Step(
                timestep=int(times[i]),
                alpha=float(alphas[i]),
                sigma=float(sigmas[i]),
                keep=keep,
                now=now,
                before=before,
            )
        )
    return tuple(done)


def advance(step: Step, noisy: Floats, velocity: Floats, before: Floats) -> tuple[Floats, Floats]:
    """The less noisy images after a step, and the predicted ones.

    Args:
        step: the step.
        noisy: the noisy images, (N, channels, height, width).
        velocity: the network's prediction for them.
        before: those predicted a step earlier; ignored in the first step.
    """
    predicted: Floats = np.float32(step.alpha) * noisy - np.float32(step.sigma) * velocity
    result: Floats = np.float32(step.keep) * noisy + np.float32(step.now) * predicted
    if step.before:
        result += np.float32(step.before) * before
    return result, predicted
