"""The coordinator's codings: updates are decoded to what devices have learned, sizes are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.coordinator.payloads import PayloadSizes, RoundPayload
from fimi.coordinator.settings import TransferSettings
from fimi.edge_agent.update_coder import UpdateCoder, model_of
from fimi.learning.training import tensors
from fimi.learning.training.coding import Coded
from fimi.learning.training.tensors import UpdateRefusedError
from fimi.learning.training.trainer import Evaluation, TrainingSettings
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import RoundStart
from fimi.record.results import DeviceRound, RoundResult

TRANSFERS = st.builds(
    TransferSettings,
    model_coding=st.sampled_from(["fp32", "fp16", "int8"]),
    update_coding=st.sampled_from(["fp32", "fp16", "int8", "top-k"]),
    rounding=st.sampled_from(["nearest", "stochastic"]),
    top_k_share=st.floats(0.01, 1.0),
    error_feedback=st.booleans(),
    compress=st.booleans(),
)


def model(seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    shapes = {"conv": (4, 2, 3, 3), "head": (5, 40), "bias": (5,)}
    return {n: scale * draws.normal(size=s).astype(np.float32) for n, s in shapes.items()}


def start(payload: RoundPayload) -> RoundStart:
    offer = Offer(
        holder="coordinator",
        digest=tensors.digest(payload.data),
        size_bytes=len(payload.data),
        media="safetensors",
    )
    return RoundStart(
        run="r",
        device="d",
        round=1,
        model=offer,
        training=TrainingSettings(),
        seed=0,
        fleet_time_s=0.0,
        model_coding=payload.of_model,
        update_coding=payload.of_update,
        model_bytes=payload.model_bytes,
    )


def played(
    transfer: TransferSettings, seed: int
) -> tuple[RoundPayload, bytes, dict[str, np.ndarray], Coded | None]:
    """A round of one device: what it sent, and how it has changed the model that it was sent."""
    payload = RoundPayload(model(seed), transfer)
    order = start(payload)
    sent = model_of(order, payload.data)
    trained = {name: value + model(seed + 1, 0.01)[name] for name, value in sent.items()}
    update, figures = UpdateCoder().code(order, 0, sent, trained)
    return payload, update, {n: trained[n] - sent[n] for n in sent}, figures


@given(TRANSFERS, st.integers(0, 1000))
def test_an_update_becomes_the_model_plus_what_the_device_has_changed(
    transfer: TransferSettings, seed: int
) -> None:
    payload, update, change, figures = played(transfer, seed)
    before = model(seed)
    plain = tensors.load(payload.plain(update), like=before)
    wrong, whole = 0.0, 0.0
    for name in before:
        off = plain[name].astype(float) - before[name] - change[name]
        wrong += float((off**2).sum())
        whole += float((change[name].astype(float) ** 2).sum())
    error = 0.0 if figures is None else figures.error
    assert (wrong / whole) ** 0.5 == pytest.approx(error, rel=1e-3, abs=1e-4)
    if transfer.model_coding == transfer.update_coding == "fp32" and not transfer.compress:
        assert payload.plain(update) is update
        assert payload.data == tensors.dump(before)
        assert payload.coded is figures is None


@given(TRANSFERS, st.integers(0, 1000))
def test_the_planned_bytes_are_the_bytes_sent(transfer: TransferSettings, seed: int) -> None:
    sizes = PayloadSizes.of(model(7), transfer)
    payload, update, _, _ = played(transfer, seed)
    if transfer.compress:
        assert sizes.is_guess
        assert sizes.model_bytes == len(RoundPayload(model(7), transfer).data)
    else:
        assert not sizes.is_guess
        assert (sizes.model_bytes, sizes.update_bytes) == (len(payload.data), len(update))


def result(*sent: tuple[str, int], model_bytes: int = 0) -> RoundResult:
    def coded(size: int) -> Coded:
        return Coded(coding="int8 + zstd", raw_bytes=1000, coded_bytes=size, error=0.1)

    return RoundResult(
        number=1,
        start_s=0.0,
        duration_s=1.0,
        evaluation=Evaluation(accuracy=0.5, loss=1.0, class_accuracy=(), samples=1),
        devices=tuple(
            DeviceRound(device=str(k), status=status, coded=coded(size))  # type: ignore[arg-type]
            for k, (status, size) in enumerate(sent)
        ),
        model_coded=coded(model_bytes) if model_bytes else None,
    )


def test_a_guess_follows_the_last_round_and_what_is_known_does_not() -> None:
    guess = PayloadSizes(model_bytes=300, update_bytes=400, is_guess=True)
    guess.learn(result(("accepted", 100), ("accepted", 201), ("late", 900), model_bytes=250))
    assert (guess.model_bytes, guess.update_bytes) == (250, 150)
    guess.learn(result())
    assert (guess.model_bytes, guess.update_bytes) == (250, 150)
    known = PayloadSizes.plain(300)
    known.learn(result(("accepted", 100), model_bytes=250))
    assert (known.model_bytes, known.update_bytes) == (300, 300)


@pytest.mark.parametrize("kind", ["fp16", "int8", "top-k"])
def test_foreign_bytes_and_numbers_are_refused(kind: Any) -> None:
    payload = RoundPayload(model(1), TransferSettings(update_coding=kind))
    for data in (b"", tensors.dump(model(1)), bytes(len(payload.data))):
        with pytest.raises(UpdateRefusedError):
            payload.plain(data)
    huge = {name: np.full(t.shape, 3e38, np.float32) for name, t in model(1).items()}
    with pytest.raises(UpdateRefusedError, match="not finite"):
        RoundPayload(huge, TransferSettings(update_coding=kind, top_k_share=1.0)).plain(
            UpdateCoder().code(
                start(RoundPayload(huge, TransferSettings(update_coding=kind, top_k_share=1.0))),
                0,
                {name: np.zeros_like(t) for name, t in huge.items()},
                huge,
            )[0]
        )
