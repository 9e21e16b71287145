"""The latest document of every topic, over any order of changes, confirmations and losses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from fimi.messaging.kept_documents import Documents


class Wire:
    """A connection as paho gives it: what was sent and not confirmed is sent again, in order."""

    def __init__(self) -> None:
        self.documents = Documents(self.publish)
        self.online = True
        self.numbers = 0
        self.travelling: list[tuple[int, str, bytes]] = []
        self.received: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes) -> MQTTMessageInfo | None:
        if not self.online:
            return None
        self.numbers += 1
        self.travelling.append((self.numbers, topic, payload))
        return MQTTMessageInfo(self.numbers)

    def deliver(self) -> None:
        """The broker gets the oldest message, and confirms it."""
        number, topic, payload = self.travelling.pop(0)
        self.received.append((topic, payload))
        if self.documents.confirmed(number):
            self.documents.pump()

    def lose(self, delivered: int) -> None:
        """The connection breaks; the broker has got some messages that it could not confirm."""
        self.online = False
        self.received += [(topic, payload) for _, topic, payload in self.travelling[:delivered]]

    def return_(self) -> None:
        self.online = True
        self.documents.renew()


steps = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("ab")),
    st.tuples(st.just("deliver"), st.just("")),
    st.tuples(st.just("lose"), st.integers(0, 2)),
    st.tuples(st.just("return"), st.just("")),
)


@given(st.lists(steps, max_size=60))
def test_the_latest_wins(history: list[tuple[str, object]]) -> None:
    wire, count, latest = Wire(), 0, {}
    for step, value in history:
        if step == "put":
            count += 1
            latest[str(value)] = f"{count:04d}".encode()
            wire.documents.put(str(value), latest[str(value)])
        elif step == "deliver" and wire.online and wire.travelling:
            wire.deliver()
        elif step == "lose" and wire.online:
            wire.lose(int(str(value)))
        elif step == "return" and not wire.online:
            wire.return_()
        topics = [topic for _, topic, _ in wire.travelling]
        assert len(topics) == len(set(topics))  # one of a topic at a time
    if not wire.online:
        wire.return_()
    while wire.travelling:
        wire.deliver()
    assert wire.documents.settled()
    for topic in "ab":
        came = [payload for named, payload in wire.received if named == topic]
        assert came == sorted(came)
        assert came[-1:] == ([latest[topic]] if topic in latest else [])


def test_withdrawn_ones_are_forgotten() -> None:
    wire = Wire()
    wire.documents.put("a", b"1")
    wire.documents.put("a", b"")
    while wire.travelling:
        wire.deliver()
    assert wire.received == [("a", b"1"), ("a", b"")]
    wire.documents.renew()
    assert wire.travelling == []


def test_what_no_broker_takes_does_not_wait_for_ever() -> None:
    def refuse(_topic: str, _payload: bytes) -> MQTTMessageInfo:
        info = MQTTMessageInfo(0)
        info.rc = MQTTErrorCode.MQTT_ERR_PAYLOAD_SIZE
        return info

    documents = Documents(refuse)
    documents.put("a", b"1")
    assert documents.settled()
