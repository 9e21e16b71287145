"""Updates of a round that do not come."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab, statuses
from scripted import MODEL, ScriptedDevice, honest

from fimi.learning.training import tensors
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.orders import RoundStart


def test_one_whose_device_reports_and_does_not_send_it(
    a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was wrong is said, and not what the coordinator made of it."""

    def mute(device: ScriptedDevice, start: RoundStart) -> None:
        monkeypatch.setattr(device.peer.transfers, "on_request", lambda asker, payload: True)
        device.offer(start, tensors.dump(MODEL))
        device.report(start)

    lab = Lab(a_broker, fleet_name, tmp_path)
    federation = lab.run(honest(1.0), mute, rounds=1)
    assert statuses(federation, 1)["device-2"] == "failed"
    (entry,) = (each for each in federation.rounds[0].devices if each.device == "device-2")
    assert entry.reason == "its update was not here when the round was over"
