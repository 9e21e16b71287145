"""A device's codings: what it says and what it owes are together what it has learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.edge_agent.update_coder import UpdateCoder, model_of
from fimi.learning.training import coded, tensors
from fimi.learning.training.coding import Coding
from fimi.learning.training.tensors import UpdateRefusedError
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import RoundClosed, RoundStart

MODEL = {
    "conv": np.linspace(-1, 1, 54, dtype=np.float32).reshape(3, 2, 3, 3),
    "head": np.linspace(2, -2, 40, dtype=np.float32).reshape(4, 10),
    "bias": np.arange(4, dtype=np.float32),
}
SHAPES = coded.shapes_of(MODEL)
RAW = len(tensors.dump(MODEL))
OFFER = Offer(holder="coordinator", digest="0" * 64, size_bytes=RAW, media="x")
WHERE: dict[str, Any] = {"run": "r", "device": "d"}


def start(number: int, update: Coding, model: Coding | None = None) -> RoundStart:
    return RoundStart(
        **WHERE,
        round=number,
        model=OFFER,
        training=TrainingSettings(),
        seed=5,
        fleet_time_s=0.0,
        model_coding=model or Coding(),
        update_coding=update,
        model_bytes=RAW,
    )


def closed(number: int, accepted: bool) -> RoundClosed:
    return RoundClosed(**WHERE, round=number, accepted=accepted, fleet_time_s=1.0)


def changed(seed: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    return {n: t + draws.laplace(size=t.shape).astype(np.float32) for n, t in MODEL.items()}


@given(
    st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=8),
    st.floats(0.02, 0.9),
)
def test_what_was_said_and_what_is_owed_are_all_changes_of_accepted_rounds(
    rounds: list[tuple[int, bool]], share: float
) -> None:
    coding = Coding(kind="top-k", share=share)
    coder = UpdateCoder()
    said = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    learned = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for number, (seed, accepted) in enumerate(rounds, 1):
        trained = changed(seed)
        payload, _ = coder.code(start(number, coding), 0, MODEL, trained)
        coder.settle(closed(number, accepted))
        if accepted:
            for name, tensor in coded.decode(payload, coding, SHAPES).items():
                said[name] += tensor
                learned[name] += trained[name] - MODEL[name]
    for name, shape in SHAPES.items():
        owed = coder.owed.get(name, np.zeros(shape))
        if len(shape) < 2:
            assert name not in coder.owed, "vectors are said in full"
        np.testing.assert_allclose(said[name] + owed, learned[name], atol=2e-5)


def test_a_round_that_is_not_closed_owes_nothing_and_a_new_start_none_of_the_past() -> None:
    coding = Coding(kind="top-k", share=0.1)
    coder = UpdateCoder()
    first, _ = coder.code(start(1, coding), 0, MODEL, changed(1))
    again, _ = coder.code(start(1, coding), 0, MODEL, changed(1))
    assert first == again, "a round that is repeated is said alike"
    assert not coder.owed
    coder.settle(closed(2, True))
    assert not coder.owed, "another round was closed"
    coder.code(start(3, coding), 0, MODEL, changed(1))
    coder.settle(closed(3, True))
    assert coder.owed
    coder.clear()
    assert not coder.owed


def test_without_feedback_nothing_is_owed() -> None:
    coder = UpdateCoder()
    coding = Coding(kind="top-k", share=0.1, feedback=False)
    payload, figures = coder.code(start(1, coding), 0, MODEL, changed(1))
    coder.settle(closed(1, True))
    assert not coder.owed
    change = {name: changed(1)[name] - MODEL[name] for name in MODEL}
    there = coded.decode(payload, coding, SHAPES)
    wrong = sum(float(((there[n] - change[n]).astype(float) ** 2).sum()) for n in MODEL)
    whole = sum(float((change[n].astype(float) ** 2).sum()) for n in MODEL)
    assert figures is not None
    assert figures.error == pytest.approx((wrong / whole) ** 0.5, rel=1e-6)
    assert (figures.raw_bytes, figures.coded_bytes) == (RAW, len(payload))
    assert figures.coding == "top-k 10 % without feedback"


def test_what_is_not_coded_is_as_it_was() -> None:
    trained = changed(3)
    payload, figures = UpdateCoder().code(start(1, Coding()), 0, {}, trained)
    assert payload == tensors.dump(trained)
    assert figures is None
    back = model_of(start(1, Coding()), tensors.dump(MODEL))
    np.testing.assert_array_equal(back["conv"], MODEL["conv"])


def test_draws_follow_from_seed_device_and_round() -> None:
    coding = Coding(kind="int8", rounding="stochastic")

    def said(device: int, number: int) -> bytes:
        return UpdateCoder().code(start(number, coding), device, MODEL, changed(3))[0]

    assert said(0, 1) == said(0, 1)
    assert len({said(0, 1), said(1, 1), said(0, 2)}) == 3


@pytest.mark.parametrize("kind", ["fp16", "int8"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_coded_model_arrives_and_a_larger_one_is_refused(kind: Any, compress: bool) -> None:
    coding = Coding(kind=kind, compress=compress)
    order = start(1, Coding(), coding)
    payload = coded.encode(MODEL, coding)
    back = model_of(order, payload)
    assert coded.shapes_of(back) == SHAPES
    np.testing.assert_array_equal(back["bias"], MODEL["bias"])
    np.testing.assert_allclose(back["head"], MODEL["head"], atol=2 / 254 + 1e-6)
    large = coded.encode({"w": np.zeros((100, 1000), np.float32)}, coding)
    with pytest.raises(UpdateRefusedError):
        model_of(order, large)


def test_a_training_that_left_no_number_is_named() -> None:
    broken = {**MODEL, "head": np.full((4, 10), np.inf, np.float32)}
    with pytest.raises(ValueError, match="'head' holds 40 values that are not finite"):
        UpdateCoder().code(start(1, Coding(kind="int8")), 0, MODEL, broken)
