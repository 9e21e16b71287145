"""Telemetry: the latest of each device, never repeated, cheap and bounded."""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.errors import MessageRefused
from fimi.messaging.messages.peers import Telemetry
from fimi.messaging.telemetry import MAX_BYTES, STALE_S, LatestTelemetry
from fimi.messaging.topics import COORDINATOR, topic
from fimi.messaging.transfers.wire import encode_message
from fimi.testbed.cli import main


def said(device: str, number: int, **more) -> Telemetry:
    return Telemetry(
        device=device, boot_id="b", number=number, unix_s=time.time(), stage="idle", **more
    )


def encoded(message: Telemetry) -> bytes:
    return encode_message(message, sender=message.device, recipient=COORDINATOR)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 100)), max_size=30))
def test_the_latest_of_each_device_counts(messages):
    latest, wanted = LatestTelemetry(), {}
    for device, number in messages:
        latest.put(device, COORDINATOR, encoded(said(device, number)))
        wanted[device] = number
    assert {device: each.number for device, each in latest.read().items()} == wanted


@given(st.binary(max_size=3000), st.booleans())
def test_rubbish_is_refused_or_left_out(data, forged):
    latest = LatestTelemetry()
    latest.put("a", COORDINATOR, encoded(said("a", 1)))
    payload = encoded(said("a", 2)) if forged else data  # b speaks for a
    if len(payload) > MAX_BYTES:
        with pytest.raises(MessageRefused, match="the limit is 2048 B"):
            latest.put("b", COORDINATOR, payload)
    else:
        latest.put("b", COORDINATOR, payload)
    assert set(latest.read()) == {"a"}


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr("fimi.messaging.telemetry.MAX_DEVICES", 3)
    latest = LatestTelemetry()
    for device in "abcad":
        latest.put(device, COORDINATOR, encoded(said(device, 1)))
    assert set(latest.read()) == {"c", "a", "d"}
    latest.forget("c")
    assert set(latest.read()) == {"a", "d"}


def test_what_is_old_is_over():
    now_s = [0.0]
    latest = LatestTelemetry(lambda: now_s[0])
    latest.put("a", COORDINATOR, encoded(said("a", 1)))
    now_s[0] = STALE_S - 1.0
    latest.put("b", COORDINATOR, encoded(said("b", 1)))
    assert set(latest.read()) == {"a", "b"}
    now_s[0] = STALE_S + 1.0
    assert set(latest.read()) == {"b"}


def test_a_board_says_more_often_than_what_it_said_gets_old():
    asked = ["agent", "run", "--id", "d", "--telemetry-s", "90"]
    found = CliRunner().invoke(main, asked)
    assert found.exit_code == 2 and "60" in found.output


def test_a_coordinator_has_the_latest_of_the_devices_that_are_there(join, until):
    coordinator = join(COORDINATOR, heartbeat_s=0.2)
    device, other = join("d1"), join("d2")
    for number in range(1, 21):
        message = said("d1", number, power_w=2.5, kind="measured", source="plug", scope="wall")
        assert device.tell_telemetry(message)
    assert other.tell_telemetry(said("d2", 1))
    until(lambda: coordinator.counters.telemetry == 21)
    seen = coordinator.telemetry()
    assert seen["d1"].number == 20 and seen["d1"].power_w == 2.5 and seen["d2"].number == 1
    with pytest.raises(MessageRefused, match="speaks for device 'd2'"):
        device.tell_telemetry(said("d2", 2))
    while coordinator.receive(timeout_s=0.1) is not None:
        pass  # states; telemetry is no message that anybody has to take
    big = topic(device.fleet, "d1", COORDINATOR, "telemetry")
    device._link.publish(big, bytes(3000), qos=0)
    until(lambda: coordinator.counters.refused == 1)
    other.close()
    until(lambda: "d2" not in coordinator.telemetry())
