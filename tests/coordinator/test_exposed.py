"""A run whose coordinator is on the broker's machine, and whose devices reach that unprotected."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab
from msgspec.structs import replace
from scripted import ScriptedDevice, honest

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import Invitation
from fimi.record.reader import read_run
from fimi.report.words import exposed_in_words


class Apart(ScriptedDevice):
    """The second device says that it came over a network, without protection."""

    def profile(self, invitation: Invitation) -> Profile:
        return replace(super().profile(invitation), exposed=self.name == "device-2")


@pytest.mark.parametrize("kind", [ScriptedDevice, Apart])
def test_the_record_names_who_was_unprotected(
    kind: type[ScriptedDevice],
    a_broker: EmbeddedBroker,
    fleet_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lab.ScriptedDevice", kind)
    lab = Lab(a_broker, fleet_name, tmp_path)
    lab.run(honest(1.0), honest(2.0), rounds=1)
    exposed = read_run(lab.path).info.exposed
    if kind is ScriptedDevice:
        assert not exposed
        return
    assert exposed == "by device-2 without TLS, or without a password or certificate"
    assert exposed_in_words(exposed).startswith("the broker was used by device-2 without TLS, or")
