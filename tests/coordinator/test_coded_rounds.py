"""Rounds with coded updates over a real broker, among devices that send something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zstandard
from lab import Lab, statuses
from scripted import MODEL, Behaviour, ScriptedDevice, sends

from fimi.coordinator.settings import TransferSettings
from fimi.edge_agent.update_coder import UpdateCoder, model_of
from fimi.learning.training import coded, tensors
from fimi.learning.training.coding import Coding
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages import RoundStart


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


def coder(step: float) -> Behaviour:
    """Adds ``step`` to every parameter, in the coding asked for."""
    own = UpdateCoder()

    def behave(device: ScriptedDevice, start: RoundStart) -> None:
        model = model_of(start, device.peer.transfers.fetch(start.model, 5.0))
        trained = {name: tensor + np.float32(step) for name, tensor in model.items()}
        update, _ = own.code(start, 0, model, trained)
        device.offer(start, update)
        device.report(start)

    return behave


def test_only_updates_in_the_coding_asked_for_count(lab: Lab) -> None:
    coding = Coding(kind="int8", compress=True)
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    federation = lab.run(
        coder(1.0),
        coder(3.0),
        sends(tensors.dump(MODEL)),
        sends(coded.encode(MODEL, Coding(kind="fp16", compress=True))),
        sends(bomb),
        rounds=1,
        transfer=TransferSettings(model_coding="int8", update_coding="int8", compress=True),
    )
    accepted = ["accepted", "accepted", "refused", "refused", "refused"]
    assert list(statuses(federation).values()) == accepted
    (only,) = federation.rounds
    reasons = {entry.device: entry.reason for entry in only.devices}
    assert "compressed payload is damaged" in reasons["device-3"]
    assert "not that of this model in int8 + zstd" in reasons["device-4"]
    assert "unpacks to 50000000 bytes" in reasons["device-5"]
    np.testing.assert_allclose(federation.model["w"], MODEL["w"] + 2.0, rtol=1e-5)
    np.testing.assert_array_equal(federation.model["b"], MODEL["b"] + 2.0)
    assert only.model_coded is not None
    assert only.model_coded.coding == coding.words


def test_a_small_change_survives_a_coded_model_round_after_round(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change far below a step of the coding: decoded models alone would never move."""
    weights = MODEL["w"].copy()
    weights[0, 0] = 127.0  # a step of its channel is 1
    monkeypatch.setitem(MODEL, "w", weights)
    federation = lab.run(coder(0.1), rounds=3, transfer=TransferSettings(model_coding="int8"))
    np.testing.assert_allclose(federation.model["w"], weights + 0.3, rtol=1e-4)
