"""What the coordinator's inbox tells of senders that were set aside."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest

from fimi.coordinator.conversation import Conversation
from fimi.coordinator.inbox import Inbox
from fimi.coordinator.registry import Registry
from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.allowances import ALLOWED
from fimi.messaging.client import Peer
from fimi.messaging.messages.documents import Reported
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.wire import encode_message
from fimi.monitor.sentences import describe, is_problem
from fimi.record.events import DeviceRefused, Event, Logged, MeterDoubted, SenderSetAside
from fimi.record.record import RunData, RunInfo
from fimi.record.summary import summarise
from fimi.report.attendance import lines


def test_a_sender_that_is_set_aside_is_an_event_once() -> None:
    peer = Peer(
        BrokerAddress(host="127.0.0.1", port=9), fleet="f", peer=COORDINATOR, role="coordinator"
    )
    told: list[Event] = []
    conversation = Conversation("r", "5" * 16, 1, lambda *_: None, time.monotonic)
    inbox = Inbox(peer, Registry(), conversation, told.append, threading.Event())
    inbox.wait(lambda: False, 0.01)
    assert told == []
    for number in range(300):
        for name in ("pi-1", "pi-2"):
            topic = topics.topic("f", name, COORDINATOR, "reported")
            peer._on_message(topic, b"\xff" * (number + 1), False)
    for _ in range(3):
        inbox.wait(lambda: False, 0.01)
    assert [type(each) for each in told] == [SenderSetAside] * 2
    assert {each.sender for each in told if isinstance(each, SenderSetAside)} == {"pi-1", "pi-2"}
    for each in told:
        assert isinstance(each, SenderSetAside)
        assert each.seconds == 10.0
        assert each.offences >= 20
        assert is_problem(each)
        assert describe(each).startswith(f"{each.sender} is set aside for 10 s: ")
        assert msgspec.json.decode(msgspec.json.encode(each), type=Logged) == each


def test_who_is_set_aside_again_and_again_is_told_of_ever_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fimi.messaging.offenders.ASIDE_S", 0.0)  # over at once, and so again
    peer = Peer(
        BrokerAddress(host="127.0.0.1", port=9), fleet="f", peer=COORDINATOR, role="coordinator"
    )
    told: list[Event] = []
    conversation = Conversation("r", "5" * 16, 1, lambda *_: None, time.monotonic)
    inbox = Inbox(peer, Registry(), conversation, told.append, threading.Event())
    topic = topics.topic("f", "pi-1", COORDINATOR, "reported")
    while peer.set_asides < 70:
        peer._on_message(topic, b"\xff", False)
        inbox.wait(lambda: False, 0.001)
    assert len(told) == 7, "the first time, the second, the fourth, …, the 64th"


def test_a_device_cannot_fill_the_log_with_what_it_says_of_itself() -> None:
    """A meter that fails in ever new words, and ever new starts that speak another version."""
    peer = Peer(
        BrokerAddress(host="127.0.0.1", port=9), fleet="f", peer=COORDINATOR, role="coordinator"
    )
    told: list[Event] = []
    conversation = Conversation("r", "5" * 16, 1, lambda *_: None, time.monotonic)
    inbox = Inbox(peer, Registry(), conversation, told.append, threading.Event())
    for number in range(100):
        report = Reported(
            run="r",
            device="pi-1",
            instance="5" * 16,
            boot_id="b",
            number=number,
            epoch=1,
            heard=0,
            stage="idle",
            meter=f"no reading for {number} s",
        )
        state = DeviceState(peer="pi-2", role="device", status="online", boot_id=str(number))
        for said, kind in ((report, "reported"), (state, "state")):
            sender = "pi-1" if kind == "reported" else "pi-2"
            topic = topics.topic("f", sender, COORDINATOR, kind)
            payload = encode_message(said, sender=sender, recipient=COORDINATOR)
            peer._on_message(topic, payload, False)
        inbox.wait(lambda: False, 0.001)
    kinds = [type(each) for each in told]
    most = ALLOWED["line"].at_once
    assert (kinds.count(MeterDoubted), kinds.count(DeviceRefused)) == (most, most)


def test_it_stands_in_the_report_of_the_run(tmp_path: Path) -> None:
    run = RunData(
        path=tmp_path / "run.sqlite",
        info=RunInfo(run="r"),
        offenders=(
            SenderSetAside(sender="pi", offences=50, seconds=20.0, words="pi is\x1b set aside"),
        ),
    )
    assert ("offender", "pi is\N{REPLACEMENT CHARACTER} set aside") in lines(run, summarise(run))
