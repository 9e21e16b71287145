"""fimi.learning.data.partition: everybody gets something, nothing is lost, the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.learning.data import partition

LABELS = np.repeat(np.arange(10, dtype=np.int64), 70)


def evenness(alpha: float) -> float:
    """Mean over classes of the largest share that one of ten devices holds."""
    parts = partition.dirichlet(LABELS, 10, alpha, seed=3)
    counts = np.array([np.bincount(LABELS[part], minlength=10) for part in parts])
    return float((counts.max(axis=0) / counts.sum(axis=0)).mean())


class TestInvariants:
    @settings(max_examples=100, deadline=None)
    @given(
        labels=st.lists(st.integers(0, 6), max_size=120),
        devices=st.integers(1, 12),
        alpha=st.floats(1e-300, 1e300),
        seed=st.integers(0, 2**63),
    )
    def test_every_sample_goes_to_exactly_one_device(
        self, labels: list[int], devices: int, alpha: float, seed: int
    ) -> None:
        parts = partition.dirichlet(np.array(labels, np.int64), devices, alpha, seed)
        assert len(parts) == devices
        assert all(part.dtype == np.intp for part in parts)
        assert all((np.diff(part) > 0).all() for part in parts)
        assert sorted(np.concatenate(parts)) == list(range(len(labels)))

    @settings(max_examples=50, deadline=None)
    @given(
        devices=st.integers(1, 10),
        alpha=st.floats(0.3, 100),
        seed=st.integers(0, 2**31),
        min_samples=st.integers(0, 15),
    )
    def test_everybody_has_enough(
        self, devices: int, alpha: float, seed: int, min_samples: int
    ) -> None:
        parts = partition.dirichlet(LABELS, devices, alpha, seed, min_samples)
        assert min(len(part) for part in parts) >= min_samples

    def test_the_seed_decides(self) -> None:
        first, again = (partition.dirichlet(LABELS, 5, 0.5, seed=1) for _ in range(2))
        other = partition.dirichlet(LABELS, 5, 0.5, seed=2)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))

    def test_samples_of_a_class_are_dealt_at_random(self) -> None:
        """Not the first ones to the first device: neighbours come from the same writer."""
        first = partition.dirichlet(np.zeros(1000, np.int64), 2, 1e6, seed=0)[0]
        assert 400 < first.mean() < 600


class TestAlpha:
    def test_small_is_uneven_and_large_is_alike(self) -> None:
        shares = [evenness(alpha) for alpha in (0.05, 0.5, 5.0, 1e6)]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] > 0.6
        assert shares[-1] == pytest.approx(0.1, abs=0.02)

    def test_mean_share_is_the_same_for_all_devices(self) -> None:
        """Rounding must not favour one of them, the last say."""
        counts = np.zeros(4)
        for seed in range(400):
            parts = partition.dirichlet(np.zeros(5, np.int64), 4, 1.0, seed)
            counts += [len(part) for part in parts]
        assert counts / counts.sum() == pytest.approx(np.full(4, 0.25), abs=0.03)


class TestRefusals:
    @pytest.mark.parametrize(
        ("devices", "alpha", "min_samples", "says"),
        [
            (0, 1.0, 0, "devices is 0"),
            (-3, 1.0, 0, "devices is -3"),
            (5, 0.0, 0, "alpha is 0.0"),
            (5, -1.0, 0, "alpha is -1.0"),
            (5, float("nan"), 0, "alpha is nan"),
            (5, float("inf"), 0, "alpha is inf"),
            (5, 1.0, -1, "min_samples is -1"),
            (10, 1.0, 71, "10 devices with at least 71 samples each need 710, there are 700"),
        ],
    )
    def test_impossible_values(
        self, devices: int, alpha: float, min_samples: int, says: str
    ) -> None:
        with pytest.raises(ValueError, match=says):
            partition.dirichlet(LABELS, devices, alpha, 0, min_samples)


@pytest.mark.parametrize(("devices", "alpha"), [(30, 0.01), (100, 0.05), (120, 100.0)])
def test_many_devices_are_topped_up_rather_than_left_without(devices: int, alpha: float) -> None:
    labels = np.repeat(np.arange(10), 60)
    parts = partition.dirichlet(labels, devices, alpha, 0, 5)
    assert min(map(len, parts)) == 5
    assert sorted(np.concatenate(parts).tolist()) == list(range(600))
    again = partition.dirichlet(labels, devices, alpha, 0, 5)
    assert all((one == other).all() for one, other in zip(parts, again, strict=True))
