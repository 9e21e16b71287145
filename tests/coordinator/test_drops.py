"""A connection that drops in a round is no death; a device that stays away is missed in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from forwarding import Forwarding, forwarding
from lab import Lab, statuses
from scripted import MODEL, ScriptedDevice, honest, silent

from fimi.learning.training import tensors
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import UpdateReady
from fimi.messaging.messages.orders import RoundStart
from fimi.messaging.topics import COORDINATOR
from fimi.record.events import DeviceLost, DeviceRefused, Event, RoundStarted

FOR_EVER_S = 600.0


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


@pytest.fixture
def link(a_broker: EmbeddedBroker) -> Iterator[Forwarding]:
    with forwarding(a_broker.address) as found:
        yield found


@pytest.mark.parametrize("how", ["shut", "freeze"])
def test_a_device_that_is_away_for_a_while_keeps_its_place(
    how: str, lab: Lab, link: Forwarding
) -> None:
    def drops(device: ScriptedDevice, start: RoundStart) -> None:
        getattr(link, how)()
        update = {name: value + np.float32(3.0) for name, value in MODEL.items()}
        offer = device.peer.transfers.serve(tensors.dump(update), "safetensors")
        device.tell(UpdateReady(run=start.run, device=device.name, round=1, update=offer))
        assert device.peer.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=60.0)
        device.report(start)

    def listen(event: Event) -> None:
        if isinstance(event, DeviceLost):
            link.open()

    lab.on_event = listen
    federation = lab.run(
        honest(1.0),
        drops,
        rounds=1,
        wall_timeout_s=FOR_EVER_S,
        addresses={1: link.address},
    )
    assert statuses(federation) == {"device-1": "accepted", "device-2": "accepted"}
    np.testing.assert_allclose(federation.model["w"], 2.0)
    (lost,) = lab.said(DeviceLost)
    assert lost.reason == "went offline; its place is kept"  # type: ignore[attr-defined]


def test_one_that_stays_away_is_missed_after_the_grace_time(lab: Lab, link: Forwarding) -> None:
    def drops(device: ScriptedDevice, start: RoundStart) -> None:
        link.shut()
        device.stop.set()

    began_s = time.monotonic()
    federation = lab.run(
        honest(1.0),
        drops,
        rounds=2,
        wall_timeout_s=FOR_EVER_S,
        grace_s=1.5,
        addresses={1: link.address},
    )
    assert time.monotonic() - began_s < FOR_EVER_S / 4
    assert statuses(federation, 1) == {"device-1": "accepted", "device-2": "missing"}
    assert statuses(federation, 2) == {"device-1": "accepted", "device-2": "absent"}
    assert [d.outcome for d in federation.rounds[0].devices] == ["ok", "absent"]


def test_a_goodbye_is_not_waited_for(lab: Lab) -> None:
    def leaves(device: ScriptedDevice, start: RoundStart) -> None:
        device.stop.set()
        device.peer.close()

    began_s = time.monotonic()
    federation = lab.run(
        honest(1.0), leaves, rounds=1, wall_timeout_s=FOR_EVER_S, grace_s=FOR_EVER_S
    )
    assert time.monotonic() - began_s < FOR_EVER_S / 4
    assert statuses(federation)["device-2"] == "missing"


def test_one_that_is_away_as_a_round_begins_takes_part_in_it(lab: Lab, link: Forwarding) -> None:
    lost = threading.Event()

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 1:
            assert lost.wait(30.0)
        honest(1.0)(device, start)

    def drops(device: ScriptedDevice, start: RoundStart) -> None:
        honest(3.0)(device, start)
        if start.round == 1:
            device.peer.flush(10.0)
            link.shut()

    def listen(event: Event) -> None:
        if isinstance(event, DeviceLost):
            lost.set()
        elif isinstance(event, RoundStarted) and event.round == 2:
            assert lost.is_set()
            link.open()

    lab.on_event = listen
    federation = lab.run(
        waits, drops, rounds=2, wall_timeout_s=FOR_EVER_S, addresses={1: link.address}
    )
    for number in (1, 2):
        assert set(statuses(federation, number).values()) == {"accepted"}
    np.testing.assert_allclose(federation.model["w"], 4.0)


def test_a_pull_that_fails_is_tried_again(lab: Lab) -> None:
    """The device does not serve its update at first, and offers it only once."""

    def hides(device: ScriptedDevice, start: RoundStart) -> None:
        update = tensors.dump({n: value + np.float32(6.0) for n, value in MODEL.items()})
        transfers = device.peer.transfers
        offer = transfers.serve(update, "safetensors")
        transfers.withdraw(offer.digest)
        device.tell(UpdateReady(run=start.run, device=device.name, round=1, update=offer))
        time.sleep(0.5)  # for longer than a refusal takes
        transfers.serve(update, "safetensors")
        assert transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=60.0)
        device.report(start)

    federation = lab.run(honest(2.0), hides, rounds=1, wall_timeout_s=FOR_EVER_S)
    assert statuses(federation) == {"device-1": "accepted", "device-2": "accepted"}
    np.testing.assert_allclose(federation.model["w"], 4.0)


class TestEndedEarly:
    def test_real_devices_end_a_round_at_its_quorum(self, lab: Lab) -> None:
        began_s = time.monotonic()
        federation = lab.run(
            honest(1.0),
            silent,
            honest(3.0),
            rounds=1,
            kinds="physical",
            deadline_s=FOR_EVER_S,
            round_quorum=0.6,
            round_quorum_grace_s=0.2,
        )
        assert time.monotonic() - began_s < FOR_EVER_S / 4
        (result,) = federation.rounds
        assert [d.status for d in result.devices] == ["accepted", "late", "accepted"]
        assert "ended at its quorum of 2 of 3 updates and 0.2 s more" in result.devices[1].reason
        np.testing.assert_allclose(federation.model["w"], 2.0)
        assert 0.2 <= result.duration_s < FOR_EVER_S / 4

    def test_emulated_devices_are_put_in_the_order_of_their_clocks(self, lab: Lab) -> None:
        federation = lab.run(
            honest(1.0, busy_s=6.0), honest(5.0, busy_s=2.0), honest(3.0, busy_s=3.0),
            rounds=1, round_quorum=2,
        )  # fmt: skip
        (result,) = federation.rounds
        assert [d.status for d in result.devices] == ["late", "accepted", "accepted"]
        assert result.duration_s == 3.0
        np.testing.assert_allclose(federation.model["w"], 4.0)
        assert result.devices[0].energy is not None, "its joules count all the same"

    def test_joules_end_a_round(self, lab: Lab) -> None:
        """Each script takes 2 J a second while it computes and sends, for two seconds."""
        federation = lab.run(
            honest(1.0, busy_s=0.5), honest(5.0, busy_s=2.0), rounds=1, round_budget_j=4.0
        )
        (result,) = federation.rounds
        assert result.duration_s == 1.0
        assert [d.status for d in result.devices] == ["accepted", "late"]
        assert "its budget of 4 J" in result.devices[1].reason


def test_one_that_comes_back_and_is_refused_is_not_waited_for(lab: Lab) -> None:
    """Its agent was started again in the middle of the round, and its data are others now."""
    back: list[ScriptedDevice] = []
    refused = threading.Event()

    def leaves(device: ScriptedDevice, start: RoundStart) -> None:
        again = ScriptedDevice(lab.broker.address, lab.fleet, "device-2", silent, index=1)
        again.refuses = "the data folder has changed"
        back.append(again)
        device.stop.set()
        device.peer.close()
        again.__enter__()

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        assert refused.wait(60.0)
        honest(2.0)(device, start)

    def listen(event: Event) -> None:
        if isinstance(event, DeviceRefused):
            refused.set()

    lab.on_event = listen
    began_s = time.monotonic()
    try:
        federation = lab.run(waits, leaves, rounds=1, wall_timeout_s=FOR_EVER_S, grace_s=FOR_EVER_S)
    finally:
        for device in back:
            device.__exit__()
    assert time.monotonic() - began_s < FOR_EVER_S / 4
    assert statuses(federation) == {"device-1": "accepted", "device-2": "failed"}
    assert "refused" in federation.rounds[0].devices[1].reason
