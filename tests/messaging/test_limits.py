"""Brokers that grant less than usual: adapted to and named at once, or refused in words."""

from __future__ import annotations

import logging
import time

import pytest

from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.errors import BrokerError
from fimi.messaging.limits import TRIED_BYTES, Granted
from fimi.messaging.link import Link
from fimi.messaging.messages.documents import Desired, Reported
from fimi.messaging.size_trial import LAST_BYTES, SizeTrial
from fimi.messaging.topics import COORDINATOR

EVERYTHING = ["user fimi", "topic readwrite #"]


def desired(number: int) -> Desired:
    return Desired(run="r", device="d1", instance="5" * 16, epoch=1, number=number)


def reported(number: int, meter: str = "") -> Reported:
    return Reported(
        run="r",
        device="d1",
        instance="5" * 16,
        boot_id="b",
        number=number,
        epoch=1,
        heard=number,
        stage="idle",
        meter=meter,
    )


def documents_pass(address) -> None:
    """Documents and a payload go both ways between a coordinator and a device."""
    with (
        Peer(address, fleet="f", peer=COORDINATOR, role="coordinator") as coordinator,
        Peer(address, fleet="f", peer="d1", role="device") as device,
    ):
        coordinator.publish_state("d1", "desired", desired(1))
        limit_s = time.monotonic() + 10.0
        heard: list[object] = []
        while time.monotonic() < limit_s and not any(isinstance(each, Desired) for each in heard):
            if (got := device.receive(0.1)) is not None:
                heard.append(got[1])
        assert desired(1) in heard
        device.publish_state(COORDINATOR, "reported", reported(1))
        heard = []
        while time.monotonic() < limit_s and not any(isinstance(each, Reported) for each in heard):
            if (got := coordinator.receive(0.1)) is not None:
                heard.append(got[1])
        assert reported(1) in heard
        payload = bytes(range(256)) * 1200
        offer = coordinator.transfers.serve(payload, "bytes")
        assert device.transfers.fetch(offer, 20.0) == payload
        offer = device.transfers.serve(payload[:-150_000], "bytes")  # ends in the middle of growth
        assert coordinator.transfers.fetch(offer, 20.0) == payload[:-150_000]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("retain_available false", "keeps no retained messages"),
        ("max_qos 0", "takes only unconfirmed messages"),
        ("max_packet_size 30000", "takes packets of at most 30000 B"),
        ("max_keepalive 10", ""),
        ("message_size_limit 20000", "drops messages of 126976 B without a word"),
        ("max_inflight_messages 1\nmax_queued_messages 2", ""),
    ],
)
def test_less_is_adapted_to_and_named(setting: str, said: str, own_mosquitto, caplog) -> None:
    with caplog.at_level(logging.WARNING, logger="fimi.messaging.grants"):
        documents_pass(own_mosquitto(EVERYTHING, more=tuple(setting.split("\n"))))
    named = [record.getMessage() for record in caplog.records if said in record.getMessage()]
    if said:
        assert 1 <= len(named) <= 2  # once for each peer
    else:
        assert not caplog.records


def test_too_little_is_refused_in_words(own_mosquitto) -> None:
    address = own_mosquitto(EVERYTHING, more=("max_packet_size 9000",))
    peer = Peer(address, fleet="f", peer=COORDINATOR, role="coordinator")
    began_s = time.monotonic()
    with pytest.raises(BrokerError, match=r"packets of at most 9000 B.*raise its max_packet_size"):
        peer.connect()
    assert time.monotonic() - began_s < 5.0
    peer.close()


@pytest.mark.parametrize(("name", "role"), [(COORDINATOR, "coordinator"), ("d1", "device")])
def test_what_is_dropped_without_a_word_is_refused_too(name, role, own_mosquitto) -> None:
    address = own_mosquitto(EVERYTHING, more=("message_size_limit 10000",))
    began_s = time.monotonic()
    with (
        pytest.raises(
            BrokerError, match=r"drops messages of 12288 B.*raise its message_size_limit"
        ),
        Peer(address, fleet="f", peer=name, role=role),
    ):
        pass
    assert time.monotonic() - began_s < 5.0
    with (  # it has given its id back
        pytest.raises(BrokerError, match="drops messages"),
        Peer(address, fleet="f", peer=name, role=role),
    ):
        pass


def test_a_short_keep_alive_is_named() -> None:
    (said,) = Granted(keepalive_s=3).shortcomings
    assert "after 4.5 s of silence" in said


def test_what_is_found_out_stays() -> None:
    granted = Granted().without("Retain not supported")
    assert granted is not None
    assert not granted.told(None).retains
    assert granted.without("Retain not supported") is None
    assert Granted().without("Not authorized") is None


def test_a_large_message_that_was_only_late_is_no_limit() -> None:
    """It comes after the trial has ended, which took it for dropped."""
    link = Link(BrokerAddress(host="127.0.0.1", port=9), "late")
    trial = SizeTrial(link, "a/topic")
    small, large = sorted(TRIED_BYTES)
    trial.on_echo(bytes(small))
    trial.on_echo(bytes(LAST_BYTES))
    trial.run()
    assert link.largest_payload("a/topic") == small
    trial.on_echo(bytes(large))
    assert link.largest_payload("a/topic") is None
    link.close()
