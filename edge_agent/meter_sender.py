"""A machine that is a meter for the boards beside it: what ``fimi meter publish`` runs.

:class:`MeterSender` reads one local meter at a rate and publishes each reading with the time at
which it was made (:mod:`fimi.energy.meters.elsewhere.wire`). It answers questions about its clock,
so that receivers know how their clock differs. What speaks against a reading is logged when that
begins, and goes with the reading. A meter that cannot be read is published as such; while the
broker is away, readings are dropped and counted, because they come too late for anybody.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time

import msgspec

from fimi.energy.meters import NOTHING, Look, Meter
from fimi.energy.meters.elsewhere.wire import PREFIX, Answer, Question, sent
from fimi.energy.meters.sampler import DEFAULT_RATE_HZ
from fimi.energy.meters.watch import IN_A_ROW, Watch
from fimi.messaging.address import BrokerAddress
from fimi.messaging.link import Link
from fimi.messaging.paho_clients import CONNECT_TIMEOUT_S, Will

log = logging.getLogger(__name__)

NAME = re.compile(r"[^\s/+#\x00-\x1f]{1,100}")
"""What the name of a published meter looks like: one level of a topic."""


def topic_of(name: str) -> str:
    """The topic of a published meter.

    Args:
        name: its name, or the whole topic.

    Raises:
        ValueError: it cannot be one level of a topic.
    """
    short = name.removeprefix(f"{PREFIX}/")
    if not NAME.fullmatch(short):
        raise ValueError(
            f"{name!r} is no name for a published meter: it has no spaces, '/', '+' or '#', such "
            f"as pi-3; its topic is then {PREFIX}/pi-3"
        )
    return f"{PREFIX}/{short}"


class MeterSender:
    """Publishes one meter until it is closed.

    Args:
        meter: the meter; belongs to the sender, which closes it.
        name: its name (:func:`topic_of`).
        address: the broker.
        rate_hz: how often to read it, Hz, at most as often as it has a new value.

    Raises:
        BrokerError: the broker cannot be reached or refuses.
        ValueError: the name cannot be used.
    """

    def __init__(
        self,
        meter: Meter,
        name: str,
        address: BrokerAddress,
        *,
        rate_hz: float = DEFAULT_RATE_HZ,
    ) -> None:
        self.topic = topic_of(name)
        self._meter = meter
        described = meter.describe()
        news_hz = described.rate_hz or rate_hz
        self.rate_hz = min(rate_hz, news_hz)
        """How often it is read, Hz."""
        self._described = msgspec.structs.replace(described, rate_hz=self.rate_hz)
        self._facts = meter.facts()
        self._suspicion = Watch(meter)
        for _ in range(IN_A_ROW):  # what is doubtful is said at once, however seldom it is read
            self._look(time.monotonic())
        self._session = secrets.token_hex(8)
        self.published = 0
        """How many readings were given to the broker."""
        self.failed = 0
        """How many of them hold no value, because the meter could not be read."""
        self.dropped = 0
        """How many readings were dropped while the broker was away."""
        self._closed = threading.Event()
        self._about = f"{self.topic}/about"
        self._link = Link(
            address,
            f"fimi-meter-{secrets.token_hex(6)}",
            clean_session=True,
            will=Will(self._about, b""),
            subscriptions=(f"{self.topic}/ask",),
            on_message=self._on_question,
            on_ready=self._on_ready,
        )
        self._link.connect(CONNECT_TIMEOUT_S)
        self._thread = threading.Thread(target=self._watch, name="meter-sender", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, take back the announcement, and close the meter; may be called again."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        if self._link.ready:
            self._link.publish(self._about, b"", qos=1, retain=True).wait_for_publish(1.0)
        self._link.close()
        self._meter.close()

    def _watch(self) -> None:
        period_s = 1.0 / self.rate_hz
        due_s = time.monotonic()
        while not self._closed.wait(max(0.0, due_s - time.monotonic())):
            self._read()
            # What was missed is not made up for.
            due_s = max(due_s + period_s, time.monotonic())

    def _read(self) -> None:
        began_s = time.monotonic()
        look = self._look(began_s)
        doubts = self._suspicion.take()
        ended_s, unix_s = time.monotonic(), time.time()
        clock_s = (began_s + ended_s) / 2.0 if look.time_s is None else look.time_s
        sequence = self.published + self.dropped
        self.failed += look.power_w is None and look.counter_j is None
        if not self._link.ready:
            self.dropped += 1
            return
        message = sent(
            look,
            self._described,
            session=self._session,
            sequence=sequence,
            clock_s=clock_s,
            time_s=unix_s - (ended_s - clock_s),
            may_rest=self._meter.may_rest,
            doubts=[doubt.removeprefix(f"{self._described.source}: ") for doubt in doubts],
        )
        self._link.publish(self.topic, message, qos=0)
        self.published += 1

    def _look(self, now_s: float) -> Look:
        look = self._suspicion.read(now_s)
        self._suspicion.see(now_s, look)
        return look

    # On the connection's thread.

    def _on_ready(self, first: bool) -> None:
        about = sent(
            NOTHING,
            self._described,
            session=self._session,
            sequence=0,
            clock_s=time.monotonic(),
            time_s=time.time(),
            facts=self._facts,
        )
        self._link.publish(self._about, about, qos=1, retain=True)

    def _on_question(self, topic: str, payload: bytes, retained: bool) -> None:
        heard_s = time.monotonic()
        try:
            question = msgspec.json.decode(payload, type=Question)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("%s: a question that is none: %s", topic, error)
            return
        answer = Answer(
            number=question.number,
            session=self._session,
            heard_s=heard_s,
            answered_s=time.monotonic(),
        )
        self._link.publish(
            f"{self.topic}/answer/{question.receiver}", msgspec.json.encode(answer), qos=0
        )
