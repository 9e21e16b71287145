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

A peer id belongs to one process of the fleet (:mod:`fimi.messaging.identity`). A second one is
refused when it connects; one that was suspended and whose id was taken over meanwhile stops:
:meth:`Peer.receive` and everything that sends raise :class:`IdentityTaken`.

Messages are delivered at least once while the broker runs, and may be lost when it restarts. A peer
therefore waits for an answer with a deadline. Every message can be applied twice without harm,
because it names run, device and round. A document (:meth:`Peer.publish_state`) is not lost: the
peer publishes it again after every reconnect (:mod:`fimi.messaging.documents`).

A device may tell at a steady rate how it is (:mod:`fimi.messaging.telemetry`): the coordinator's
:meth:`Peer.telemetry` has the latest of each.

A device also hears the questions of consoles (:mod:`fimi.messaging.questions`), by
:meth:`Peer.on_ask`. Other peers ignore them, and the answers.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from fimi.learning.data.contract import PROTOCOL, other_protocol
from fimi.messaging import topics
from fimi.messaging.access import check_access
from fimi.messaging.address import BrokerAddress
from fimi.messaging.documents import Documents
from fimi.messaging.errors import IdentityTaken, MessageRefused, NotConnected, SendQueueFull
from fimi.messaging.identity import Identity
from fimi.messaging.limits import TRIED_BYTES, dropped
from fimi.messaging.link import Link, Will
from fimi.messaging.mailbox import Mailbox
from fimi.messaging.messages import Desired, DeviceState, Message, Reported, Role, Telemetry
from fimi.messaging.offenders import Offender, Offenders
from fimi.messaging.outbox import Outbox
from fimi.messaging.presence import PeerView, Presence
from fimi.messaging.pulse import Pulsing
from fimi.messaging.questions import Ask, decode
from fimi.messaging.roles import check_role, check_sender, state_recipient
from fimi.messaging.telemetry import LatestTelemetry
from fimi.messaging.topics import COORDINATOR, EVERYBODY, SHARED, DocumentKind, Kind
from fimi.messaging.transfers.exchange import DEFAULT_MAX_BYTES, Transfers
from fimi.messaging.transfers.pacing import SMOOTHING
from fimi.messaging.transfers.window import MAX_CHUNK_BYTES
from fimi.messaging.transfers.wire import decode_message, encode_message, kind_of

Pacing = Literal["socket-pacing", "token-bucket", "unlimited"]

HEARTBEAT_S = 5.0
GOODBYE_S = 2.0
TRANSFER_EXPIRY_S = 60
ANSWER_EXPIRY_S = 60
AWAY_LOG_S, AWAY_LOG_MOST_S = (
    30.0,
    3600.0,
)  # that it is away is said after this, and then ever more rarely
TRIED_S = 1.5

log = logging.getLogger(__name__)


class PeerCounters(Struct):
    """Numbers of received messages; for diagnosis and tests.

    Attributes:
        received: that could be used.
        refused: that could not.
        unseen: that were not looked at: their sender is set aside, or sends too often.
        overflowed: that were dropped before they were received, because too many waited.
    """

    received: int = 0
    refused: int = 0
    unseen: int = 0
    overflowed: int = 0
    telemetry: int = 0


class _Sealed(NamedTuple):
    """A checked message as it came: its bytes take a known amount of memory, its objects do not."""

    payload: bytes
    recipient: str


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
        chunk_bytes: int = MAX_CHUNK_BYTES,
        max_bytes: int = DEFAULT_MAX_BYTES,
        epoch_after: int = 0,
        what: str = "",
    ) -> None:
        """Prepare; :meth:`connect` connects.

        Args:
            address: the broker.
            fleet: name of the fleet.
            peer: own id, of one process in the fleet; the MQTT client id is made from it and the
                credentials (:meth:`~fimi.messaging.address.BrokerAddress.client_id`).
            role: what kind of process this is.
            heartbeat_s: time between two heartbeats, s.
            silent_after_s: others count as offline after this silence, s; by default three
                heartbeats.
            chunk_bytes: largest chunk that ``transfers`` send.
            max_bytes: largest payload fetched by ``transfers``.
            epoch_after: :attr:`epoch` will be greater.
            what: what the process does, for example ``"run desk-3"``; told to a second process
                that wants the id.

        Raises:
            ValueError: the name of the fleet or the peer id cannot be part of a topic.
        """
        self.address = address
        self.fleet = topics.check_name(fleet, "fleet")
        self.id = topics.check_name(peer, "peer")
        self.boot_id = secrets.token_hex(8)
        self.counters = PeerCounters()
        self._role: Role = role
        self._state_to = state_recipient(role)
        self._state_topic = topics.topic(fleet, peer, self._state_to, "state")
        self._state = DeviceState(
            peer=peer, role=role, status="online", boot_id=self.boot_id, protocol=PROTOCOL
        )
        self._online = b""  # its state, encoded, with the number of the present connection
        offline = msgspec.structs.replace(self._state, status="offline")
        goodbye = msgspec.structs.replace(offline, goodbye=True)
        self._offline, self._goodbye = (
            encode_message(state, sender=peer, recipient=self._state_to)
            for state in (offline, goodbye)
        )
        self._heartbeat_s = heartbeat_s
        self._presence = Presence(3 * heartbeat_s if silent_after_s is None else silent_after_s)
        self._mailbox: Mailbox[DeviceState | _Sealed] = Mailbox()
        self._offenders = Offenders(told_elsewhere=role == "coordinator")  # as events of its run
        self._dropped_told = 0
        self._came_back = {size: threading.Event() for size in TRIED_BYTES}
        self._what = what
        self._aside: tuple[str, ...] = ()
        self._ask_handler: Callable[[bytes], None] | None = None
        self._outbox = Outbox()
        self._telemetry = LatestTelemetry()
        self._documents = Documents(self._publish_document)
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._connected = False
        self._taken: IdentityTaken | None = None
        self._identity = Identity(
            fleet=fleet,
            peer=peer,
            role=role,
            boot_id=self.boot_id,
            epoch_after=epoch_after,
            what=what,
            on_confirmed=self._on_confirmed_identity,
            on_lost=self._on_lost_identity,
        )
        self._link = Link(
            address,
            address.client_id(f"{fleet}:{peer}"),  # a broker may serve several fleets
            has_pulse=True,
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
        self._pulsing = Pulsing(
            self._link, topics.topic(fleet, peer, peer, "pulse"), self.transfers.expected_bytes
        )
        self._beats = threading.Thread(target=self._beat, name=f"beat-{self.id}", daemon=True)

    def connect(self, timeout_s: float = 10.0) -> None:
        """Take the peer id, connect, subscribe and come online.

        After this the connection is made again whenever it is lost.

        Raises:
            IdentityTaken: another process uses the peer id; says which one and since when.
            BrokerUnreachable: there is no answer at that host and port.
            NotAuthorised: the user name or password is wrong, or the broker's access rules do not
                let this user be this peer.
            BrokerTimeout: there is no valid answer within ``timeout_s``.
            BrokerError: the broker refuses for another reason.
        """
        if self._connected or self._closing.is_set():
            raise NotConnected(f"peer {self.id} has been connected before; make a new one")
        probe = self._identity.take(
            self.address,
            timeout_s,
            lambda link: check_access(link, self.fleet, self.id, self._role, timeout_s),
        )
        try:
            self._link.connect(timeout_s)
            self._identity.move(self._link)
        except BaseException:
            if self._taken is not None:
                raise self._taken from None
            if (said := self._identity.release()) is not None:
                self._outbox.add(said)
                self._outbox.settled_within(GOODBYE_S)
            raise
        finally:
            probe.close()
        if self._taken is not None:
            raise self._taken
        self._offenders.forged = self._link.may_write(self._stranger(), timeout_s) is not False
        if self._role != "device":  # of which there are many, behind links that cost joules
            self._try_sizes()
        self._connected = True
        self.transfers.start()
        self._pulsing.start()
        self._beats.start()

    def _try_sizes(self) -> None:
        """Find out whether the broker drops what has the size of a chunk."""
        topic = topics.topic(self.fleet, self.id, self.id, "check")
        small, large = TRIED_BYTES
        named = self._link.largest_payload(topic)
        if named is not None and named < large:
            return  # what the broker says itself is kept to
        for size in TRIED_BYTES:
            self._link.publish(topic, bytes(size), qos=0)
        if self._came_back[small].wait(TRIED_S) and not self._came_back[large].wait(TRIED_S):
            self._link.limit(small, dropped())

    def _has_come_back(self, size_bytes: int) -> None:
        if (came := self._came_back.get(size_bytes)) is not None:
            came.set()
            if size_bytes == max(TRIED_BYTES):
                self._link.limit(None)  # it was late only

    def _stranger(self) -> str:
        """A topic of a sender that is not this peer; with access rules nobody may write there."""
        return topics.topic(self.fleet, f"stranger-{secrets.token_hex(4)}", self.id, "check")

    def close(self) -> None:
        """Publish the state offline, disconnect, and end all threads; may be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        self._pulsing.close()
        self.transfers.close()
        if self._connected:
            self._beats.join()
            if self._may_publish:
                self._publish_state(self._goodbye, qos=1)
                if (said := self._identity.release()) is not None:
                    self._outbox.add(said)
                self.flush(GOODBYE_S)
        self._link.close()
        self._mailbox.close()

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
    def epoch(self) -> int:
        """Number of this process among all that had the peer id; each has a greater one."""
        return self._identity.lease.epoch

    def describe(self, what: str) -> None:
        """Say what this process does, for example ``"run desk-3"``, to others that want its id."""
        self._what = what
        self._identity.describe(self._described())

    def broker_away_s(self) -> float | None:
        """For how long the broker has been away, s; ``None`` while it is connected."""
        return self._link.away_s

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
            IdentityTaken: another process has taken over the peer id.
        """
        self._check_open(f"{type(message).__name__} to {recipient}")
        if (kind := kind_of(message)) != "message":
            raise MessageRefused(
                f"{type(message).__name__} to {recipient} travels as {kind!r}, not as a message"
            )
        topic = topics.topic(self.fleet, self.id, recipient, "message")
        payload = self._encode(message, recipient, topic)
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
            IdentityTaken: another process has taken over the peer id.
        """
        what = f"{type(message).__name__} to {recipient}"
        if kind_of(message) != kind:
            raise MessageRefused(f"{what} travels as {kind_of(message)!r}, not as {kind!r}")
        self._check_open(what)
        topic = topics.topic(self.fleet, self.id, recipient, kind)
        self._documents.put(topic, self._encode(message, recipient, topic))

    def withdraw_state(self, recipient: str, kind: DocumentKind) -> None:
        """Let the broker forget the document of this kind for a peer; returns at once.

        Raises:
            NotConnected: called before :meth:`connect` or after :meth:`close`.
        """
        self._check_open(f"the document {kind!r} for {recipient}")
        self._documents.put(topics.topic(self.fleet, self.id, recipient, kind), b"")

    def on_ask(self, handler: Callable[[bytes], None]) -> None:
        """Let a handler have the questions of consoles, on the network thread, as bytes."""
        self._ask_handler = handler

    def tell(self, kind: Literal["answer", "status"], payload: bytes) -> None:
        """Tell consoles something: an answer once, or the status, which the broker keeps.

        Returns at once. Offline, a status waits; an answer that waits too long is dropped.

        Raises:
            MessageRefused: the broker does not take so much.
            NotConnected: called before :meth:`connect` or after :meth:`close`.
            IdentityTaken: another process has taken over the peer id.
        """
        self._check_open(kind)
        topic = topics.topic(self.fleet, self.id, COORDINATOR, kind)
        limit = self._link.largest_payload(topic)
        if limit is not None and len(payload) > limit:
            raise MessageRefused(f"{kind} of {len(payload)} B: the broker takes {limit} B")
        if kind == "status":
            self._documents.put(topic, payload)
        else:
            self._outbox.add(self._link.publish(topic, payload, qos=1, expires_s=ANSWER_EXPIRY_S))

    def tell_telemetry(self, message: Telemetry) -> bool:
        """Tell the coordinator how this device is, once and without acknowledgement.

        Returns at once, and whether it was sent: while there is no connection it is dropped.

        Raises:
            MessageRefused: it names another device.
            NotConnected: called before :meth:`connect` or after :meth:`close`.
            IdentityTaken: another process has taken over the peer id.
        """
        self._check_open("telemetry")
        if not self._may_publish:
            return False
        topic = topics.topic(self.fleet, self.id, COORDINATOR, "telemetry")
        self._link.publish(topic, self._encode(message, COORDINATOR, topic), qos=0)
        return True

    def telemetry(self) -> dict[str, Telemetry]:
        """The latest telemetry of every device that is online and sends any, by its id."""
        return self._telemetry.read()

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has confirmed everything sent so far; returns whether it has."""
        deadline_s = time.monotonic() + timeout_s
        sent = self._outbox.settled_within(timeout_s)
        return self._documents.settled_within(deadline_s - time.monotonic()) and sent

    def receive(self, timeout_s: float | None = None) -> tuple[str, Message] | None:
        """The next message, or the next change of another peer's state: ``(sender, message)``.

        ``None`` after ``timeout_s``, or once the peer is closed.

        Raises:
            IdentityTaken: another process has taken over the peer id.
        """
        item = None if self._taken is not None else self._mailbox.get(timeout_s)
        if self._taken is not None and not self._closing.is_set():
            raise self._taken
        if item is None:
            return None
        sender, content = item
        if isinstance(content, DeviceState):
            return sender, content
        return sender, decode_message(content.payload, sender=sender, recipient=content.recipient)

    @property
    def offenders(self) -> tuple[Offender, ...]:
        """Who has sent what could not be used (:mod:`fimi.messaging.offenders`), worst first."""
        return self._offenders.seen()

    @property
    def aside(self) -> tuple[Offender, ...]:
        """Who is set aside at present."""
        now_s = time.monotonic()
        return tuple(each for each in self.offenders if each.until_s > now_s)

    @property
    def set_asides(self) -> int:
        """How often anybody was set aside."""
        return self._offenders.version

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

    @property
    def _may_publish(self) -> bool:
        """Whether the broker is connected, and the peer id known to be still our own."""
        return self._link.ready and self._identity.confirmed

    def _encode(self, message: Message, recipient: str, topic: str) -> bytes:
        payload = encode_message(message, sender=self.id, recipient=recipient)
        limit = self._link.largest_payload(topic)
        if limit is not None and len(payload) > limit:
            raise MessageRefused(
                f"{type(message).__name__} to {recipient} has {len(payload)} B, the broker at "
                f"{self.address} takes {limit} B; raise its max_packet_size"
            )
        return payload

    def _check_open(self, what: str) -> None:
        if self._taken is not None:
            raise self._taken
        if not self._connected or self._closing.is_set():
            raise NotConnected(f"peer {self.id} is not connected: {what} not sent")

    # The carrier of transfers (:class:`~fimi.messaging.transfers.fetching.Carrier`).

    def publish(self, recipient: str, kind: Kind, payload: bytes) -> MQTTMessageInfo | None:
        """Publish bytes without acknowledgement; ``None`` while offline."""
        if not self._link.ready:
            return None
        topic = topics.topic(self.fleet, self.id, recipient, kind)
        return self._link.publish(topic, payload, qos=0, expires_s=TRANSFER_EXPIRY_S)

    def publish_shared(self, digest: str, payload: bytes) -> MQTTMessageInfo | None:
        """Publish a chunk to all that hear a payload's stream; ``None`` while offline."""
        if not self._link.ready:
            return None
        topic = topics.shared(self.fleet, self.id, digest)
        return self._link.publish(topic, payload, qos=0, expires_s=TRANSFER_EXPIRY_S)

    def listen(self, holder: str, digest: str) -> None:
        """Hear the stream of a payload."""
        self._link.listen(topics.shared(self.fleet, holder, digest))

    def unlisten(self, holder: str, digest: str) -> None:
        """Hear the stream of a payload no more."""
        self._link.unlisten(topics.shared(self.fleet, holder, digest))

    def largest_payload(self, recipient: str, kind: Kind) -> int | None:
        """The largest payload that the broker takes, bytes; ``None`` if it names none."""
        return self._link.largest_payload(topics.topic(self.fleet, self.id, recipient, kind))

    def absent_s(self, peer: str) -> float | None:
        """For how long another peer has been offline; ``None`` if it is not known to be."""
        view = self._presence.view(peer)
        return None if view is None or view.online else time.monotonic() - view.since_s

    # On the network thread.

    def _on_ready(self, first: bool) -> None:
        self._presence.pardon(time.monotonic())
        self._state = msgspec.structs.replace(self._state, session=self._state.session + 1)
        self._online = encode_message(self._state, sender=self.id, recipient=self._state_to)
        if first:
            self._publish_state(self._online, qos=1)
        else:
            self._identity.ask()  # the rest follows once the id is known to be still our own

    def _on_confirmed_identity(self) -> None:
        self._publish_state(self._online, qos=1)
        self._documents.renew()
        self.transfers.on_reconnected()

    def _on_lost_identity(self, error: IdentityTaken) -> None:
        self._taken = error
        log.error("stopped: %s", error)
        self._link.give_up()
        self._mailbox.close()
        self._wake.set()

    def _on_confirmed(self, number: int) -> None:
        if self._documents.confirmed(number):
            self._wake.set()

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        place = topics.parse(topic)
        to_us = place is not None and place.recipient in (self.id, EVERYBODY, SHARED)
        sender = topics.sender_of(topic)
        if place is None or place.fleet != self.fleet or not to_us or place.sender != sender:
            self._refuse(sender, payload, f"topic {topic[:200]!r} has no known form")
            return
        if place.sender == self.id:
            if place.kind in ("lease", "claim"):
                self._on_identity(place.kind, payload)
            elif place.kind == "pulse":
                self._pulsing.on_echo(payload)
            elif place.kind == "check":
                self._has_come_back(len(payload))
            return
        if place.kind == "ask":  # of a console that speaks as the coordinator, and is none
            if self._ask_handler is not None and place.sender == COORDINATOR:
                self._on_question(self._ask_handler, place, payload)
            return
        now_s = time.monotonic()
        bulk = place.kind in ("want", "chunk") or place.recipient == SHARED
        if not self._offenders.admits(place.sender, len(payload), now_s, bulk=bulk):
            self.counters.unseen += 1
            return
        living = place.kind != "state" and not retained  # what is retained is no sign of life
        if living and (back := self._presence.heard(place.sender, now_s)) is not None:
            self._put(place.sender, back)
            self.transfers.on_back(place.sender)
        if bulk:
            self._on_bulk(place, payload, now_s)
        elif place.kind in ("message", "state", "desired", "reported"):
            self._on_typed(place, payload, retained, now_s)
        elif place.kind == "telemetry":
            self._on_telemetry(place, payload)
        elif place.kind not in ("answer", "status", "check"):  # for consoles, and for nobody
            self._refuse(place.sender, payload, f"topic {topic!r} is of no known kind")

    def _on_question(
        self, handler: Callable[[bytes], None], place: topics.Topic, payload: bytes
    ) -> None:
        now_s = time.monotonic()
        if not self._offenders.admits(place.sender, len(payload), now_s):
            self.counters.unseen += 1
            return
        try:
            decode(payload, Ask)
        except MessageRefused as error:
            self._refuse(place.sender, payload, str(error))
            return
        self._offenders.passed(place.sender, now_s)
        handler(payload)

    def _on_bulk(self, place: topics.Topic, payload: bytes, now_s: float) -> None:
        if place.kind == "want":
            self.transfers.on_request(place.sender, payload)
        else:
            self.transfers.on_answer(place.sender, payload, shared=place.recipient == SHARED)
        if self.transfers.refusals:
            why = self.transfers.refusals.pop()
            self._offenders.offended(place.sender, len(payload), why, now_s)
        else:
            self._offenders.passed(place.sender, now_s)

    def _on_typed(self, place: topics.Topic, payload: bytes, retained: bool, now_s: float) -> None:
        if not payload:
            return  # a retained message was cleared
        try:
            message = decode_message(payload, sender=place.sender, recipient=place.recipient)
            if kind_of(message) != place.kind:
                raise MessageRefused(f"{type(message).__name__} came as {place.kind!r}")
            if isinstance(message, DeviceState):
                check_role(message, place.sender, place.recipient)
            else:
                view = self._presence.view(place.sender)
                check_sender(message, place.sender, None if view is None else view.state.role)
        except MessageRefused as error:
            self._refuse(place.sender, payload, str(error))
            return
        self._offenders.passed(place.sender, now_s)
        if isinstance(message, DeviceState):
            here = retained and self._presence.view(place.sender) is None  # before this peer was
            is_back = self._presence.has_reconnected(message)
            if (change := self._presence.stated(message, now_s)) is not None:
                if change.protocol != PROTOCOL and change.status == "online":
                    log.error(
                        "%s",
                        other_protocol(place.sender, change.protocol, PROTOCOL, "this process"),
                    )
                self._put(place.sender, change)
                is_back = not here
            elif message.status == "offline":
                self._wake.set()
            if is_back:  # what it was asked for before is lost
                self.transfers.on_back(place.sender)
        else:
            self.counters.received += 1
            self._put(place.sender, message, _Sealed(payload, place.recipient))

    def _on_telemetry(self, place: topics.Topic, payload: bytes) -> None:
        self.counters.telemetry += 1
        try:
            self._telemetry.put(place.sender, place.recipient, payload)
        except MessageRefused as error:
            self._refuse(place.sender, payload, str(error))

    def _on_identity(self, kind: str, payload: bytes) -> None:
        try:
            self._identity.on_message(kind, payload)
        except MessageRefused as error:
            self._refuse(self.id, payload, str(error))

    def _refuse(self, sender: str, payload: bytes, why: str) -> None:
        self.counters.refused += 1
        self._offenders.offended(sender, len(payload), why, time.monotonic())

    def _put(self, sender: str, message: Message, sealed: _Sealed | None = None) -> None:
        """Let a message wait; a document takes the place of an earlier one that still waits."""
        key: tuple[str, ...] | None = None
        if isinstance(message, Reported):  # a later one of the same start holds all of this one
            key = ("reported", message.instance, message.boot_id)
        elif isinstance(message, Desired):
            key = ("desired", message.instance, str(message.epoch))
        if isinstance(message, DeviceState):
            lost = self._mailbox.put(sender, message, len(message.boot_id))
        else:
            assert sealed is not None
            number = (message.number,) if isinstance(message, Reported | Desired) else ()
            lost = self._mailbox.put(sender, sealed, len(sealed.payload), key=key, number=number)
        for name in lost:
            self.counters.overflowed += 1
            if self.counters.overflowed >= 10 * self._dropped_told:
                self._dropped_told = self.counters.overflowed
                log.error(
                    "too much waits to be received: %d messages dropped so far, the last of %s",
                    *(self.counters.overflowed, name),
                )

    # The thread of heartbeats.

    def _beat(self) -> None:
        tick_s = min(self._heartbeat_s, self._presence.silent_after_s / 4)
        now_s = time.monotonic()
        next_beat_s = now_s + self._heartbeat_s
        next_word_s = AWAY_LOG_S
        while True:
            before_s = now_s
            next_s = min(next_beat_s, self._presence.next_s())
            self._wake.wait(max(0.01, min(tick_s, next_s - time.monotonic())))
            self._wake.clear()
            if self._closing.is_set():
                return
            if self._taken is not None:
                self._pulsing.close()
                self.transfers.close()
                self._link.close()
                return
            self._documents.pump()
            now_s = time.monotonic()
            if now_s - before_s > 2 * tick_s:  # this process stood still: who was silent was it
                self._presence.pardon(now_s, wills=False)
            beat = now_s >= next_beat_s
            if beat:
                next_beat_s = now_s + self._heartbeat_s
            if not self._link.ready:
                if (away_s := self.broker_away_s() or 0.0) >= next_word_s:
                    log.warning("broker at %s away for %.0f s", self.address, away_s)
                    next_word_s += min(next_word_s, AWAY_LOG_MOST_S)
                continue
            next_word_s = AWAY_LOG_S
            if not self._identity.confirmed:
                self._identity.ask_if_unconfirmed()
                continue
            self._show_aside()
            if beat:
                self._publish_state(self._online, qos=0)
            for state in self._presence.lost(now_s):
                self._telemetry.forget(state.peer)
                self._put(state.peer, state)

    def _show_aside(self) -> None:
        """Say in the lease who is set aside, where people see it (``fimi fleet status``)."""
        if not self._offenders.version:
            return
        aside = tuple(each.sender for each in self.aside)
        if aside != self._aside:
            self._aside = aside
            self._identity.describe(self._described())

    def _described(self) -> str:
        if not (names := self._aside):
            return self._what
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        said = f"sets aside {', '.join(names[:3])}{more}"
        return f"{self._what}, {said}" if self._what else said

    def _publish_document(self, topic: str, payload: bytes) -> MQTTMessageInfo | None:
        if not self._may_publish:
            return None
        return self._link.publish(topic, payload, qos=1, retain=True)

    def _publish_state(self, state: bytes, *, qos: int) -> None:
        info = self._link.publish(self._state_topic, state, qos=qos, retain=True)
        if qos:
            self._outbox.add(info)
