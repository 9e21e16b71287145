"""One peer's connection: it sends and receives typed messages and follows which peers are online.

Coordinator, generator node and edge agents communicate through :class:`Peer`. It puts together

* :mod:`~fimi.messaging.link`       the connection, with :mod:`~fimi.messaging.pulse`
* :mod:`~fimi.messaging.identity`   the hold on the peer id
* :mod:`~fimi.messaging.outgoing`   what goes out
* :mod:`~fimi.messaging.reception`  what comes in, and waits in :mod:`~fimi.messaging.letters`
* :mod:`~fimi.messaging.heartbeat`  what comes round
* :mod:`~fimi.messaging.transfers.exchange`  large payloads

:meth:`Peer.receive` gives a :class:`~fimi.messaging.messages.peers.DeviceState` when another peer's
state changes: once when it comes online, once when it goes offline (by its own message, by its last
will, or because it was silent for too long), and again when it returns. It does not give the
heartbeats in between.

A peer id belongs to one process of the fleet. A second one is refused when it connects; one that
was suspended and whose id was taken over meanwhile stops: :meth:`Peer.receive` and everything that
sends raise :class:`IdentityTaken`.

Messages are delivered at least once while the broker runs, and may be lost when it restarts. A peer
therefore waits for an answer with a deadline. Every message can be applied twice without harm,
because it names run, device and round. A document (:meth:`Peer.publish_state`) is not lost: the
peer publishes it again after every reconnect.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

from fimi.messaging import topics
from fimi.messaging.access import check_access
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import IdentityTaken, MessageRefused, NotConnected
from fimi.messaging.heartbeat import HEARTBEAT_S, Heartbeat
from fimi.messaging.identity import Identity
from fimi.messaging.letters import Letters, PeerCounters
from fimi.messaging.link import Link
from fimi.messaging.link_carrier import LinkCarrier
from fimi.messaging.looking import Looking, Onlookers
from fimi.messaging.messages.basis import Message
from fimi.messaging.messages.peers import DeviceState, Role, Telemetry
from fimi.messaging.notice import LeaseNotice
from fimi.messaging.offenders import Offender, Offenders
from fimi.messaging.outgoing import Outgoing
from fimi.messaging.own_state import OwnState
from fimi.messaging.paho_clients import Will
from fimi.messaging.presence import PeerView, Presence
from fimi.messaging.pulse import Pulsing
from fimi.messaging.reception import Reception
from fimi.messaging.size_trial import SizeTrial
from fimi.messaging.telemetry import LatestTelemetry
from fimi.messaging.topics import DocumentKind
from fimi.messaging.transfers.exchange import DEFAULT_MAX_BYTES, Transfers
from fimi.messaging.transfers.pacing import SMOOTHING
from fimi.messaging.transfers.window import MAX_CHUNK_BYTES
from fimi.messaging.transfers.wire import kind_of

Pacing = Literal["socket-pacing", "token-bucket", "unlimited"]

GOODBYE_S = 2.0
"""The last messages of a peer that closes may take so long, s."""

log = logging.getLogger(__name__)


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
        self._connected = False
        self._closing = threading.Event()
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
        self._state = OwnState(fleet=fleet, peer=peer, role=role, boot_id=self.boot_id)
        self._link = Link(
            address,
            address.client_id(f"{fleet}:{peer}"),  # a broker may serve several fleets
            has_pulse=True,
            will=Will(self._state.topic, self._state.will),
            subscriptions=topics.subscriptions(fleet, peer),
            on_message=self._on_message,
            on_ready=self._on_ready,
            on_confirmed=self._on_confirmed,
        )
        self._outgoing = Outgoing(fleet, peer, self._link, self._state, lambda: self._may_publish)
        self._presence = Presence(3 * heartbeat_s if silent_after_s is None else silent_after_s)
        self.transfers = Transfers(
            LinkCarrier(fleet, peer, self._link, self._presence),
            chunk_bytes=chunk_bytes,
            max_bytes=max_bytes,
            gone_after_s=self._presence.silent_after_s,
        )
        self._pulsing = Pulsing(
            self._link, topics.topic(fleet, peer, peer, "pulse"), self.transfers.expected_bytes
        )
        self._sizes = SizeTrial(
            self._link, topics.topic(fleet, peer, peer, "check"), only_small=role == "device"
        )
        self._letters = Letters(self.counters)
        self._telemetry = LatestTelemetry()
        self._looks = Onlookers() if role == "coordinator" else None
        self.looking = Looking()
        """Whether somebody looks at this device."""
        self._offenders = Offenders(told_elsewhere=role == "coordinator")  # as events of its run
        self.transfers.on_damaged = self._on_damaged_chunk
        self._notice = LeaseNotice(self._identity, self._offenders, what)
        self._heartbeat = Heartbeat(
            peer,
            every_s=heartbeat_s,
            link=self._link,
            identity=self._identity,
            documents=self._outgoing.documents,
            presence=self._presence,
            on_turn=self._notice.show_aside,
            on_beat=self._outgoing.beat,
            on_lost=self._on_lost_peer,
        )
        self._reception = Reception(
            fleet=fleet,
            peer=peer,
            to_itself={
                "lease": partial(self._identity.on_message, "lease"),
                "claim": partial(self._identity.on_message, "claim"),
                "pulse": self._pulsing.on_echo,
                "check": self._sizes.on_echo,
            },
            counters=self.counters,
            letters=self._letters,
            presence=self._presence,
            offenders=self._offenders,
            transfers=self.transfers,
            telemetry=self._telemetry,
            looking=self.looking,
            on_leaving=self._heartbeat.wake,
        )

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
            self._sizes.run()
        except BaseException:
            if self._taken is not None:
                raise self._taken from None
            if (said := self._identity.release()) is not None:
                self._outgoing.note(said)
                self._outgoing.flush(GOODBYE_S)
            raise
        finally:
            probe.close()
        if self._taken is not None:
            raise self._taken
        self._offenders.forged = self._link.may_write(self._stranger(), timeout_s) is not False
        self._connected = True
        self.transfers.start()
        self._pulsing.start()
        self._heartbeat.start()

    def _stranger(self) -> str:
        """A topic of a sender that is not this peer; with access rules nobody may write there."""
        return topics.topic(self.fleet, f"stranger-{secrets.token_hex(4)}", self.id, "check")

    def close(self) -> None:
        """Publish the state offline, disconnect, and end all threads; may be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._heartbeat.close()
        self._pulsing.close()
        self.transfers.close()
        if self._connected and self._may_publish:
            self._outgoing.goodbye()
            self._outgoing.note(self._identity.release())
            self.flush(GOODBYE_S)
        self._link.close()
        self._letters.close()

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
        self._notice.describe(what)

    def broker_away_s(self) -> float | None:
        """For how long the broker has been away, s; ``None`` while it is connected."""
        return self._link.away_s

    @property
    def shut_out(self) -> str:
        """Why the broker does not let this peer come back, and what to do; empty otherwise."""
        return self._link.shut_out

    @property
    def peers(self) -> dict[str, PeerView]:
        """All peers whose state was ever received, by peer id."""
        return self._presence.views()

    def absent_s(self, peer: str) -> float | None:
        """For how long another peer has been offline, s; ``None`` if it is not known to be."""
        return self._presence.absent_s(peer, time.monotonic())

    def send(self, recipient: str, message: Message) -> None:
        """Send a message (QoS 1) to a peer id or ``"all"``; returns at once. Offline, it waits.

        Raises:
            MessageRefused: it is too large, or names another sender or recipient.
            SendQueueFull: this peer has been offline for too long.
            NotConnected: called before :meth:`connect` or after :meth:`close`.
            IdentityTaken: another process has taken over the peer id.
        """
        self._check_open(f"{type(message).__name__} to {recipient}")
        self._outgoing.message(recipient, message)

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
        self._outgoing.document(recipient, kind, message)

    def withdraw_state(self, recipient: str, kind: DocumentKind) -> None:
        """Let the broker forget the document of this kind for a peer; returns at once.

        Raises:
            NotConnected: called before :meth:`connect` or after :meth:`close`.
        """
        self._check_open(f"the document {kind!r} for {recipient}")
        self._outgoing.withdraw(recipient, kind)

    def on_ask(self, handler: Callable[[bytes], None]) -> None:
        """Let a handler have the questions of consoles, on the network thread, as bytes."""
        self._reception.on_ask = handler

    def tell(self, kind: Literal["answer", "status"], payload: bytes) -> None:
        """Tell consoles something: an answer once, or the status, which the broker keeps.

        Returns at once. Offline, a status waits; an answer that waits too long is dropped.

        Raises:
            MessageRefused: the broker does not take so much.
            NotConnected: called before :meth:`connect` or after :meth:`close`.
            IdentityTaken: another process has taken over the peer id.
        """
        self._check_open(kind)
        self._outgoing.to_consoles(kind, payload)

    def tell_telemetry(self, message: Telemetry) -> bool:
        """Tell the coordinator how this device is, once and without acknowledgement.

        Returns at once, and whether it was sent: while there is no connection it is dropped.

        Raises:
            MessageRefused: it names another device.
            NotConnected: called before :meth:`connect` or after :meth:`close`.
            IdentityTaken: another process has taken over the peer id.
        """
        self._check_open("telemetry")
        return self._outgoing.telemetry(message)

    def telemetry(self, reader: str = "") -> dict[str, Telemetry]:
        """The latest telemetry of every device that is online and sends any, by its id.

        Devices are told if the coordinator reads it again and again: then they send it more often
        (:mod:`fimi.messaging.looking`).

        Args:
            reader: who reads it, where several do.
        """
        if self._looks is not None and self._looks.read(reader):
            self._outgoing.look()
        return self._telemetry.read()

    def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has confirmed everything sent so far; returns whether it has."""
        return self._outgoing.flush(timeout_s)

    def receive(self, timeout_s: float | None = None) -> tuple[str, Message] | None:
        """The next message, or the next change of another peer's state: ``(sender, message)``.

        ``None`` after ``timeout_s``, or once the peer is closed.

        Raises:
            IdentityTaken: another process has taken over the peer id.
        """
        received = None if self._taken is not None else self._letters.get(timeout_s)
        if self._taken is not None and not self._closing.is_set():
            raise self._taken
        return received

    @property
    def offenders(self) -> tuple[Offender, ...]:
        """Who has sent what could not be used (:mod:`fimi.messaging.offenders`), worst first."""
        return self._offenders.seen()

    @property
    def aside(self) -> tuple[Offender, ...]:
        """Who is set aside at present."""
        return self._notice.aside

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

    def _check_open(self, what: str) -> None:
        if self._taken is not None:
            raise self._taken
        if not self._connected or self._closing.is_set():
            raise NotConnected(f"peer {self.id} is not connected: {what} not sent")

    # On the network thread.

    def _on_ready(self, first: bool) -> None:
        self._presence.pardon(time.monotonic())
        self._state.has_connected()
        if first:
            self._outgoing.birth()
        else:
            self._identity.ask()  # the rest follows once the id is known to be still our own

    def _on_confirmed_identity(self) -> None:
        self._outgoing.birth()
        self._outgoing.documents.renew()
        self.transfers.on_reconnected()

    def _on_lost_identity(self, error: IdentityTaken) -> None:
        self._taken = error
        log.error("stopped: %s", error)
        self._link.give_up()
        self._letters.close()
        self._heartbeat.end(self._stop)

    def _on_confirmed(self, number: int) -> None:
        if self._outgoing.documents.confirmed(number):
            self._heartbeat.wake()

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        self._reception.take(topic, payload, retained)

    # On any thread.

    def _on_damaged_chunk(self, holder: str, size_bytes: int) -> None:
        self._offenders.offended(holder, size_bytes, "a chunk is damaged", time.monotonic())

    # On the thread of heartbeats.

    def _on_lost_peer(self, state: DeviceState) -> None:
        self._telemetry.forget(state.peer)
        self._letters.put_state(state)

    def _stop(self) -> None:
        """The id is another process's: end everything that talks."""
        self._pulsing.close()
        self.transfers.close()
        self._link.close()
