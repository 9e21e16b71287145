"""fimi.generator_node.generators.solver: the same numbers as diffusers' schedulers, known to be
right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from fimi.generator_node.generators.solver import SolverName, advance, plan, signal_power
from fimi.generator_node.training.network import SCHEDULE, training_schedule


def reference(solver: SolverName) -> Any:
    if solver == "dpm++":
        return DPMSolverMultistepScheduler(**SCHEDULE, timestep_spacing="trailing")
    return DDIMScheduler(**SCHEDULE, timestep_spacing="trailing", clip_sample=False)


def wobble(images: Any, timestep: int) -> Any:
    """Some velocity: depends on image and time, in NumPy as in PyTorch."""
    return images * 0.7 - images**2 * (0.1 + timestep / 5000)


@pytest.mark.parametrize("solver", ["dpm++", "ddim"])
@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 50])
def test_the_same_as_diffusers(solver: SolverName, steps: int) -> None:
    noise = np.random.default_rng(0).standard_normal((4, 1, 3, 3)).astype(np.float32)
    theirs = reference(solver)
    theirs.set_timesteps(steps)
    expected = torch.from_numpy(noise)
    for timestep in theirs.timesteps:
        velocity = wobble(expected, int(timestep))
        expected = theirs.step(velocity, timestep, expected, return_dict=False)[0]
    images, before = noise, noise
    ours = plan(solver, steps)
    for step in ours:
        images, before = advance(step, images, wobble(images, step.timestep), before)
    assert [step.timestep for step in ours] == theirs.timesteps.tolist()
    assert np.allclose(images, expected.numpy(), atol=2e-4 * np.abs(expected.numpy()).max())


def test_the_schedule_is_that_of_training() -> None:
    assert np.allclose(signal_power(1000), training_schedule().alphas_cumprod.numpy(), rtol=1e-5)


def test_a_perfect_network_gives_the_image() -> None:
    """v = αε − σx for a known image: every step must keep it as the prediction."""
    random = np.random.default_rng(1)
    image = random.standard_normal((2, 1, 4, 4)).astype(np.float32)
    for solver in ("dpm++", "ddim"):
        noisy = before = random.standard_normal(image.shape).astype(np.float32)
        for step in plan(solver, 7):
            velocity = (step.alpha * noisy - image) / step.sigma
            noisy, before = advance(step, noisy, velocity, before)
        assert np.allclose(noisy, image, atol=1e-4)


@pytest.mark.parametrize(("solver", "steps"), [("euler", 5), ("ddim", 0), ("dpm++", 1001)])
def test_out_of_range(solver: Any, steps: int) -> None:
    with pytest.raises(ValueError, match=r"solver is 'euler'|steps is"):
        plan(solver, steps)
