"""A broker forgets who was put away, and nobody who lives."""

from __future__ import annotations

import os
import secrets
import signal
import threading

import pytest

from fimi.messaging import forgetting, topics
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.console import Console
from fimi.messaging.errors import PeerIsUp
from fimi.messaging.forgetting import forget
from fimi.messaging.home_assistant import ShownBoard, discovery, discovery_topic
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.wire import encode_message


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is dead for sure need not be waited for so long."""
    monkeypatch.setattr(forgetting, "ALIVE_S", 0.1)


def kept(address, fleet: str) -> dict[str, bytes]:
    """All that a broker keeps of a fleet, as a new subscriber is given it."""
    found: dict[str, bytes] = {}
    done = threading.Event()
    end = f"{topics.VERSION}-{secrets.token_hex(4)}"

    def take(topic: str, payload: bytes, retained: bool) -> None:
        if topic.endswith(end):
            done.set()
        elif retained and payload:
            found[topic] = payload

    link = Link(
        address,
        f"looks-{secrets.token_hex(8)}",
        clean_session=True,
        subscriptions=(f"fimi/v1/{fleet}/#",),
        on_message=take,
    )
    link.connect(10.0)
    link.publish(f"fimi/v1/{fleet}/{COORDINATOR}/{COORDINATOR}/{end}", b"x", qos=1)
    assert done.wait(10.0)
    link.close()
    return found


def leave_state(address, fleet: str, peer: str, status) -> None:
    state = DeviceState(peer=peer, role="device", status=status, boot_id="b" * 16, protocol=6)
    link = Link(address, f"leaves-{secrets.token_hex(8)}", clean_session=True)
    link.connect(10.0)
    payload = encode_message(state, sender=peer, recipient=COORDINATOR)
    topic = topics.topic(fleet, peer, COORDINATOR, "state")
    link.publish(topic, payload, qos=1, retain=True).wait_for_publish(10.0)
    link.close()


@pytest.mark.usefixtures("soon")
def test_everything_of_a_board_that_was_put_away(broker: EmbeddedBroker, fleet: str, join) -> None:
    away, stays, coordinator = join("d1"), join("d2"), join(COORDINATOR)
    away.tell("status", b'{"any": 1}')
    assert away.flush(10.0)
    assert coordinator.flush(10.0)
    link = Link(broker.address, "desires", clean_session=True)
    link.connect(10.0)
    link.publish(
        topics.topic(fleet, COORDINATOR, "d1", "desired"), b"{}", qos=1, retain=True
    ).wait_for_publish(10.0)
    link.close()
    away.close()
    before = kept(broker.address, fleet)
    theirs = {topic for topic in before if "/d1/" in topic}
    assert len(theirs) == 4, "state, status, lease, desired"
    assert forget(broker.address, fleet=fleet, name="d1") == 4
    after = kept(broker.address, fleet)
    assert set(after) == set(before) - theirs
    with Console(broker.address, fleet=fleet) as console:
        assert list(console.look(0.2)) == ["d2"]
    assert stays.online
    assert forget(broker.address, fleet=fleet, name="d1") == 0


@pytest.mark.usefixtures("soon")
def test_what_home_assistant_was_told_of_it(broker: EmbeddedBroker, fleet: str) -> None:
    leave_state(broker.address, fleet, "d.1", "offline")
    board = ShownBoard(device="d.1", kind="measured", scope="board")
    link = Link(broker.address, "announces", clean_session=True)
    link.connect(10.0)
    for device in ("d.1", "d2"):
        place = discovery_topic("any-prefix", fleet, device)
        link.publish(place, discovery(fleet, board), qos=1, retain=True).wait_for_publish(10.0)
    link.close()
    assert forget(broker.address, fleet=fleet, name="d.1") == 2
    assert forget(broker.address, fleet=fleet, name="d.1") == 0
    assert forget(broker.address, fleet=fleet, name="d2") == 1


@pytest.mark.parametrize("gone", [False, True])
def test_who_answers_is_not_forgotten(broker: EmbeddedBroker, fleet: str, join, gone) -> None:
    join("d1")
    before = kept(broker.address, fleet)
    with pytest.raises(PeerIsUp, match="answers"):
        forget(broker.address, fleet=fleet, name="d1", gone=gone)
    assert kept(broker.address, fleet).keys() == before.keys()


def test_who_lives_and_is_taken_for_offline_is_not_forgotten(
    broker: EmbeddedBroker, fleet: str, join
) -> None:
    """A late last will of an earlier start says offline; the process answers all the same."""
    device = join("d1")
    leave_state(broker.address, fleet, "d1", "offline")
    with pytest.raises(PeerIsUp, match="answers"):
        forget(broker.address, fleet=fleet, name="d1")
    assert device.online


@pytest.mark.usefixtures("soon")
def test_a_last_word_of_being_online_needs_a_word(broker: EmbeddedBroker, fleet: str) -> None:
    leave_state(broker.address, fleet, "d1", "online")
    with pytest.raises(PeerIsUp, match="wait a minute"):
        forget(broker.address, fleet=fleet, name="d1")
    assert len(kept(broker.address, fleet)) == 1
    assert forget(broker.address, fleet=fleet, name="d1", gone=True) == 1
    assert kept(broker.address, fleet) == {}


@pytest.mark.parametrize("name", ["coordinator", "all", "a/b", "#", ""])
def test_names_that_cannot_be(broker: EmbeddedBroker, fleet: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be used|they stay"):
        forget(broker.address, fleet=fleet, name=name)


@pytest.mark.usefixtures("soon")
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_coordinator_does_not_take_it_for_a_sign_of_life(
    broker: EmbeddedBroker, fleet: str, join, peer_process, until, request
) -> None:
    if request.node.callspec.params["broker"] != "mosquitto 5":
        pytest.skip("the coordinator's side is the same with every broker")
    coordinator = join(COORDINATOR, silent_after_s=0.8)
    pid, _ = peer_process("d1", heartbeat_s=0.1)
    until(lambda: "d1" in coordinator.peers and coordinator.peers["d1"].online)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: coordinator.peers["d1"].silent)
    topic = topics.topic(fleet, "d1", COORDINATOR, "reported")
    link = Link(broker.address, "clears", clean_session=True)
    link.connect(10.0)
    link.publish(topic, b"", qos=1, retain=True).wait_for_publish(10.0)
    join("d2")  # whose birth comes to the coordinator behind that
    until(lambda: "d2" in coordinator.peers)
    assert coordinator.peers["d1"].silent
    link.close()
