"""A meter read from any MQTT topic: ESPHome, Home Assistant, Zigbee2MQTT, a laboratory's logger.

* :class:`TopicSettings`  the table ``[topic]`` of a board's profile
* :class:`TopicMeter`     the meter

Messages come when the sender likes. A look gives the last value; how old it may be is the refresh
period of the response, which is learned from the first messages or declared. Retained messages are
old and no readings. Where messages carry a time (``time_pointer``, or those of ``fimi meter
publish``), a look gives the time of the value by our clock, so that the delay of the network does
not blur phases.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from fimi.energy.clock import Clock
from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.counter import Counter
from fimi.energy.meters.elsewhere import payload as reading
from fimi.energy.meters.elsewhere import wire
from fimi.energy.meters.elsewhere.arrivals import Arrivals
from fimi.energy.meters.elsewhere.clocks import OneWayOffset, TwoWayOffset
from fimi.energy.meters.elsewhere.listener import BrokerPlace, Listener
from fimi.energy.meters.elsewhere.payload import ENERGY_UNITS, POINTER, AbsentError, Unit
from fimi.energy.meters.response import MeterResponse, uniform_sd_s
from fimi.energy.timestamps import read_stamp

log = logging.getLogger(__name__)

ASSUMED_DELAY_S = 0.5
"""From the end of a sender's measurement to the message, s, where nothing is declared."""

COARSE_J = 100.0
"""A counter with larger steps is too coarse for phases of a round."""

_READ_PER_MESSAGE = 2.5
_BURST_S = 1.0
_LOOK_AGAIN_S = 0.1
_SEVERAL = 4
_ALONE_S = 30.0
_EXCHANGES_AT_START = 8
_ASK_EVERY_S = 10.0
_LATE_S = 2.0
_WORTH_LOOKING_S = 1.0
_ANSWERED_WITHIN_S = 0.4
_POWER_LIMIT_W = 20e3
_STEP_J = 1e-3


class TopicSettings(BrokerPlace, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a meter's messages are found.

    Attributes:
        topic: its topic, without wildcards.
        unit: of the number; a unit of energy makes a counter. May be left out for the messages of
            ``fimi meter publish``, like the rest.
        pointer: JSON pointer (RFC 6901) to the number, such as ``/ENERGY/Power``; empty if the
            message is the number.
        time_pointer: JSON pointer to the time of the value: ISO 8601, or UNIX s, ms, µs or ns.
        scope: what the meter sees.
        refresh_s: time between two messages, s; learned from the first ones if left out.
        delay_s: from the end of the measurement to the message, s; assumed if left out.
        stale_s: after so long without a message there is no value, s; four refreshes and at least
            10 s (3 s for ``fimi meter publish``) if left out.
        wait_s: how long to wait for the first message, s.
        relative_uncertainty: one standard deviation of its gain, dimensionless.
        host, port, username, password: of the broker.
    """

    topic: Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"^[^+#\x00]*$")]
    unit: Unit | None = None
    pointer: Annotated[str, Meta(pattern=POINTER)] = ""
    time_pointer: Annotated[str, Meta(pattern=POINTER)] | None = None
    scope: Scope | None = None
    refresh_s: Annotated[float, Meta(gt=0, le=600)] | None = None
    delay_s: Annotated[float, Meta(ge=0, le=600)] | None = None
    stale_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    wait_s: Annotated[float, Meta(gt=0, le=300)] = 15.0
    relative_uncertainty: Annotated[float, Meta(ge=0, le=1)] = 0.02


class _Heard(NamedTuple):
    """A value and when it came, by our clock, s."""

    look: Look
    at_s: float


class TopicMeter(Meter):
    """A meter read from a topic.

    Args:
        settings: where it is found.
        clock: clock of the readings.
        impossible_w: a counter that falls and is back with more than this, W, did not fall.

    Raises:
        MeterUnavailableError: the broker cannot be reached, no message comes, or messages hold no
            number; names topic, pointer and what came instead.
    """

    def __init__(
        self, settings: TopicSettings, clock: Clock, *, impossible_w: float = 20e3
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._changed = threading.Condition()
        self._heard: _Heard | None = None
        self._reset = False
        self._arrivals = Arrivals()
        self._step = math.inf
        self._retained = ""
        self._problem = ""
        self._messages = 0
        self._counter: Counter | None = None
        self._impossible_w = impossible_w
        self._resets = 0
        self._one_way = OneWayOffset()
        self._stamp_step_s = 0.0
        self._last_their_s = -math.inf
        self._backwards = 0
        # Of fimi meter publish.
        self._sent: wire.SentReading | None = None
        self._offset = TwoWayOffset()
        self._asked: dict[int, float] = {}
        self._questions = 0
        self._first_asked_s: float | None = None
        self._sessions: list[str] = []
        self._conflict_s = -math.inf
        self._refresh_s = 1.0
        self._sent_facts: tuple[str, ...] = ()
        self._about = f"{settings.topic}/about"
        topics = (settings.topic, f"{settings.topic}/answer/{{name}}", self._about)
        self._listener: Listener | None = None
        listener = Listener(settings, topics, self._on_message, table="[topic]")
        self._listener = listener
        try:
            self._description = self._learn()
        except MeterUnavailableError:
            self.close()
            raise
        self.step_j = self._description.resolution_j
        least_s = 10.0 if self._sent is None else 3.0
        self._stale_s = settings.stale_s or max(least_s, 4.0 * self._refresh_s)

    def look(self, time_s: float) -> Look:
        """The last value; empty if it is stale, or if the last message held none."""
        with self._changed:
            heard = self._heard
            if heard is None or self._conflicts(time_s) or time_s - heard.at_s > self._stale_s:
                return NOTHING
            reset, self._reset = self._reset, False
            return heard.look._replace(reset=reset)

    def close(self) -> None:
        """Leave the broker; may be called again."""
        if self._listener is not None:
            self._listener.close()

    def facts(self) -> tuple[str, ...]:
        """How often messages come, and how the times of its readings are known."""
        with self._changed:
            told = [f"a message every {self._refresh_s:.3g} s"]
            if self._offset.ready:
                offset_s, bound_s = self._offset.best(self._clock.now_s())
                told.append(
                    f"the sender's clock is ahead by {offset_s:.6f} s ± {1e3 * bound_s:.2g} ms "
                    f"({self._offset.exchanges} exchanges)"
                )
            elif self._settings.time_pointer is not None:
                sd_s = self._one_way.sd_s(self._stamp_step_s)
                told.append(
                    "times are the sender's, moved by the message that was fastest, ± "
                    f"{1e3 * sd_s:.2g} ms: how long that took is not known"
                )
            steps = self._one_way.steps if self._sent is None else self._offset.steps
            if steps:
                told.append(f"a clock was set {steps} times")
            if self._sent_facts:
                told.append(f"when its sender was started: {', '.join(self._sent_facts)}")
        return tuple(told)

    def doubts(self) -> tuple[str, ...]:
        """What is wrong with the messages, and what their sender doubts."""
        told: list[str] = []
        with self._changed:
            if self._sent is not None:
                told += [f"on its machine: {doubt}" for doubt in self._sent.doubts or ()]
            if self._conflicts(self._clock.now_s()):
                told.append("two senders publish on its topic, so that no reading is used")
            if self._sent is not None and self._unanswered_s() > _ANSWERED_WITHIN_S:
                told.append(
                    "the sender answers no question about its clock, so that the shortest delay "
                    "of the network is part of the times of readings"
                )
            if self._resets:
                told.append(
                    f"its counter fell or leapt {self._resets} times: what was drawn then is not "
                    "known"
                )
            if self._backwards > 1:
                told.append("its times run backwards: two senders on one topic?")
            if self._sent is None and self._settings.time_pointer is None:
                counts = self._settings.unit in ENERGY_UNITS
                told += self._arrivals.doubts(self._refresh_s, math.inf if counts else self._step)
        step_j = self._description.resolution_j
        if step_j > COARSE_J:
            told.append(
                f"it counts in steps of {step_j:.3g} J, {step_j / 5.0:.3g} s of a board of 5 W: "
                "too coarse for phases of a round; read its power instead"
            )
        return tuple(told)

    def why_nothing(self) -> str:
        """What came last, and when."""
        with self._changed:
            if self._listener is not None and not self._listener.connected:
                return f"the broker {self._settings} is away"
            if self._heard is None:
                return (
                    f"the last message on {self._settings.topic!r} holds no value: {self._problem}"
                )
            if self._conflicts(self._clock.now_s()):
                return self._why_nothing()
            age_s = self._clock.now_s() - self._heard.at_s
            return (
                f"the last value on {self._settings.topic!r} came {age_s:.1f} s ago (for a sender "
                "that publishes changes only, declare [topic] stale_s)"
            )

    # Opening.

    def _learn(self) -> MeterDescription:
        """Wait for messages, and make the description from them."""
        settings = self._settings
        with self._changed:
            self._changed.wait_for(self._has_value, settings.wait_s)
            if not self._has_value():
                raise MeterUnavailableError(self._why_nothing())
            of_fimi = self._sent is not None
        if of_fimi:
            return self._learn_sent()
        timed = settings.time_pointer is not None
        refresh_s = settings.refresh_s
        if refresh_s is None or timed:  # of several messages with a time, one was fast
            period_s = self._period_s(min(settings.wait_s, _SEVERAL * (refresh_s or math.inf)))
            if refresh_s is None and period_s is None:
                raise MeterUnavailableError(
                    f"only one message on {settings.topic!r} within {settings.wait_s:g} s, so that "
                    "the time between two messages is not known. Write it as [topic] refresh_s, or "
                    "let the sender publish more often"
                )
            refresh_s = refresh_s or period_s or 0.0
        self._refresh_s = max(1e-3, refresh_s)
        counts = settings.unit in ENERGY_UNITS
        delay_s, delay_sd_s = settings.delay_s or 0.0, 0.0
        if timed:
            with self._changed:
                delay_sd_s = self._one_way.sd_s(self._stamp_step_s)
        elif settings.delay_s is None:
            delay_s = delay_sd_s = ASSUMED_DELAY_S
        return MeterDescription(
            source=f"topic:{settings.topic}"[:200],
            kind="measured",
            scope=settings.scope or "wall",
            rate_hz=(1.0 if counts or not timed else _READ_PER_MESSAGE) / self._refresh_s,
            resolution_w=0.0 if counts else self._step,
            resolution_j=self._step if counts else 0.0,
            relative_uncertainty=settings.relative_uncertainty,
            counts=counts,
            response=MeterResponse(
                delay_s=delay_s,
                # Of a value with a time, the age is known.
                refresh_s=0.0 if timed else min(600.0, self._refresh_s),
                delay_sd_s=math.hypot(delay_sd_s, uniform_sd_s(self._stamp_step_s)),
                origin="assumed",
            ),
        )

    def _period_s(self, wait_s: float) -> float | None:
        """Time between two messages, s, once it is clear; what is known of it after ``wait_s``."""
        least_s = time.monotonic() + _BURST_S
        until_s = time.monotonic() + wait_s
        with self._changed:
            while (now_s := time.monotonic()) < until_s:
                if now_s >= least_s and self._arrivals.is_settled(self._clock.now_s()):
                    break
                self._changed.wait(min(_LOOK_AGAIN_S, until_s - now_s))
            return self._arrivals.period_s(self._clock.now_s())

    def _learn_sent(self) -> MeterDescription:
        """Compare the clocks, and take the sender's description of its meter."""
        settings = self._settings
        for _ in range(_EXCHANGES_AT_START):
            seen = self._offset.exchanges
            self._ask()
            with self._changed:
                if not self._changed.wait_for(lambda: self._offset.exchanges > seen, 0.5):  # noqa: B023
                    break
        with self._changed:
            # The first readings came before the clocks were compared.
            seen_messages = self._messages
            self._changed.wait_for(
                lambda: self._messages > seen_messages and self._has_value(), settings.wait_s
            )
            sent = self._sent
            if sent is None or not self._has_value() or self._conflicts(self._clock.now_s()):
                raise MeterUnavailableError(self._why_nothing())
            bound_s = self._offset.best(self._clock.now_s())[1] if self._offset.ready else 0.1
        self.may_rest = sent.may_rest is True
        self._refresh_s = 1.0 / sent.rate_hz if sent.rate_hz else 1.0
        return MeterDescription(
            source=f"{settings.topic}:{sent.source}"[:200],
            kind=sent.kind,
            scope=settings.scope or sent.scope,
            rate_hz=(1.0 if sent.counts else _READ_PER_MESSAGE) / self._refresh_s,
            resolution_w=sent.resolution_w,
            resolution_j=sent.resolution_j,
            noise_w=sent.noise_w,
            relative_uncertainty=sent.relative_uncertainty,
            counts=sent.counts,
            response=msgspec.structs.replace(
                sent.response,
                delay_sd_s=math.hypot(sent.response.delay_sd_s, bound_s / math.sqrt(3.0)),
            ),
        )

    def _has_value(self) -> bool:
        return self._heard is not None

    def _conflicts(self, now_s: float) -> bool:
        """Whether two senders publish in turn, or did so a moment ago."""
        return now_s - self._conflict_s < max(_ALONE_S, _SEVERAL * self._refresh_s)

    def _why_nothing(self) -> str:
        settings = self._settings
        where = f"{settings.topic!r} on {settings}"
        if self._conflicts(self._clock.now_s()):
            return (
                f"two senders publish on {where} in turn. Give each fimi meter publish a name of "
                "its own (--meter METER=NAME)"
            )
        if self._sent is not None:
            return (
                f"{self._problem or 'no reading comes'} ({where}). Look at fimi meter publish on "
                "that machine"
            )
        if self._messages:
            return (
                f"no reading in {self._messages} messages on {where}: {self._problem}. Check "
                "[topic] pointer and unit in the profile"
            )
        if self._retained:
            return (
                f"no new message on {where} within {settings.wait_s:g} s, only a retained one, "
                f"which is old ({self._retained}). Let the sender publish more often, or raise "
                "[topic] wait_s"
            )
        return (
            f"no message on {where} within {settings.wait_s:g} s. Check [topic] topic in the "
            "profile (capitals matter), that the sender runs, and how often it publishes "
            "([topic] wait_s). 'fimi agent doctor --discover --broker URL' lists what announces "
            "itself there"
        )

    # On the connection's thread.

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        now_s = self._clock.now_s()
        with self._changed:
            if topic == self._about:
                self._on_about(payload)
            elif topic != self._settings.topic:
                self._on_answer(payload, now_s)
            elif retained:
                self._retained = repr(payload[:60].decode("utf-8", "replace"))
            else:
                self._messages += 1
                try:
                    look = self._read(payload, now_s)
                    if look is not None:
                        # A reset is told once, to the next look.
                        self._reset |= look.reset
                        self._heard = _Heard(look._replace(reset=False), now_s)
                except AbsentError as error:
                    self._problem = str(error)
                except ValueError as error:
                    self._problem = str(error)
                    self._heard = None
            self._changed.notify_all()

    def _read(self, payload: bytes, now_s: float) -> Look | None:
        """The value of a message; ``None`` if it says nothing new.

        Raises:
            AbsentError: it does not hold one.
            ValueError: it says that there is none.
        """
        settings = self._settings
        body = reading.parse(payload)
        if settings.unit is None:
            if wire.is_sent(body):
                return self._read_sent(wire.read_sent(payload), now_s)
            raise AbsentError(
                "it is not of fimi meter publish, so [topic] needs a unit (W, mW, kW; J, Wh, kWh, "
                f"mWh) and a pointer; it holds {payload[:80]!r}"
            )
        found = reading.amount(reading.at(body, settings.pointer), settings.unit)
        time_s = None
        if settings.time_pointer is not None:
            time_s = self._place(reading.at(body, settings.time_pointer), now_s)
            if time_s is None:
                return None
        self._arrivals.heard(now_s, found.value)
        self._step = min(self._step, found.step)
        if settings.unit not in ENERGY_UNITS:
            return Look(power_w=found.value, time_s=time_s)
        if self._counter is None:
            self._counter = Counter(
                _STEP_J,
                range_steps=None,
                power_limit_w=_POWER_LIMIT_W,
                return_limit_w=self._impossible_w,
                refresh_s=2.0 + found.step / self._impossible_w,
            )
        counted = self._counter.advance(round(found.value / _STEP_J), now_s)
        self._resets += counted.reset
        return counted._replace(time_s=time_s)

    def _place(self, written: object, now_s: float) -> float | None:
        """When a value was measured, by our clock; ``None`` if it is an old one once more."""
        try:
            stamp = read_stamp(written)
        except ValueError as error:
            raise AbsentError(f"[topic] time_pointer: {error}") from None
        if stamp.unix_s == self._last_their_s:
            return None
        stepped = self._one_way.heard(stamp.unix_s, now_s)
        if stepped:
            log.warning("%s: the sender's clock or ours was set", self._settings.topic)
        elif stamp.unix_s < self._last_their_s:
            self._backwards += 1
        self._last_their_s = stamp.unix_s
        self._stamp_step_s = max(self._stamp_step_s, stamp.step_s)
        # Whole seconds are cut off, not rounded.
        return min(now_s, self._one_way.ours(stamp.unix_s) + stamp.step_s / 2.0)

    def _read_sent(self, sent: wire.SentReading, now_s: float) -> Look | None:
        restarted = self._sent is not None and sent.session != self._sent.session
        if restarted or not self._sessions:
            if sent.session in self._sessions:
                if not self._conflicts(now_s):
                    log.error("two senders publish on %s in turn", self._settings.topic)
                self._conflict_s = now_s
            else:
                self._sessions = [*self._sessions, sent.session][-64:]
        if restarted:
            self._offset.forget()
            self._first_asked_s = None
            self._one_way = OneWayOffset()
            self._reset |= sent.counts
            log.warning("%s: the sender was started again", self._settings.topic)
        elif self._sent is not None and sent.sequence <= self._sent.sequence:
            return None  # delivered twice
        self._sent = sent
        if abs(now_s - self._offset.last_s) > _ASK_EVERY_S:
            self._ask()
        if sent.power_w is None and sent.energy_j is None:
            why = "".join(f": {doubt}" for doubt in (sent.doubts or ())[:1])
            raise ValueError(f"the sender cannot read {sent.source!r} at present{why}")
        time_s = self._place_sent(sent.clock_s, now_s)
        if time_s is None:
            return None
        return Look(power_w=sent.power_w, counter_j=sent.energy_j, reset=sent.reset, time_s=time_s)

    def _place_sent(self, clock_s: float, now_s: float) -> float | None:
        """When a reading was made, by our clock; ``None`` while the clocks must be compared."""
        self._one_way.heard(clock_s, now_s)
        if not self._offset.ready:
            return min(now_s, self._one_way.ours(clock_s))
        time_s = self._offset.ours(clock_s, now_s)
        bound_s = self._offset.best(now_s)[1]
        # A reading that comes before it was made, or very late: has one of the clocks been set?
        early = time_s > now_s + bound_s + 1e-3
        late = now_s - time_s > _LATE_S
        if (early or late) and abs(now_s - self._offset.last_s) > _WORTH_LOOKING_S:
            self._ask()
            return None
        return None if early else min(time_s, now_s)

    def _ask(self) -> None:
        """Ask for the sender's clock."""
        listener = self._listener
        if listener is None or not listener.connected:
            return
        with self._changed:
            self._questions += 1
            number = self._questions
            self._asked = {old: at for old, at in self._asked.items() if old > number - 32}
            self._asked[number] = self._clock.now_s()
            if self._first_asked_s is None:
                self._first_asked_s = self._asked[number]
        question = wire.Question(receiver=listener.name, number=number)
        listener.publish(f"{self._settings.topic}/ask", msgspec.json.encode(question))

    def _unanswered_s(self) -> float:
        """For how long this sender has answered no question, s; 0 once it has answered."""
        if self._offset.ready or self._first_asked_s is None:
            return 0.0
        return self._clock.now_s() - self._first_asked_s

    def _on_about(self, payload: bytes) -> None:
        with contextlib.suppress(ValueError):  # it is taken back, or of something else
            self._sent_facts = wire.read_sent(payload).facts or ()

    def _on_answer(self, payload: bytes, now_s: float) -> None:
        try:
            answer = msgspec.json.decode(payload, type=wire.Answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        asked_s = self._asked.pop(answer.number, None)
        if asked_s is None or (self._sent is not None and answer.session != self._sent.session):
            return
        if self._offset.answer(asked_s, answer.heard_s, answer.answered_s, now_s):
            log.warning(
                "%s: the sender's clock or ours was set; readings are placed by the new offset",
                self._settings.topic,
            )
