"""Rounds with coded updates over a real broker, among devices that send something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from fimi.messaging.messages.orders import RoundStart
from fimi.record.events import Credited, Event


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


def coder(
    step: float,
    busy_s: float = 1.0,
    before: Callable[[ScriptedDevice, RoundStart], None] | None = None,
) -> Behaviour:
    """Adds ``step`` to every parameter, in the coding asked for; ``before`` it offers that."""
    own = UpdateCoder()

    def behave(device: ScriptedDevice, start: RoundStart) -> None:
        model = model_of(start, device.peer.transfers.fetch(start.model, 5.0))
        trained = {name: tensor + np.float32(step) for name, tensor in model.items()}
        trained["b"] += np.float32(0.001 * start.round)  # no two rounds have the same update
        update, _ = own.code(start, 0, model, trained)
        if before is not None:
            before(device, start)
        device.offer(start, update)
        device.report(start, busy_s=busy_s)

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
    np.testing.assert_allclose(federation.model["b"], MODEL["b"] + 2.001, rtol=1e-6)
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


ADD: dict[str, Any] = {"late_updates": "add", "late_exponent": 0.5}
CODED = TransferSettings(update_coding="int8")
"""A change that is the same everywhere is whole steps of 8 bits, so that nothing is lost."""


def with_one_late() -> list[float]:
    """Two rounds of as many samples each: 1 more, and 8 more one round late at a weight of √½."""
    late = 0.5**0.5
    return [1.0, (2.0 + late * 8.0) / (1.0 + late)]


def test_a_late_change_is_added_to_the_model_of_its_round(lab: Lab) -> None:
    lab.run(coder(1.0), coder(8.0, busy_s=15.0), rounds=2, transfer=CODED, **ADD)
    assert [float(m["w"][0, 0]) for m in lab.models] == pytest.approx(with_one_late(), rel=1e-5)


def test_one_that_comes_after_its_round_was_closed_as_well(lab: Lab) -> None:
    second, stored = threading.Event(), threading.Event()

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            second.set()
            assert stored.wait(30.0)

    def slow(device: ScriptedDevice, start: RoundStart) -> None:
        device.tell()
        assert second.wait(30.0)

    def once(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 1:
            coder(8.0, before=slow)(device, start)

    def listen(event: Event) -> None:
        if isinstance(event, Credited) and event.round == 1:
            stored.set()

    lab.on_event = listen
    lab.run(
        coder(1.0, before=waits),
        once,
        rounds=2,
        kinds="physical",
        deadline_s=600.0,
        round_quorum=1,
        transfer=CODED,
        **ADD,
    )
    assert [float(m["w"][0, 0]) for m in lab.models] == pytest.approx(with_one_late(), rel=1e-5)
