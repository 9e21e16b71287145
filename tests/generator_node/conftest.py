"""A real diffusion model, as small as they come, saved once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fimi.generator_node.generators.diffusion import DiffusionGenerator
from fimi.generator_node.training.diffusion_training import DiffusionSettings, Trained, train
from fimi.generator_node.training.network import NetworkSettings
from fimi.learning.data.dataset import Dataset, Split, load_digits, split

TINY = DiffusionSettings(
    steps=2,
    batch_size=16,
    judge_steps=2,
    network=NetworkSettings(channels=(8,), norm_groups=4),
    seed=3,
)


@pytest.fixture(scope="session")
def parts() -> Split:
    return split(load_digits())


@pytest.fixture(scope="session")
def small_public(parts: Split) -> Dataset:
    return parts.public.subset(np.arange(40), "digits/few")


@pytest.fixture(scope="session")
def tiny(small_public: Dataset) -> Trained:
    return train(small_public, TINY, name="tiny")


@pytest.fixture(scope="session")
def tiny_folder(tiny: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_generator(tiny_folder: Path) -> DiffusionGenerator:
    return DiffusionGenerator.load(tiny_folder, steps=2)
