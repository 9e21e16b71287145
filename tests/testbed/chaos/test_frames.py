"""Repeated and reordered packets: whole, complete, and acknowledged as their sender expects."""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque

from hypothesis import given
from hypothesis import strategies as st

from fimi.testbed.chaos import frames
from fimi.testbed.chaos.frames import FrameCounters, FramedTalk, MessageFaults

CONNECT_4 = bytes.fromhex("100e00044d5154540402003c00026431")
CONNECT_5 = bytes.fromhex("100f00044d5154540502003c0000026431")
CONNACK_4 = bytes.fromhex("20020000")


def packet(first: int, body: bytes) -> bytes:
    """A packet with its length in front of its body."""
    size, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)
        size += bytes([digit | (0x80 if left else 0)])
        if not left:
            return bytes([first]) + size + body


def publish(topic: str, payload: bytes, qos: int = 0, number: int = 0, props: bytes | None = None):
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (number.to_bytes(2, "big") if qos else b"")
    if props is not None:
        body += bytes([len(props)]) + props
    return packet(0x30 | qos << 1, body + payload)


def split(stream: bytes) -> list[bytes]:
    """Whole packets of a stream; fails on a broken one."""
    found = []
    while stream:
        size, at = 0, 1
        while True:
            size += (stream[at] & 127) * 128 ** (at - 1)
            at += 1
            if stream[at - 1] < 128:
                break
        assert len(stream) >= at + size, "half a packet"
        found.append(stream[: at + size])
        stream = stream[at + size :]
    return found


def talk(seed: int = 1, **faults) -> FramedTalk:
    made = FramedTalk(random.Random(seed), (FrameCounters(), FrameCounters()))
    made.disturb(MessageFaults(**faults))
    return made


def fed(framer: frames.Framer, data: bytes, cuts: list[int]) -> bytes:
    """What comes out of bytes that arrive in pieces."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    out = b""
    for begin, end in itertools.pairwise(places):
        out += b"".join(framer.feed(data[begin:end], 0.0))
    return out


CUTS = st.lists(st.integers(0, 5000), max_size=10)


@given(data=st.binary(max_size=300), cuts=CUTS, begun=st.booleans())
def test_what_is_no_mqtt_goes_on_as_it_is(data, cuts, begun):
    framer = talk(duplicate=1.0, reorder=1.0).up
    if begun:
        assert framer.feed(CONNECT_4, 0.0) == [CONNECT_4]
        data = bytes([0xFF] * 5) + data  # a length of more than four bytes
    elif data[:1] == b"\x10":
        data = b"\x16" + data[1:]
    assert fed(framer, data, cuts) + b"".join(framer.rest()) == data


@given(data=st.binary(max_size=300), cuts=CUTS)
def test_without_faults_every_byte_goes_on(data, cuts):
    framer = talk().up
    stream = CONNECT_4 + data
    assert fed(framer, stream, cuts) + b"".join(framer.rest()) == stream


PAYLOADS = st.lists(st.tuples(st.binary(max_size=200), st.integers(0, 2)), max_size=30)


@given(
    said=PAYLOADS,
    cuts=CUTS,
    duplicate=st.floats(0, 1),
    reorder=st.floats(0, 1),
    depth=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_packets_stay_whole_and_all_arrive(said, cuts, duplicate, reorder, depth, seed):
    framer = talk(seed, duplicate=duplicate, reorder=reorder, depth=depth).up
    packets = [
        publish("t", number.to_bytes(2, "big") + payload, qos, number + 1)
        for number, (payload, qos) in enumerate(said)
    ]
    ping, bye = b"\xc0\x00", b"\xe0\x00"
    stream = CONNECT_4 + b"".join(packets) + ping + bye
    out = split(fed(framer, stream, cuts) + b"".join(framer.rest()))
    assert out[0] == CONNECT_4 and out[-1] == bye and out.count(ping) == 1
    published = [each for each in out if each[0] >> 4 == 3]
    plain = Counter(bytes([each[0] & ~8]) + each[1:] for each in published)
    assert set(plain) == set(packets)
    copies = len(published) - len(packets)
    assert copies == framer.counters.duplicated == sum(plain.values()) - len(packets)
    assert max(plain.values(), default=1) <= 2
    flagged = sum(each[0] & 8 > 0 for each in published)
    assert flagged == sum(n - 1 for each, n in plain.items() if (each[0] >> 1) & 3)
    if not reorder:
        first = list(dict.fromkeys(bytes([p[0] & ~8]) + p[1:] for p in published))
        assert first == packets


@given(seed=st.integers(0, 10_000), depth=st.integers(1, 4), ids=st.integers(1, 4))
def test_a_sender_gets_one_acknowledgement_for_each_packet(seed, depth, ids):
    """A sender that takes an id again at once, and a receiver that acknowledges all it gets."""
    dice = random.Random(seed)
    made = talk(seed, duplicate=0.4, reorder=0.4, depth=depth)
    made.up.feed(CONNECT_4, 0.0)
    made.down.feed(CONNACK_4, 0.0)
    free, outstanding = set(range(1, ids + 1)), set()
    wire, acks, received = deque(), deque(), []
    sent = now = 0
    while sent < 40 or outstanding:
        now += 1
        wire.extend(split(b"".join(made.up.due(float(now)))))
        if free and sent < 40 and dice.random() < 0.6:
            number = dice.choice(sorted(free))
            free.remove(number)
            outstanding.add(number)
            wire.extend(split(b"".join(made.up.feed(publish("t", bytes([sent]), 1, number), now))))
            sent += 1
        if wire and dice.random() < 0.6:
            got = wire.popleft()
            received.append(got[-1])
            acks.append(packet(0x40, got[5:7]))
        if acks and dice.random() < 0.6:
            for ack in split(b"".join(made.down.feed(acks.popleft(), now))):
                number = int.from_bytes(ack[2:4], "big")
                assert number in outstanding, "an acknowledgement of nothing"
                outstanding.remove(number)
                free.add(number)
        assert now < 10_000
    assert set(received) == set(range(40))


def test_a_packet_with_a_topic_alias_is_not_held_back():
    framer = talk(reorder=1.0).up
    framer.feed(CONNECT_5, 0.0)
    alias = publish("t", b"a", props=b"\x23\x00\x01")
    assert framer.feed(alias, 0.0) == [alias]
    expiry = publish("t", b"b", props=b"\x02\x00\x00\x00\x3c\x26\x00\x01k\x00\x01v")
    assert framer.feed(expiry, 0.0) == []
    assert framer.due(1.0) == [expiry]


def test_a_packet_that_is_too_large_is_passed_on_as_it_comes():
    framer = talk(duplicate=1.0, reorder=1.0).up
    framer.feed(CONNECT_4, 0.0)
    small, large = publish("t", b"small"), publish("t", bytes(frames.WHOLE_BYTES))
    out = fed(framer, small + large, [100, 70_000])
    assert out == small + large
    assert framer.feed(small, 0.0) == [] and framer.rest() == [small]
