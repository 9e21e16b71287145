"""Hears what announces itself at a broker, asks what it shows, and puts all findings together."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable

from fimi.edge_agent.discovery import homeassistant, published, shelly, tasmota, zigbee
from fimi.edge_agent.discovery.announced import Announced, Heard
from fimi.messaging.address import BrokerAddress
from fimi.messaging.link import Link
from fimi.messaging.paho_clients import CONNECT_TIMEOUT_S

LISTEN_S = 3.0
"""How long announcements and answers are waited for, s, each."""

_MOST_TOPICS = 2000


def discover(broker: BrokerAddress, listen_s: float = LISTEN_S) -> list[Announced]:
    """What announces itself at a broker; changes nothing there.

    Args:
        broker: its address.
        listen_s: how long to wait for announcements, and then for values, s.

    Raises:
        BrokerError: it cannot be reached or refuses.
    """
    name = f"fimi-discover-{secrets.token_hex(6)}"
    announcements = _Ears(broker, name, _announcing(name))
    try:
        for topic, payloads in shelly.FIRST_QUESTIONS.items():
            for payload in payloads:
                announcements.link.publish(topic, payload, qos=0)
        announcements.wait(listen_s)
        heard = announcements.heard
        asked = {**shelly.questions(heard, name), **tasmota.questions(heard)}
        asked = {topic: payload for topic, payload in asked.items() if _usable(topic)}
        topics = [each.topic for each in find(heard, broker)]
        topics += [topic.replace("cmnd/", "stat/", 1) + "10" for topic in tasmota.questions(heard)]
        topics = [topic for topic in dict.fromkeys(topics) if _usable(topic)][:_MOST_TOPICS]
        values = _Ears(broker, f"{name}-values", tuple(topics))
        try:
            for topic, payload in asked.items():
                announcements.link.publish(topic, payload, qos=0)
            values.wait(listen_s if topics or asked else 0.0)
            heard = {**announcements.heard, **values.heard}
        finally:
            values.link.close()
    finally:
        announcements.link.close()
    return find(heard, broker)


def find(heard: Heard, broker: BrokerAddress) -> list[Announced]:
    """All findings in what was heard, each value once."""
    own = [
        *published.find(heard, broker),
        *tasmota.find(heard, broker),
        *shelly.find(heard, broker),
        *zigbee.find(heard, broker),
    ]
    # Many announce themselves to Home Assistant as well.
    known = {each.topic for each in own if each.topic}
    return [
        *own,
        *_once(each for each in homeassistant.find(heard, broker) if each.topic not in known),
    ]


def _once(found: Iterable[Announced]) -> list[Announced]:
    return list({(each.lines, each.topic, each.note): each for each in found}.values())


def _usable(topic: str) -> bool:
    """Whether a topic, which somebody has announced, can be one."""
    return 0 < len(topic.encode("utf-8", "replace")) < 1000 and not set("+#\0") & set(topic)


def _announcing(name: str) -> tuple[str, ...]:
    return (
        *published.TOPICS,
        *tasmota.TOPICS,
        *shelly.TOPICS,
        *zigbee.TOPICS,
        *homeassistant.TOPICS,
        f"{name}/+/rpc",
    )


class _Ears:
    """A connection that keeps the last message of each topic."""

    def __init__(self, broker: BrokerAddress, name: str, topics: tuple[str, ...]) -> None:
        self._last: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._answers = f"{name}/"
        self._closed = threading.Event()
        self.link = Link(
            broker, name, clean_session=True, subscriptions=topics, on_message=self._hear
        )
        self.link.connect(CONNECT_TIMEOUT_S)

    @property
    def heard(self) -> dict[str, bytes]:
        """The last message of each topic until now."""
        with self._lock:
            return dict(self._last)

    def wait(self, seconds: float) -> None:
        """Hear for so long."""
        self._closed.wait(seconds)

    def _hear(self, topic: str, payload: bytes, _retained: bool) -> None:
        if topic.startswith(self._answers):
            topic = f"{shelly.ANSWERS}/{topic.split('/')[1]}"
        with self._lock:
            self._last[topic] = payload
