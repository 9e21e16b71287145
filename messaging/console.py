"""A person's connection to a fleet: sees its boards, asks them, and disturbs nobody.

:class:`Console` speaks in the coordinator's place, because the broker's access rules let whoever
may be the coordinator speak to boards. It holds no lease and has a random client id, so that any
number of them may be open beside a running coordinator, which ignores what they say and hear. It
sees what the broker has kept of every device: its state (online or not) and its status.

* :meth:`Console.look`   every device, with its status of now where it answers
* :meth:`Console.ask`    one question to one device, until its reply
* :class:`SeenBoard`          one device as it was seen
* :data:`Standing`       whether it can be asked

A question is not kept by the broker for longer than a few seconds, and names the start of the agent
that it is for: nothing is done an hour late, or twice.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from fimi.learning.data.contract import PROTOCOL, other_protocol
from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import (
    BoardDeclines,
    BrokerUnreachable,
    MessageRefused,
    NotAnswered,
)
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import DeviceState, Lease
from fimi.messaging.offenders import Offenders
from fimi.messaging.questions import (
    AnyQuestion,
    AnyReply,
    Ask,
    BoardAnswer,
    BoardStatus,
    Declined,
    ErrandProgress,
    StatusQuestion,
    decode,
    decode_reply,
    encode,
    new_id,
)
from fimi.messaging.roles import check_role
from fimi.messaging.topics import COORDINATOR, EVERYBODY
from fimi.messaging.transfers.wire import decode_message

ASK_EXPIRY_S = 10
"""A question that cannot be delivered for so long is dropped by the broker, s."""

LOOK_S = 3.0
"""How long boards have time to answer a look, s."""

MAX_REPLIES = 256
"""Most replies to one question that wait to be read."""

NOBODY_S = 0.5
"""How long somebody may show up where the broker keeps of no device that it is online, s."""

ANSWER_S = 10.0
"""How long a board may be silent when it is asked, s."""

Standing = Literal["answers", "silent", "older", "other-protocol", "offline"]
"""Of a device: it answers; it says that it is online, and does not answer; the same, and its agent
has never published a status: it is of before there were questions; its agent speaks another version
of the conversation; it is offline."""

Said = TypeVar("Said", BoardAnswer, BoardStatus)


class SeenBoard(Struct, frozen=True, kw_only=True):
    """A device as a console has seen it.

    Attributes:
        device: its id.
        state: its presence, as the broker keeps it; ``None``: it keeps a status only.
        status: its status: of now if it has answered, else the last one that the broker keeps.
        answered: whether it has answered.
        problem: why what it said could not be read, in words; empty if it could.
    """

    device: str
    state: DeviceState | None = None
    status: BoardStatus | None = None
    answered: bool = False
    problem: str = ""

    @property
    def standing(self) -> Standing:
        """Whether it can be asked."""
        if self.answered and self.status is not None and self.status.protocol == PROTOCOL:
            return "answers"
        if self.state is None or self.state.status == "offline":
            return "offline"
        if self.state.protocol != PROTOCOL:
            return "other-protocol"
        knows = self.status is not None or self.problem
        return "silent" if knows else "older"

    @property
    def ready(self) -> bool:
        """Whether it answers and takes part in no run."""
        return self.standing == "answers" and self.status is not None and not self.status.run

    def age_s(self, now_unix_s: float | None = None) -> float | None:
        """How old its status is by its own clock, s; 0 if it has answered, ``None`` without one."""
        if self.answered or self.status is None:
            return 0.0 if self.answered else None
        return max(0.0, (now_unix_s or time.time()) - self.status.unix_s)

    def why_not(self) -> str:
        """Why it cannot be asked, and what to do, as a sentence; empty if it answers."""
        match self.standing:
            case "offline" if self.state is None and self.status is None:
                return f"the broker knows no device {self.device} in this fleet"
            case "offline":
                return (
                    f"{self.device} is offline: start its agent, or look at its power and network"
                )
            case "other-protocol":
                assert self.state is not None
                return other_protocol(self.device, self.state.protocol, PROTOCOL, "this console")
            case "older":
                return (
                    f"{self.device} is online and does not answer: its agent is of before there "
                    "were fleet commands; install the version of this machine there and start it "
                    "again"
                )
            case "silent":
                why = f" (what it said cannot be read: {self.problem})" if self.problem else ""
                return (
                    f"{self.device} says that it is online and does not answer{why}: it may be "
                    "overloaded, or its connection is broken: try again; or its credentials were "
                    f"revoked: 'fimi fleet forget {self.device}' clears what it has said"
                )
        return ""


class _Asked(Struct):
    """A question that waits for its reply."""

    device: str
    heard_s: float
    replies: list[AnyReply] = []
    has_spoken: bool = False
    problem: str = ""


class Console:
    """A connection to a fleet. A context manager; safe to use from several threads.

    Args:
        address: the broker.
        fleet: name of the fleet.

    Attributes:
        refused: how many messages could not be read.

    Raises:
        ValueError: the name of the fleet cannot be part of a topic.
    """

    def __init__(self, address: BrokerAddress, *, fleet: str) -> None:
        self.address = address
        self.fleet = topics.check_name(fleet, "fleet")
        self.refused = 0
        self._changed = threading.Condition()
        self._states: dict[str, DeviceState] = {}
        self._nodes: dict[str, DeviceState] = {}
        self._statuses: dict[str, BoardStatus] = {}
        self._problems: dict[str, str] = {}
        self._answered: dict[str, str] = {}  # device: id of the question that it has answered
        self._asked: dict[str, _Asked] = {}
        self._coordinator: Lease | None = None
        self._marks: set[str] = set()
        self._offenders = Offenders()
        self._mark_topic = topics.topic(self.fleet, COORDINATOR, COORDINATOR, "answer")
        base = f"fimi/{topics.VERSION}/{self.fleet}"
        kinds = ("answer", "status", "state")
        self._link = Link(
            address,
            f"{self.fleet}:console:{secrets.token_hex(16)}",
            clean_session=True,
            subscriptions=(
                *(f"{base}/+/{COORDINATOR}/{kind}" for kind in kinds),
                f"{base}/{COORDINATOR}/{COORDINATOR}/lease",
                f"{base}/+/{EVERYBODY}/state",
            ),
            on_message=self._on_message,
        )

    def connect(self, timeout_s: float = 10.0) -> None:
        """Connect, and wait until the broker has said what it keeps of the fleet.

        Raises:
            BrokerError: as :meth:`fimi.messaging.link.Link.connect`.
        """
        self._link.connect(timeout_s)
        # What is kept comes at once; a message to oneself comes behind it.
        mark = new_id()
        self._link.publish(self._mark_topic, mark.encode(), qos=1)
        with self._changed:
            self._changed.wait_for(lambda: mark in self._marks, timeout_s)

    def close(self) -> None:
        """Disconnect; may be called again."""
        self._link.close()

    def __enter__(self) -> Console:
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
    def coordinator(self) -> Lease | None:
        """The coordinator that holds the fleet, as far as the broker knows; ``None`` for none.

        One that was killed still stands there.
        """
        lease = self._coordinator
        return lease if lease is not None and lease.held else None

    @property
    def has_generator(self) -> bool:
        """Whether a generator node is online that speaks as this process does."""
        with self._changed:
            return any(
                node.status == "online" and node.protocol == PROTOCOL
                for node in self._nodes.values()
            )

    def largest_payload(self) -> int | None:
        """The largest question that the broker takes, bytes; ``None`` if it names none."""
        return self._link.largest_payload(self._mark_topic)

    def look(self, timeout_s: float = LOOK_S) -> dict[str, SeenBoard]:
        """Every device of which the broker knows, by id, with its status of now if it answers.

        Ends as soon as all that are online have answered, after ``timeout_s`` at the latest, s.

        Raises:
            BrokerUnreachable: the broker is away.
        """
        ask = Ask(id=new_id(), question=msgspec.Raw(encode(StatusQuestion())))
        with self._changed:
            self._asked[ask.id] = _Asked("", 0.0)
        try:
            self._publish(EVERYBODY, ask)
            with self._changed:
                least_s = min(timeout_s, NOBODY_S) if not self._online() else 0.0
                self._changed.wait_for(self._online, least_s)
                self._changed.wait_for(lambda: self._all_have_answered(ask.id), timeout_s)
                return {device: self._seen(device, ask.id) for device in self._known()}
        finally:
            with self._changed:
                del self._asked[ask.id]

    def ask(
        self,
        device: str,
        question: AnyQuestion,
        timeout_s: float = ANSWER_S,
        *,
        progress: Callable[[str], None] = lambda _: None,
        boot_id: str = "",
    ) -> AnyReply:
        """Ask a device, and wait for its reply.

        Args:
            device: its id.
            question: what is asked.
            timeout_s: how long it may say nothing, s; its progress counts.
            progress: is told how far it is.
            boot_id: of the start of its agent that is meant; left out: the present one.

        Raises:
            BrokerUnreachable: the broker is away.
            NotAnswered: there is no reply; says why.
            BoardDeclines: it does not do that; says why.
        """
        ask = Ask(
            id=new_id(),
            boot_id=boot_id or self._boot_id(device),
            question=msgspec.Raw(encode(question)),
        )
        with self._changed:
            seen = self._seen(device, "")
            if seen.state is not None and seen.standing in ("offline", "other-protocol"):
                raise NotAnswered(seen.why_not())
            asked = self._asked[ask.id] = _Asked(device, time.monotonic())
        try:
            self._publish(device, ask)
            while True:
                reply = self._next(asked, timeout_s)
                if isinstance(reply, ErrandProgress):
                    progress(reply.words)
                elif isinstance(reply, Declined):
                    raise BoardDeclines(f"{device}: {reply.why}")
                else:
                    return reply
        finally:
            with self._changed:
                del self._asked[ask.id]

    def seen(self, device: str) -> SeenBoard:
        """A device as the broker keeps it, without asking it."""
        with self._changed:
            return self._seen(device, "")

    def _next(self, asked: _Asked, timeout_s: float) -> AnyReply:
        with self._changed:
            while not asked.replies and not asked.problem:
                left_s = asked.heard_s + timeout_s - time.monotonic()
                if left_s <= 0.0:
                    break
                self._changed.wait(left_s)
            if asked.replies:
                return asked.replies.pop(0)
            if asked.problem:
                raise NotAnswered(f"{asked.device}: {asked.problem}")
            if asked.has_spoken:
                raise NotAnswered(f"{asked.device} has said nothing more for {timeout_s:g} s")
            raise NotAnswered(self._seen(asked.device, "").why_not())

    def _publish(self, recipient: str, ask: Ask) -> None:
        if not self.online:  # it would be sent whenever the broker is back
            raise BrokerUnreachable(f"{self.address}: the connection is lost; it is tried again")
        topic = topics.topic(self.fleet, COORDINATOR, recipient, "ask")
        # A broker of version 3.1.1 would keep it for a device that is offline, but not at QoS 0.
        qos = 1 if self._link.version == "5" else 0
        self._link.publish(topic, encode(ask), qos=qos, expires_s=ASK_EXPIRY_S)

    def _boot_id(self, device: str) -> str:
        with self._changed:
            state = self._states.get(device)
            return "" if state is None else state.boot_id

    # With the lock held.

    def _known(self) -> list[str]:
        return sorted({*self._states, *self._statuses, *self._problems})

    def _online(self) -> list[str]:
        return [
            device
            for device, state in self._states.items()
            if state.status == "online" and state.protocol == PROTOCOL
        ]

    def _all_have_answered(self, ask: str) -> bool:
        return all(self._answered.get(device) == ask for device in self._online())

    def _seen(self, device: str, ask: str) -> SeenBoard:
        return SeenBoard(
            device=device,
            state=self._states.get(device),
            status=self._statuses.get(device),
            answered=bool(ask) and self._answered.get(device) == ask,
            problem=self._problems.get(device, ""),
        )

    # On the network thread.

    def _on_message(self, topic: str, payload: bytes, _retained: bool) -> None:
        place = topics.parse(topic)
        if place is None or place.recipient not in (COORDINATOR, EVERYBODY):
            return
        if place.sender != topics.sender_of(topic):
            return  # no peer has such a name, and results are written under the name of a board
        now_s = time.monotonic()
        is_mark = topic == self._mark_topic
        if not is_mark and not self._offenders.admits(
            place.sender, place.kind, len(payload), now_s
        ):
            return
        with self._changed:
            if is_mark:
                self._marks.add(payload.decode(errors="replace"))
            elif not payload:
                self._forget(place)
            else:
                try:
                    self._take(place, payload)
                    self._offenders.passed(place.sender, now_s)
                except MessageRefused as error:
                    self.refused += 1
                    why = f"{place.kind}: {error}"
                    self._offenders.offended(place.sender, len(payload), why, now_s)
                    self._problems[place.sender] = str(error)
            self._changed.notify_all()

    def _forget(self, place: topics.Topic) -> None:
        if place.kind == "state":
            self._states.pop(place.sender, None)
            self._nodes.pop(place.sender, None)
        elif place.kind == "status":
            self._statuses.pop(place.sender, None)

    def _take(self, place: topics.Topic, payload: bytes) -> None:
        sender = place.sender
        if place.kind in ("state", "lease"):
            message = decode_message(payload, sender=sender, recipient=place.recipient)
            if isinstance(message, DeviceState):
                check_role(message, sender, place.recipient)
            if isinstance(message, DeviceState) and message.role == "device":
                self._states[sender] = message
            elif isinstance(message, DeviceState) and message.role == "generator":
                self._nodes[sender] = message
            elif isinstance(message, Lease):
                self._coordinator = message
        elif place.kind == "status":
            self._statuses[sender] = self._own(decode(payload, BoardStatus), sender)
            self._problems.pop(sender, None)
        elif place.kind == "answer":
            self._take_answer(self._own(decode(payload, BoardAnswer), sender), sender)

    def _take_answer(self, answer: BoardAnswer, sender: str) -> None:
        asked = self._asked.get(answer.id)
        if asked is None:
            return  # another console's question, or one that is not waited for any more
        if asked.device not in ("", sender):
            raise MessageRefused(f"it answers a question to {asked.device}")
        try:
            reply = decode_reply(answer)
        except MessageRefused as error:
            asked.problem = (
                f"its answer cannot be read: {error}; it runs fimi {answer.version or 'unknown'}, "
                "install the same version there and here"
            )
            raise
        asked.heard_s, asked.has_spoken = time.monotonic(), True
        if asked.device and len(asked.replies) < MAX_REPLIES:
            asked.replies.append(reply)
        if isinstance(reply, BoardStatus):
            self._statuses[sender] = self._own(reply, sender)
            self._problems.pop(sender, None)
        self._answered[sender] = answer.id

    @staticmethod
    def _own(said: Said, sender: str) -> Said:
        if said.device != sender:
            raise MessageRefused(f"it speaks for {said.device!r}")
        return said
