"""Every kind of message on a real Mosquitto: who may write it, and who reads it."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator

import pytest

from fimi.messaging import topics
from fimi.messaging.errors import BrokerError
from fimi.messaging.link import Link
from fimi.messaging.paho_clients import Will

PEERS = ("coordinator", "generator", "pi-01", "pi-02")

# Sender, recipient, kind, of everything that is said in a fleet.
SAID = (
    # plans, rounds and commands; batches, models and updates on their way
    ("coordinator", "pi-01", "desired"),
    ("coordinator", "pi-01", "ask"),
    ("coordinator", "pi-01", "want"),
    ("coordinator", "pi-01", "chunk"),
    ("coordinator", "generator", "message"),
    ("coordinator", "generator", "want"),
    ("coordinator", "generator", "chunk"),
    ("coordinator", "all", "state"),
    ("coordinator", "all", "ask"),
    ("coordinator", "all", "message"),
    ("coordinator", "coordinator", "lease"),
    ("coordinator", "coordinator", "claim"),
    ("coordinator", "coordinator", "study"),
    ("coordinator", "coordinator", "study-claim"),
    ("coordinator", "coordinator", "answer"),
    ("coordinator", "coordinator", "trial"),
    ("coordinator", "shared", "0f" * 32),
    ("generator", "coordinator", "message"),
    ("generator", "coordinator", "chunk"),
    ("generator", "coordinator", "want"),
    ("generator", "pi-01", "chunk"),
    ("generator", "all", "state"),
    ("generator", "generator", "lease"),
    ("generator", "generator", "claim"),
    ("generator", "shared", "0f" * 32),
    ("pi-01", "coordinator", "reported"),
    ("pi-01", "coordinator", "state"),
    ("pi-01", "coordinator", "status"),
    ("pi-01", "coordinator", "answer"),
    ("pi-01", "coordinator", "chunk"),
    ("pi-01", "coordinator", "want"),
    ("pi-01", "generator", "want"),
    ("pi-01", "pi-01", "lease"),
    ("pi-01", "coordinator", "telemetry"),
    ("pi-01", "coordinator", "check"),
    ("pi-01", "pi-01", "claim"),
    ("pi-01", "pi-01", "pulse"),
    ("generator", "generator", "pulse"),
)

# What a peer may not say under its own name either.
BEYOND = (
    ("pi-01", "coordinator", "of-its-own"),  # topics that the broker would keep for it
    ("pi-01", "coordinator", "reported/1"),
    ("pi-01", "pi-01", "of-its-own"),
    ("pi-01", "pi-02", "desired"),
    ("pi-01", "pi-02", "chunk"),
    ("pi-01", "pi-02", "want"),
    ("pi-01", "all", "state"),
    ("pi-01", "all", "ask"),
    ("pi-01", "generator", "message"),
    ("pi-01", "generator", "chunk"),
    ("pi-01", "shared", "0f" * 32),
    ("generator", "all", "ask"),
    ("generator", "pi-01", "desired"),
    ("generator", "pi-01", "ask"),
)


def place(sender: str, recipient: str, kind: str, fleet: str = "desk") -> str:
    return f"fimi/{topics.VERSION}/{fleet}/{sender}/{recipient}/{kind}"


class Ear:
    """A peer's connection that listens to everything, as far as the broker lets it."""

    def __init__(self, fleet, name: str) -> None:
        self.name = name
        self.heard: list[tuple[str, bytes]] = []
        self._came = threading.Condition()
        self.link = Link(
            fleet.bundle(name).address(),
            f"ear-{name}-{secrets.token_hex(4)}",
            clean_session=True,
            subscriptions=("#",),
            on_message=self._take,
        )
        self.link.connect(10.0)

    def _take(self, topic: str, payload: bytes, _retained: bool) -> None:
        with self._came:
            self.heard.append((topic, payload))
            self._came.notify_all()

    def says(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish; returns whether the broker has taken it."""
        info = self.link.publish(topic, payload, qos=1, retain=retain)
        info.wait_for_publish(10.0)
        assert info.is_published()
        return not self.link.was_refused(info.mid)

    def catch_up(self) -> None:
        """Wait for all that was published before: a message to itself comes behind it."""
        mark = secrets.token_bytes(8)
        assert self.says(place(self.name, self.name, "check"), mark)
        with self._came:
            assert self._came.wait_for(lambda: any(mark == p for _, p in self.heard), 10.0)

    def has_heard(self, topic: str, payload: bytes) -> bool:
        return (topic, payload) in self.heard


@pytest.fixture(scope="module")
def ears(fleet) -> Iterator[dict[str, Ear]]:
    found = {name: Ear(fleet, name) for name in PEERS}
    yield found
    for ear in found.values():
        ear.link.close()


def readers(recipient: str) -> set[str]:
    return set(PEERS) if recipient in ("all", "shared") else {recipient}


@pytest.mark.parametrize(("sender", "recipient", "kind"), SAID)
def test_it_is_written_by_one_and_read_by_those_it_is_for(ears, sender, recipient, kind) -> None:
    topic, payload = place(sender, recipient, kind), secrets.token_bytes(8)
    assert ears[sender].says(topic, payload)
    forged = secrets.token_bytes(8)
    for name in PEERS:
        if name != sender:
            assert not ears[name].says(topic, forged), f"{name} writes {topic}"
    elsewhere = place(sender, recipient, kind, fleet="other")
    assert not ears[sender].says(elsewhere, forged), "in another fleet"
    for name, ear in ears.items():
        ear.catch_up()
        assert ear.has_heard(topic, payload) == (name in readers(recipient)), f"{name}: {topic}"
        assert not any(said == forged for _, said in ear.heard), f"{name} is deceived"


@pytest.mark.parametrize(("sender", "recipient", "kind"), BEYOND)
def test_what_goes_beyond_its_role_is_refused(ears, sender, recipient, kind) -> None:
    payload = secrets.token_bytes(8)
    assert not ears[sender].says(place(sender, recipient, kind), payload)
    for ear in ears.values():
        ear.catch_up()
        assert not any(said == payload for _, said in ear.heard)


@pytest.mark.parametrize("topic", ["$SYS/broker/version", "fimi/v1/desk", "home/door", "fimi/v1/#"])
def test_there_is_nothing_else(ears, topic: str) -> None:
    if "#" not in topic:
        assert not ears["pi-02"].says(topic, b"x")
    assert all(heard.startswith("fimi/v1/desk/") for heard, _ in ears["pi-02"].heard)


def test_what_is_kept_is_given_to_nobody_else(fleet, ears) -> None:
    """A retained document comes with the subscription: to whom it is for, and to no stranger."""
    topic, payload = place("coordinator", "pi-01", "desired"), secrets.token_bytes(8)
    assert ears["coordinator"].says(topic, payload, retain=True)
    late = {name: Ear(fleet, name) for name in ("pi-01", "pi-02", "generator")}
    for name, ear in late.items():
        ear.catch_up()
        assert ear.has_heard(topic, payload) == (name == "pi-01")
        ear.link.close()
    assert ears["coordinator"].says(topic, b"", retain=True)


def test_a_last_will_is_no_way_around(fleet, ears) -> None:
    """What a broker publishes for a client that is gone must be allowed as well."""
    topic, forged = place("coordinator", "pi-01", "desired"), secrets.token_bytes(8)
    link = Link(
        fleet.bundle("pi-02").address(), "willing", clean_session=True, will=Will(topic, forged)
    )
    with contextlib.suppress(BrokerError):  # it is refused with such a will: as good
        link.connect(3.0)
        link._client._sock_close()  # without a word, so that the will is due
        time.sleep(0.3)
    link.close()
    for ear in ears.values():
        ear.catch_up()
        assert not ear.has_heard(topic, forged)
