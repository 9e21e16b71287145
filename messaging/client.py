"""One peer's connection: it sends and receives typed messages and follows which peers are online.

Coordinator, generator node and edge agents communicate through :class:`Peer`. To
:class:`~fimi.messaging.link.Link` it adds the message types, births, heartbeats and deaths
(:mod:`fimi.messaging.presence`), and large payloads (:mod:`fimi.messaging.transfers.exchange`).

A device sends its state to the coordinator; coordinator and generator node send theirs to all
peers. So the number of heartbeats grows with the fleet and not with its square.
:meth:`Peer.receive` gives a :class:`~fimi.messaging.messages.DeviceState` when another peer's state
changes: once when it comes online, once when it goes offline (by its own message, by its last will,
or because it was silent for too long), and again when it returns. It does not give the heartbeats
in between.

Messages are delivered at least once while the broker runs, and may be lost when it restarts. A peer
therefore waits for an answer with a deadline. Every message can be applied twice without harm,
because it names run, device and round.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from typing import Literal

import msgspec
from msgspec import Struct
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.documents import Documents
from fimi.messaging.errors import MessageRefused, NotConnected, SendQueueFull
from fimi.messaging.link import Link, Will
from fimi.messaging.messages import DeviceState, Message
from fimi.messaging.outbox import Outbox
from fimi.messaging.presence import PeerView, Presence
from fimi.messaging.topics import COORDINATOR, EVERYBODY, DocumentKind, Kind
from fimi.messaging.transfers.chunks import DEFAULT_CHUNK_BYTES
from fimi.messaging.transfers.exchange import DEFAULT_MAX_BYTES, Transfers
from fimi.messaging.transfers.pacing import SMOOTHING
from fimi.messaging.transfers.wire import decode_message, encode_message, kind_of

Role = Literal["device", "generator", "coordinator"]
Pacing = Literal["socket-pacing", "token-bucket", "unlimited"]

HEARTBEAT_S = 5.0
MAX_RECEIVED = 10_000
GOODBYE_S = 2.0

log = logging.getLogger(__name__)


class PeerCounters(Struct):
    """Numbers of received messages; for diagnosis and tests."""

    received: int = 0
    refused: int = 0
    overflowed: int = 0


class Peer:
    """One connected peer. A context manager; ``with Peer(...) as peer`` connects and closes."""

    def __init__(
        self,
        address: BrokerAddress,
        *,
        fleet: str,
        peer: str,
        role: Role,
        heartbeat_s: float = HEARTBEAT_S,
        silent_after_s: float | None = None,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """Prepare; :meth:`connect` connects.

        Args:
            address: the broker.
            fleet: name of the fleet.
            peer: own id, unique in the fleet; the MQTT client id is ``fleet:peer``.
            role: what kind of process this is.
            heartbeat_s: time between two heartbeats, s.
            silent_after_s: others count as offline after this silence, s; by default three
                heartbeats.
            chunk_bytes: size of the chunks served by ``transfers``.
            max_bytes: largest payload fetched by ``transfers``.

        Raises:
            ValueError: the name of the fleet or the peer id cannot be part of a topic.
        """
        self.address = address
        self.fleet = topics.check_name(fleet, "fleet")
        self.id = topics.check_name(peer, "peer")
        self.boot_id = secrets.token_hex(8)
        self.counters = PeerCounters()
        self._state_to = COORDINATOR if role == "device" else EVERYBODY
        self._state_topic = topics.topic(fleet, peer, self._state_to, "state")
        online = DeviceState(peer=peer, role=role, status="online", boot_id=self.boot_id)
        offline = msgspec.structs.replace(online, status="offline")
        self._online, self._offline = (
            encode_message(state, sender=peer, recipient=self._state_to)
            for state in (online, offline)
        )
        self._heartbeat_s = heartbeat_s
        self._presence = Presence(3 * heartbeat_s if silent_after_s is None else silent_after_s)
        self._inbox: queue.Queue[tuple[str, Message] | None] = queue.Queue(MAX_RECEIVED)
        self._outbox = Outbox()
        self._documents = Documents(self._publish_document)
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._connected = False
        self._rivals: set[str] = set()
        self._link = Link(
            address,
            f"{fleet}:{peer}",  # unique at the broker, which may serve several fleets
            will=Will(self._state_topic, self._offline),
            subscriptions=topics.subscriptions(fleet, peer),
            on_message=self._on_message,
            on_ready=self._on_ready,
            on_confirmed=self._on_confirmed,
        )
        self.transfers = Transfers(
            self,
            chunk_bytes=chunk_bytes,
            max_bytes=max_bytes,
            gone_after_s=self._presence.silent_after_s,
        )
        self._pulse = threading.Thread(target=self._beat, name=f"pulse-{self.id}", daemon=True)

    def connect(self, timeout_s: float = 10.0) -> None:
        """Connect, subscribe and come online.

        After this the connection is made again whenever it is lost.

        Raises:
            BrokerUnreachable: there is no answer at that host and port.
            NotAuthorised: the user name or password is wrong.
            BrokerTimeout: there is no valid answer within ``timeout_s``.
            BrokerError: the broker refuses for another reason.
        """
        if self._connected or self._closing.is_set():
            raise NotConnected(f"peer {self.id} has been connected before; make a new one")
        self._link.connect(timeout_s)
        self._connected = True
        self.transfers.start()
        self._pulse.start()

    def close(self) -> None:
        """Publish the state offline, disconnect, and end all threads; may be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        self.transfers.close()
        if self._connected:
            self._pulse.join()
            if self._link.ready:
                self._publish_state(self._offline, qos=1)
                self.flush(GOODBYE_S)
        self._link.close()
        self._put(None)

    def __enter__(self) -> Peer:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def online(self) -> bool:
        """Whether the broker is connected at present."""
        return self._link.ready

    @property
    def peers(self) -> dict[str, PeerView]:
        """All peers whose state was ever received, by peer id."""
        return self._presence.views()

    def send(self, recipient: str, message: Message) -> None:
        """Send a message (QoS 1) to a peer id or ``"all"``; returns at once. Offline, it waits.

        Raises:
            MessageRefused: it is too large, or names another sender or recipient.
            SendQueueFull: this peer has been offline for too long.
            NotConnected: called before :meth:`connect` or after :meth:`close`.
        """
        self._check_open(f"{type(message).__name__} to {recipient}")
        if (kind := kind_of(message)) != "message":
            raise MessageRefused(
                f"{type(message).__name__} to {recipient} travels as {kind!r}, not as a message"
            )
        payload = encode_message(message, sender=self.id, recipient=recipient)
        topic = topics.topic(self.fleet, self.id, recipient, "message")
        info = self._link.publish(topic, payload, qos=1)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise SendQueueFull(
                f"peer {self.id} has been offline for too long: {type(message).__name__} to "
                f"{recipient} not sent; check the broker at {self.address}"
            )
        self._outbox.add(info)

    def publish_state(self, recipient: str, kind: DocumentKind, message: Message) -> None:
        """Replace the document of this kind for a peer; returns at once. Offline, it waits.

        The broker keeps the latest document and gives it to the recipient whenever that connects;
        there, :meth:`receive` gives it like a message, perhaps several times.

        Raises:
            MessageRefused: it is too large, names another sender or recipient, or is no document of
                this kind.
            NotConnected: called before :meth:`connect` or after :meth:`close`.
        """
        what = f"{type(message).__name__} to {recipient}"
        if kind_of(message) != kind:
            raise MessageRefused(f"{what} travels as {kind_of(message)!r}, not as {kind!r}")
        self._check_open(what)
        payload = encode_message(message, sender=self.id, recipient=recipient)
        self._documents.put(topics.topic(self.fleet, self.id, recipient, kind), payload)

    def withdraw_state(self, recipient: str, kind: DocumentKind) -> None:
        """Let the broker forget the document of this kind for a peer; returns at once.

        Raises:
            NotConnected: called before :meth:`connect` or after :meth:`close`.
        """
        self._check_open(f"the document {kind!r} for {recipient}")
        self._documents.put(topics.topic(self.fleet, self.id, recipient, kind), b"")

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has confirmed everything sent so far; returns whether it has."""
        deadline_s = time.monotonic() + timeout_s
        sent = self._outbox.settled_within(timeout_s)
        return self._documents.settled_within(deadline_s - time.monotonic()) and sent

    def receive(self, timeout_s: float | None = None) -> tuple[str, Message] | None:
        """The next message, or the next change of another peer's state: ``(sender, message)``.

        ``None`` after ``timeout_s``, or once the peer is closed.
        """
        try:
            item = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if item is None:
            self._put(None)  # for the next call
        return item

    def set_pacing(self, rate_bps: float | None) -> Pacing:
        """Limit the rate of payloads that are served, bit/s; ``None`` removes the limit.

        Returns:
            How it is limited: together with the operating system, which spreads each chunk over
            time (Linux), or by this peer alone; ``"unlimited"`` without a limit.
        """
        self.transfers.pace(rate_bps)
        by_kernel = self._link.set_pacing(None if rate_bps is None else SMOOTHING * rate_bps)
        if rate_bps is None:
            return "unlimited"
        return "socket-pacing" if by_kernel else "token-bucket"

    def pacing_bps(self) -> float | None:
        """The rate in force, bit/s; ``None`` if unlimited. The kernel's limit is read back."""
        limits = (self.transfers.rate_bps, self._link.pacing_bps())
        return min((rate for rate in limits if rate is not None), default=None)

    def _check_open(self, what: str) -> None:
        if not self._connected or self._closing.is_set():
            raise NotConnected(f"peer {self.id} is not connected: {what} not sent")

    # The carrier of transfers (:class:`~fimi.messaging.transfers.fetching.Carrier`).

    def publish(self, recipient: str, kind: Kind, payload: bytes) -> MQTTMessageInfo | None:
        """Publish bytes without acknowledgement; ``None`` while offline."""
        if not self._link.ready:
            return None
        topic = topics.topic(self.fleet, self.id, recipient, kind)
        return self._link.publish(topic, payload, qos=0)

    def absent_s(self, peer: str) -> float | None:
        """For how long another peer has been offline; ``None`` if it is not known to be."""
        view = self._presence.view(peer)
        return None if view is None or view.online else time.monotonic() - view.since_s

    # On the network thread.

    def _on_ready(self, first: bool) -> None:
        self._presence.pardon(time.monotonic())
        self._publish_state(self._online, qos=1)
        self._documents.renew()
        if not first:
            self.transfers.on_reconnected()

    def _on_confirmed(self, number: int) -> None:
        if self._documents.confirmed(number):
            self._wake.set()

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        place = topics.parse(topic)
        to_us = place is not None and place.recipient in (self.id, EVERYBODY)
        if place is None or place.fleet != self.fleet or not to_us:
            self._refuse(f"topic {topic!r} is not for {self.id}")
            return
        if place.sender == self.id:
            self._meet_rival(payload, retained, place.kind)
            return
        now_s = time.monotonic()
        living = place.kind != "state" and not retained  # what is retained is no sign of life
        if living and (back := self._presence.heard(place.sender, now_s)) is not None:
            self._put((place.sender, back))
        if place.kind == "want":
            self.transfers.on_request(place.sender, payload)
        elif place.kind == "chunk":
            self.transfers.on_answer(place.sender, payload)
        elif place.kind in ("message", "state", "desired", "reported"):
            self._on_typed(place, payload, now_s)
        else:
            self._refuse(f"topic {topic!r} is of no known kind")

    def _on_typed(self, place: topics.Topic, payload: bytes, now_s: float) -> None:
        if not payload:
            return  # a retained message was cleared
        try:
            message = decode_message(payload, sender=place.sender, recipient=place.recipient)
            if kind_of(message) != place.kind:
                raise MessageRefused(f"{type(message).__name__} came as {place.kind!r}")
        except MessageRefused as error:
            self._refuse(str(error))
            return
        if isinstance(message, DeviceState):
            if (change := self._presence.stated(message, now_s)) is not None:
                self._put((place.sender, change))
        else:
            self.counters.received += 1
            self._put((place.sender, message))

    def _meet_rival(self, payload: bytes, retained: bool, kind: str) -> None:
        """Detect another process with our id: a message under it that we did not send."""
        if retained or kind != "state" or not payload:
            return
        try:
            state = decode_message(payload, sender=self.id, recipient=self._state_to)
        except MessageRefused:
            return
        if not isinstance(state, DeviceState) or state.status != "online":
            return
        if state.boot_id != self.boot_id and state.boot_id not in self._rivals:
            self._rivals.add(state.boot_id)
            log.error("another process uses the peer id %r; ids must be unique", self.id)

    def _refuse(self, why: str) -> None:
        self.counters.refused += 1
        log.warning("dropped: %s", why)

    def _put(self, item: tuple[str, Message] | None) -> None:
        try:
            self._inbox.put_nowait(item)
        except queue.Full:
            self.counters.overflowed += 1
            log.error("message dropped: %d already wait to be received", MAX_RECEIVED)

    # Heartbeats.

    def _beat(self) -> None:
        tick_s = min(self._heartbeat_s, self._presence.silent_after_s / 4)
        now_s = time.monotonic()
        next_beat_s = now_s + self._heartbeat_s
        while True:
            self._wake.wait(max(0.01, min(tick_s, next_beat_s - now_s)))
            self._wake.clear()
            if self._closing.is_set():
                return
            self._documents.pump()
            now_s = time.monotonic()
            beat = now_s >= next_beat_s
            if beat:
                next_beat_s = now_s + self._heartbeat_s
            if not self._link.ready:
                continue
            if beat:
                self._publish_state(self._online, qos=0)
            for state in self._presence.silent(now_s):
                self._put((state.peer, state))

    def _publish_document(self, topic: str, payload: bytes) -> MQTTMessageInfo | None:
        if not self._link.ready:
            return None
        return self._link.publish(topic, payload, qos=1, retain=True)

    def _publish_state(self, state: bytes, *, qos: int) -> None:
        info = self._link.publish(self._state_topic, state, qos=qos, retain=True)
        if qos:
            self._outbox.add(info)
