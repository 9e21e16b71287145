"""GenFL's equation (1) and the policies of its weights."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.coordinator.mixing import (
    client_shares,
    error,
    mix,
    server_weight,
    weight_by_performance,
)
from fimi.coordinator.settings import ClientWeights, StrategySettings
from fimi.learning.training.slices import HeldModel


def model(value: float) -> dict[str, np.ndarray]:
    return {"w": np.full((2, 2), value, np.float32), "b": np.array([10 * value], np.float32)}


def held(value: float) -> HeldModel:
    return HeldModel(model(value))


class TestMix:
    def test_by_hand(self) -> None:
        # ρ = 30/40 and 10/40: Σ ρ ω = 0.75 · 1 + 0.25 · 5 = 2; 0.7 · 2 + 0.3 · 10 = 4.4
        mixed = mix([held(1.0), held(5.0)], [30.0, 10.0], model(10.0), 0.3)
        np.testing.assert_allclose(mixed["w"], 4.4, rtol=1e-6)
        np.testing.assert_allclose(mixed["b"], 44.0, rtol=1e-6)

    @pytest.mark.parametrize(("weight", "value"), [(0.0, 2.0), (1.0, 10.0)])
    def test_either_alone(self, weight: float, value: float) -> None:
        mixed = mix([held(1.0), held(5.0)], [30.0, 10.0], model(10.0), weight)
        np.testing.assert_allclose(mixed["w"], value, rtol=1e-6)

    @pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
    def test_the_weights_must_add_up_to_one(self, weight: float) -> None:
        with pytest.raises(ValueError, match="κ1"):
            mix([held(1.0)], [1.0], model(2.0), weight)

    def test_nothing_to_mix_with(self) -> None:
        with pytest.raises(ValueError, match="no update"):
            mix([], [], model(2.0), 0.5)


class TestPolicies:
    def test_constant(self) -> None:
        settings = StrategySettings(server_weight=0.4)
        assert [server_weight(settings, n, 3) for n in (1, 2, 3)] == [0.4, 0.4, 0.4]

    def test_scheduled(self) -> None:
        settings = StrategySettings(weights="scheduled", server_weight=0.5, server_weight_end=0.1)
        found = [server_weight(settings, n, 5) for n in range(1, 6)]
        assert found == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])
        assert server_weight(settings, 1, 1) == 0.5

    def test_performance_by_hand(self) -> None:
        # 98 looks: (19.6 + 1)/100 and (9.8 + 1)/100
        assert weight_by_performance(0.8, 0.9, 98) == pytest.approx(20.6 / (20.6 + 10.8))

    @given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**6))
    def test_the_better_model_weighs_more_and_none_takes_all(
        self, federated: float, augmented: float, n: int
    ) -> None:
        weight = weight_by_performance(federated, augmented, n)
        assert 0 < weight < 1
        if augmented > federated:
            assert weight >= 0.5
        assert weight_by_performance(augmented, federated, n) == pytest.approx(1 - weight)


POLICIES: tuple[ClientWeights, ...] = ("size", "quality", "contribution")
JUDGED = st.lists(st.tuples(st.integers(1, 10**6), st.floats(1e-6, 1)), min_size=1, max_size=9)


class TestClientShares:
    def test_by_hand(self) -> None:
        # quality: 30/0.1 and 10/0.5, 300 and 20; contribution: 30 · 0.1 and 10 · 0.5, 3 and 5
        found = [client_shares(policy, [30, 10], [0.1, 0.5]) for policy in POLICIES]
        assert found[0] == pytest.approx([0.75, 0.25])
        assert found[1] == pytest.approx([300 / 320, 20 / 320])
        assert found[2] == pytest.approx([3 / 8, 5 / 8])

    def test_an_error_has_never_seen_all(self) -> None:
        assert (error(1.0, 98), error(0.0, 98), error(0.5, 98)) == (0.01, 0.99, 0.5)

    @given(st.sampled_from(POLICIES), JUDGED, st.randoms(use_true_random=False))
    def test_shares_of_one_in_any_order(
        self, policy: ClientWeights, judged: list[tuple[int, float]], order: Random
    ) -> None:
        shares = client_shares(policy, *zip(*judged, strict=True))
        assert min(shares) >= 0
        assert sum(shares) == pytest.approx(1)
        places = list(range(len(judged)))
        order.shuffle(places)
        moved = client_shares(policy, *zip(*(judged[i] for i in places), strict=True))
        assert moved == pytest.approx([shares[i] for i in places])

    @given(st.floats(1e-3, 1), st.floats(1e-3, 1), st.integers(1, 1000))
    def test_who_is_judged_better_has_more(self, one: float, other: float, samples: int) -> None:
        quality = client_shares("quality", [samples, samples], [one, other])
        contribution = client_shares("contribution", [samples, samples], [one, other])
        if one < other:
            assert quality[0] > quality[1]
            assert contribution[0] < contribution[1]
