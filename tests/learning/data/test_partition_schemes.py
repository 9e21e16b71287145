"""fimi.learning.data.partition_schemes: one contract for every way to divide data, then each one's
point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.learning.data.partition_schemes import (
    LABEL_DIRICHLET,
    NEEDS_ALPHA,
    SCHEMES,
    Dealing,
    divide,
)
from fimi.learning.data.partition_summary import label_counts, summarise

LABELS = np.random.default_rng(5).permutation(np.repeat(np.arange(10, dtype=np.int64), 60))


def sizes(scheme: str, dealing: Dealing) -> list[int]:
    return [len(part) for part in divide(scheme, LABELS, dealing)]


@pytest.mark.parametrize("scheme", SCHEMES)
class TestContract:
    @settings(max_examples=40, deadline=None)
    @given(
        labels=st.lists(st.integers(0, 6), min_size=24, max_size=90),
        devices=st.integers(1, 12),
        alpha=st.floats(1e-300, 1e300),
        seed=st.integers(0, 2**63),
    )
    def test_every_sample_goes_to_exactly_one_device(
        self, scheme: str, labels: list[int], devices: int, alpha: float, seed: int
    ) -> None:
        dealing = Dealing(devices=devices, alpha=alpha, seed=seed)
        parts = divide(scheme, np.array(labels, np.int64), dealing)
        assert len(parts) == devices
        assert all(part.dtype == np.intp for part in parts)
        assert all((np.diff(part) > 0).all() for part in parts)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))

    @pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
    @pytest.mark.parametrize("devices", [1, 7, 40])
    def test_everybody_has_enough(self, scheme: str, alpha: float, devices: int) -> None:
        dealing = Dealing(devices=devices, alpha=alpha, seed=1, min_samples=12)
        assert min(sizes(scheme, dealing)) >= 12

    def test_the_seed_decides(self, scheme: str) -> None:
        first, again, other = (
            divide(scheme, LABELS, Dealing(devices=5, seed=s)) for s in (1, 1, 2)
        )
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))

    def test_too_few_samples_for_all(self, scheme: str) -> None:
        with pytest.raises(ValueError, match="10 devices with at least 61 samples each need 610"):
            divide(scheme, LABELS, Dealing(devices=10, seed=0, min_samples=61))

    def test_no_devices(self, scheme: str) -> None:
        with pytest.raises(ValueError, match="devices is 0"):
            divide(scheme, LABELS, Dealing(devices=0, seed=0))


@pytest.mark.parametrize("scheme", NEEDS_ALPHA)
def test_alpha_must_be_positive(scheme: str) -> None:
    with pytest.raises(ValueError, match="alpha is 0"):
        divide(scheme, LABELS, Dealing(devices=2, seed=0, alpha=0.0))


@pytest.mark.parametrize("scheme", LABEL_DIRICHLET)
def test_small_alpha_is_far_from_the_population(scheme: str) -> None:
    emd = []
    for alpha in (0.05, 0.5, 5.0, 1e5):
        parts = divide(scheme, LABELS, Dealing(devices=10, seed=3, alpha=alpha))
        emd.append(summarise(label_counts(LABELS, parts, 10)).mean_emd or 0.0)
    assert emd == sorted(emd, reverse=True)
    assert emd[0] > 1.0
    assert emd[-1] < 0.5


@pytest.mark.parametrize("scheme", ["balanced", "iid"])
def test_sizes_alike(scheme: str) -> None:
    got = sizes(scheme, Dealing(devices=7, seed=0, alpha=0.05))
    assert max(got) - min(got) <= 1


def test_shards_hold_few_classes() -> None:
    """60 samples of a class, 20 shards of 30: no shard has more than one class."""
    parts = divide("shards", LABELS, Dealing(devices=10, seed=0, shards=2))
    held = (label_counts(LABELS, parts, 10) > 0).sum(axis=1)
    assert held.max() <= 2
    assert {len(part) for part in parts} == {60}


def test_shards_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="10 devices with 61 shards each need 610 samples"):
        divide("shards", LABELS, Dealing(devices=10, seed=0, shards=61))
    with pytest.raises(ValueError, match="0 shards per device"):
        divide("shards", LABELS, Dealing(devices=10, seed=0, shards=0))


def test_shards_that_leave_one_with_too_little() -> None:
    """65 samples in 27 shards of two or three: somebody gets three of the small ones."""
    with pytest.raises(ValueError, match="would hold 6 samples, fewer than min_samples 7"):
        divide("shards", LABELS[:65], Dealing(devices=9, seed=0, shards=3, min_samples=7))


def test_quantity_is_uneven_in_size_only() -> None:
    dealing = Dealing(devices=5, seed=1, alpha=0.5, min_samples=20)
    parts = divide("quantity", LABELS, dealing)
    got = [len(part) for part in parts]
    assert max(got) > 3 * min(got)
    skew = summarise(label_counts(LABELS, parts, 10))
    assert skew.mean_emd is not None
    assert skew.mean_emd < 0.35


def test_unknown() -> None:
    with pytest.raises(ValueError, match="unknown partition 'pathological'; there are dirichlet"):
        divide("pathological", LABELS, Dealing(devices=2, seed=0))
