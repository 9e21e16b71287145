"""A contract for tests that need one, whatever is in it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from fimi.learning.data.contract import Contract
from fimi.learning.data.dataset import Dataset

DIGITS = Contract(
    dataset="digits",
    image_size=0,
    image_mode="auto",
    limit=0,
    class_names=tuple(map(str, range(10))),
    image_shape=(1, 8, 8),
    samples=1797,
    samples_digest="a" * 64,
    split="writers",
    split_seed=0,
    public_fraction=0.4,
    validation_fraction=0.2,
    test_fraction=0.2,
    seed=0,
    devices=10,
    partition="dirichlet",
    alpha=0.05,
    shards=None,
    min_samples=5,
    partition_digest="b" * 64,
    public_digest="c" * 64,
    validation_digest="f" * 64,
    test_digest="d" * 64,
    overlap_max=0.0,
)
"""Of the digits in form; its digests are made up."""


def of(samples: Dataset, **others: Any) -> Contract:
    """A contract whose training samples are these."""
    return replace(
        DIGITS,
        class_names=samples.class_names,
        image_shape=samples.image_shape,
        samples=len(samples),
        samples_digest=samples.digest(),
        **others,
    )
