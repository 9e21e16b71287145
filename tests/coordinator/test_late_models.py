"""Models of earlier rounds: on the disk, each for the updates of its own round."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.coordinator.late_models import MODELS, LateModels
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.settings import TransferSettings
from fimi.edge_agent.update_coder import UpdateCoder, model_of
from fimi.learning.training import tensors
from fimi.learning.training.tensors import UpdateRefusedError
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import RoundStart
from fimi.testbed.run_folder import tidy

TRANSFERS = st.builds(
    TransferSettings,
    model_coding=st.sampled_from(["fp32", "fp16", "int8"]),
    update_coding=st.sampled_from(["fp32", "fp16", "int8", "top-k"]),
    compress=st.booleans(),
)
INT8 = TransferSettings(update_coding="int8")
LARGE = 1_000_000


def model(number: int, size: int = 30) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(number)
    return {
        "w": draws.standard_normal((size // 10, 10)).astype(np.float32),
        "b": draws.standard_normal(3).astype(np.float32),
        "n": np.array(number, np.float32),
    }


def bytes_of(found: bytes | Path) -> bytes:
    return found if isinstance(found, bytes) else found.read_bytes()


def update_of(payload: RoundPayload, number: int) -> bytes:
    """What a device sends that has added one tenth to every parameter."""
    start = RoundStart(
        run="r",
        device="d",
        round=number,
        model=Offer(holder="coordinator", digest="0" * 64, size_bytes=1, media="safetensors"),
        training=TrainingSettings(),
        seed=0,
        fleet_time_s=0.0,
        model_coding=payload.of_model,
        update_coding=payload.of_update,
        model_bytes=payload.model_bytes,
    )
    sent = model_of(start, payload.data)
    return UpdateCoder().code(start, 0, sent, {n: t + np.float32(0.1) for n, t in sent.items()})[0]


@settings(max_examples=40, deadline=None)
@given(TRANSFERS, st.integers(1, 4), st.booleans())
def test_a_late_update_is_what_it_would_have_been_in_its_round(
    transfer: TransferSettings, rounds_late: int, goes_on: bool
) -> None:
    """Whichever process kept the model, and whatever the model is by then."""
    with tempfile.TemporaryDirectory() as folder:
        models = LateModels(Path(folder) / MODELS, transfer)
        payloads = {n: RoundPayload(model(n), transfer) for n in range(1, rounds_late + 2)}
        for number, payload in payloads.items():
            models.keep(number, payload, number - rounds_late)
        if goes_on:
            models = LateModels(Path(folder) / MODELS, transfer)
        update, now = update_of(payloads[1], 1), model(rounds_late + 1)
        whole = tensors.dump(payloads[1].plain(update))
        assert bytes_of(models.plain(1, update, now)) == whole
        (path := Path(folder) / "update").write_bytes(update)
        assert bytes_of(models.plain(1, path, now)) == whole
        models.clear()
        assert list(Path(folder).iterdir()) == [path]


def test_the_models_take_no_memory_however_many_there_are(tmp_path: Path) -> None:
    """One more than ``rounds.late_rounds`` lie on the disk, and older ones do not."""
    models, now, update = LateModels(tmp_path / MODELS, INT8), model(30, LARGE), b""
    tracemalloc.start()
    try:
        for number in range(1, 31):
            payload = RoundPayload(model(number, LARGE), INT8)
            models.keep(number, payload, number - 20)
            update = update_of(payload, number) if number == 10 else update
            del payload
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        whole = bytes_of(models.plain(10, update, now))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = 4 * LARGE
    assert held < len(update) + 0.05 * size
    assert peak < 1.8 * size, "the decoded model, and a mask of it"
    assert len(whole) > size
    assert {path.stem for path in (tmp_path / MODELS).glob("*.*")} == {
        str(n) for n in range(10, 31)
    }


def test_a_run_that_is_over_keeps_none(tmp_path: Path) -> None:
    """Also where its process was killed before it could delete them."""
    LateModels(tmp_path / MODELS, INT8).keep(1, RoundPayload(model(1), INT8), 0)
    assert any((tmp_path / MODELS).iterdir())
    tidy(tmp_path)
    assert not any(tmp_path.iterdir())


def test_without_the_model_of_its_round_an_update_is_refused(tmp_path: Path) -> None:
    """To no other model it is added."""
    models = LateModels(tmp_path / MODELS, INT8)
    payload = RoundPayload(model(1), INT8)
    models.keep(2, payload, 0)
    with pytest.raises(UpdateRefusedError, match="the model of round 1, which its change is to be"):
        models.plain(1, update_of(payload, 1), model(2))
    (tmp_path / MODELS / "2.safetensors").write_bytes(b"torn")
    with pytest.raises(UpdateRefusedError, match="not safetensors"):
        models.plain(2, update_of(payload, 2), model(2))
    (tmp_path / MODELS / "2.safetensors").unlink()
    (tmp_path / MODELS).rmdir()
    (tmp_path / MODELS).write_text("a file in the way", encoding="utf-8")
    models.keep(3, payload, 0)  # the run goes on without
    with pytest.raises(UpdateRefusedError, match=r"is not there: .*File exists"):
        models.plain(3, update_of(payload, 3), model(2))


@pytest.mark.parametrize("transfer", [TransferSettings(), INT8], ids=["plain", "int8"])
def test_foreign_bytes_are_refused(tmp_path: Path, transfer: TransferSettings) -> None:
    models = LateModels(tmp_path / MODELS, transfer)
    models.keep(1, RoundPayload(model(1), transfer), 0)
    worthless = {name: np.full_like(tensor, np.nan) for name, tensor in model(1).items()}
    for data in (b"", b"\x80\x04}", tensors.dump(worthless), tensors.dump({"w": model(1)["b"]})):
        with pytest.raises(UpdateRefusedError):
            models.plain(1, data, model(1))
