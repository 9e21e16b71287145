"""Whatever comes in over the network: no crash, no hang, bounded memory, and the sender is named.

A message goes into a real peer at the place where its connection hands it over.
"""

from __future__ import annotations

import gc
import logging
import time
import tracemalloc

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.console import Console
from fimi.messaging.errors import MessageRefused
from fimi.messaging.link import Link
from fimi.messaging.messages.documents import Reported
from fimi.messaging.questions import (
    Ask,
    BoardAnswer,
    BoardStatus,
    StatusQuestion,
    decode,
    decode_question,
    decode_reply,
    encode,
)
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers import wire
from tests.messaging.hostile import spoilt_bytes, spoilt_json, spoilt_tree

NOWHERE = BrokerAddress(host="127.0.0.1", port=9)
LIMIT = settings(
    deadline=2000,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KINDS = ("state", "message", "want", "chunk", "desired", "reported", "lease", "claim", "study")


def a_peer(name: str = COORDINATOR) -> Peer:
    role = "coordinator" if name == COORDINATOR else "device"
    return Peer(NOWHERE, fleet="f", peer=name, role=role)


def counted(peer: Peer) -> int:
    """Everything that a peer has done with what came."""
    return (
        peer.counters.received
        + peer.counters.refused
        + peer.counters.unseen
        + sum(each.offences for each in peer.offenders)
        + len(peer.peers)
    )


@LIMIT
@given(data=st.data())
def test_damaged_messages(samples, data: st.DataObject) -> None:
    """Every type, as bytes and as structure, on the topic of its kind and on others."""
    sender, recipient, message = data.draw(st.sampled_from(samples))
    good = wire.encode_message(message, sender=sender, recipient=recipient)
    payload = data.draw(spoilt_bytes(good) | spoilt_json(good))
    to = recipient if recipient != "all" else "d1"
    with_peer = a_peer(to)
    kind = data.draw(st.just(wire.kind_of(message)) | st.sampled_from(KINDS))
    topic = topics.topic("f", sender, recipient, kind)
    with_peer._on_message(topic, payload, False)
    while (got := with_peer.receive(0.0)) is not None:
        assert wire.kind_of(got[1]) == kind or kind == "state"
    for each in with_peer.offenders:
        assert each.sender == sender
        assert each.why
        assert len(each.why) <= 200


@LIMIT
@given(st.sampled_from(KINDS), st.binary(max_size=300))
def test_any_bytes_under_any_kind(kind, payload: bytes) -> None:
    peer = a_peer()
    peer._on_message(topics.topic("f", "d1", COORDINATOR, kind), payload, False)
    assert peer.receive(0.0) is None
    if payload and kind in ("state", "message", "want", "chunk", "desired", "reported"):
        assert [each.sender for each in peer.offenders] == ["d1"]


@given(
    st.text(max_size=80)
    | st.lists(st.text("ab/+#\x00é", max_size=5), max_size=9).map("/".join)
    | st.text("ab/é ", max_size=20).map(lambda rest: f"fimi/v1/f/{rest}")
)
@example("fimi/v1/f//coordinator/message")
@example("fimi/v1/f/../coordinator/message")
@example("fimi/v1/f/a/coordinator/message/more")
@example("fimi/v1/f/" + "x" * 60_000 + "/coordinator/state")
def test_any_topic(topic: str) -> None:
    peer = a_peer()
    peer._on_message(topic, b'{"type":"state"}', False)
    assert peer.receive(0.0) is None
    assert all(len(each.sender) <= 64 and len(each.why) <= 200 for each in peer.offenders)


@LIMIT
@given(data=st.data())
def test_damaged_requests_and_chunks(data: st.DataObject) -> None:
    digest = "ab" * 32
    good = data.draw(
        st.sampled_from(
            [
                wire.Want(digest=digest, runs=((0, 2), (5, 1)), chunk_bytes=1024, shared=True),
                wire.Chunk(digest=digest, start=3, check=7, data=memoryview(b"data")),
                wire.Apart(digest=digest),
                wire.Done(digest=digest),
                wire.Gone(digest=digest),
                wire.Noted(digest=digest),
            ]
        )
    )
    packed = wire.encode_transfer(good)
    tree = spoilt_tree(msgspec.msgpack.decode(packed)).filter(lambda each: _packs(each))
    payload = data.draw(spoilt_bytes(packed) | tree.map(msgspec.msgpack.encode))
    peer = a_peer()
    for topic in (
        topics.topic("f", "d1", COORDINATOR, "want"),
        topics.topic("f", "d1", COORDINATOR, "chunk"),
        f"fimi/v1/f/d1/shared/{digest}",
    ):
        peer._on_message(topic, payload, False)
    assert all(each.sender == "d1" for each in peer.offenders)


def _packs(tree: object) -> bool:
    try:
        msgspec.msgpack.encode(tree)
    except OverflowError:
        return False  # MessagePack has no integers of this size
    return True


@LIMIT
@given(data=st.data())
def test_damaged_questions_and_answers(data: st.DataObject) -> None:
    status = BoardStatus(device="d1", boot_id="b", troubles=("none",))
    ask = Ask(id="0" * 16, question=msgspec.Raw(encode(StatusQuestion())))
    answer = BoardAnswer(id="0" * 16, device="d1", boot_id="b", reply=msgspec.Raw(encode(status)))
    good = data.draw(st.sampled_from([status, ask, answer]))
    payload = data.draw(spoilt_bytes(encode(good)) | spoilt_json(encode(good)))
    try:
        read = decode(payload, type(good))
        if isinstance(read, Ask):
            decode_question(read)
        elif isinstance(read, BoardAnswer):
            decode_reply(read)
    except MessageRefused:
        pass
    console = Console(NOWHERE, fleet="f")
    for kind in ("answer", "status", "state", "lease"):
        console._on_message(topics.topic("f", "d1", COORDINATOR, kind), payload, False)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 1_000_000,
        b'{"type":' * 120_000,
        b'{"type":"state","peer":"' + b"x" * 1_000_000,
        b'{"type":"reported","facts":[' + b"1," * 400_000 + b"1]}",
        b'{"type":"reported","number":' + b"9" * 1_000_000 + b"}",
        b"\x00" * 1_048_576,
        b'{"type":"state"}' + b" " * 3_000_000,
    ],
    ids=["depth", "objects", "string", "list", "number", "zeros", "too large"],
)
def test_large_rubbish_takes_little_memory_and_time(payload: bytes) -> None:
    """A message of a megabyte is dealt with in a few, however it is made."""
    peer = a_peer()
    gc.collect()
    tracemalloc.start()
    began_s = time.process_time()
    for _ in range(5):
        peer._on_message(topics.topic("f", "d1", COORDINATOR, "reported"), payload, False)
    took_s = time.process_time() - began_s
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert took_s < 5.0
    assert peer.offenders[0].offences + peer.counters.unseen == 5
    assert peer.receive(0.0) is None


def test_a_board_cannot_fill_the_log_of_a_console(caplog) -> None:
    console = Console(NOWHERE, fleet="f")
    topic = topics.topic("f", "d1", COORDINATOR, "status")
    with caplog.at_level(logging.WARNING):
        for number in range(3000):
            console._on_message(topic, b"[" * (number % 900 + 1), False)
    assert 1 <= len(caplog.records) <= 6
    assert "dropped a message of d1: status: " in caplog.records[0].getMessage()
    assert console.seen("d1").problem


def test_valid_megabytes_wait_in_bounded_memory() -> None:
    """300 reports of 0.9 MB under ten names, of ten starts each: what waits is bounded."""
    peer = a_peer()
    tracemalloc.start()
    for number in range(300):
        device = f"d{number % 10}"
        report = Reported(
            run="r",
            device=device,
            instance="5" * 16,
            boot_id=f"{number}",
            number=1,
            epoch=1,
            heard=1,
            stage="idle",
            waits_for="x" * 900_000,
        )
        topic = topics.topic("f", device, COORDINATOR, "reported")
        payload = bytes(bytearray(msgspec.json.encode(report)))  # without room to grow
        peer._on_message(topic, payload, False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 45_000_000
    assert peer.counters.overflowed >= 260
    senders = set()
    while (got := peer.receive(0.0)) is not None:
        senders.add(got[0])
    assert len(senders) == 10


def test_a_later_document_takes_the_place_of_one_that_waits() -> None:
    peer = a_peer()

    def report(number: int, boot_id: str) -> Reported:
        return Reported(
            run="r",
            device="d1",
            instance="5" * 16,
            boot_id=boot_id,
            number=number,
            epoch=1,
            heard=1,
            stage="idle",
        )

    for number, boot_id in ((1, "a"), (3, "a"), (2, "a"), (1, "b"), (5, "b")):
        payload = msgspec.json.encode(report(number, boot_id))
        peer._on_message(topics.topic("f", "d1", COORDINATOR, "reported"), payload, False)
    found = []
    while (got := peer.receive(0.0)) is not None:
        found.append(got[1])
    assert found == [report(3, "a"), report(5, "b")]


def test_over_a_real_broker_the_offender_is_set_aside_and_others_are_heard(
    broker, fleet, join, until
) -> None:
    coordinator, device = join(COORDINATOR), join("d1")
    until(lambda: "d1" in coordinator.peers)
    rogue = Link(broker.address, "rogue", clean_session=True)
    rogue.connect(5.0)
    for number in range(200):
        topic = topics.topic(fleet, "rogue", COORDINATOR, "reported")
        rogue.publish(topic, b"{" + bytes([number]) * 2000, qos=1)
    until(lambda: coordinator.counters.refused + coordinator.counters.unseen >= 200)
    (found,) = coordinator.offenders
    assert (found.sender, found.times) == ("rogue", 1)
    assert coordinator.set_asides == 1
    device.publish_state(COORDINATOR, "reported", _reported(1))
    while (got := coordinator.receive(10.0)) is not None and not isinstance(got[1], Reported):
        pass
    assert got == ("d1", _reported(1))
    rogue.close()


def _reported(number: int) -> Reported:
    return Reported(
        run="r",
        device="d1",
        instance="5" * 16,
        boot_id="b",
        number=number,
        epoch=1,
        heard=1,
        stage="idle",
    )


def test_with_access_rules_a_name_is_who_sent_it(own_mosquitto, until) -> None:
    """One device sends rubbish under its own name, tries others, and is not heard any more."""
    rules = [
        "pattern write fimi/v1/+/%u/#",
        "pattern read fimi/v1/+/+/%u/#",
        "pattern read fimi/v1/+/+/all/#",
    ]
    address = own_mosquitto(rules, username=COORDINATOR, also=("d1", "d2"))
    logins = {name: replace(address, username=name) for name in ("d1", "d2")}
    with (
        Peer(address, fleet="f", peer=COORDINATOR, role="coordinator") as coordinator,
        Peer(logins["d2"], fleet="f", peer="d2", role="device") as honest,
    ):
        rogue = Link(logins["d1"], "rogue", clean_session=True)
        rogue.connect(5.0)
        for number in range(60):
            for name in ("d1", "d2"):  # the broker drops those of d2
                topic = topics.topic("f", name, COORDINATOR, "reported")
                rogue.publish(topic, b"{" + bytes([number]) * 200, qos=1)
        until(lambda: coordinator.counters.refused + coordinator.counters.unseen >= 60)
        (found,) = coordinator.offenders
        assert (found.sender, found.forged, found.times) == ("d1", False, 1)
        assert found.offences <= 25
        assert found.unseen >= 35
        assert "nothing of it is looked at" in found.in_words()
        topic = topics.topic("f", "d1", COORDINATOR, "reported")
        rogue.publish(topic, msgspec.json.encode(_reported(1)), qos=1)
        honest.publish_state(COORDINATOR, "reported", replace(_reported(1), device="d2"))
        heard = []
        while (got := coordinator.receive(15.0)) is not None:
            heard.append(got)
            if isinstance(got[1], Reported):
                break
        assert [name for name, each in heard if isinstance(each, Reported)] == ["d2"]
        rogue.close()
