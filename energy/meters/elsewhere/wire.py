"""What ``fimi meter publish`` sends: readings with the sender's time, and answers about its clock.

==========================  ========  =====================================================
topic                       from      what
==========================  ========  =====================================================
``fimi-meter/N``            sender    :class:`SentReading`, as often as the meter is read
``fimi-meter/N/about``      sender    the same with facts and no value, retained while it runs
``fimi-meter/N/ask``        receiver  :class:`Question`
``fimi-meter/N/answer/R``   sender    :class:`Answer` to the receiver R
==========================  ========  =====================================================

``clock_s`` is the sender's monotonic clock: nobody sets it, so readings keep their order and their
distances when its time of day is corrected. ``time_s`` is its UNIX time, for other programs, which
may read ``/power_w`` or ``/energy_j`` by JSON pointer. Doubts and facts are left out of messages
where there are none: a version that does not know them reads the others, and refuses a reading that
is doubtful rather than taking it for a good one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from fimi.energy.joules import Kind, Scope
from fimi.energy.meters import Look, MeterDescription
from fimi.energy.meters.response import AT_ONCE, MeterResponse
from fimi.energy.meters.watch import DOUBT_CHARACTERS, DOUBTS_MAX

PREFIX = "fimi-meter"

_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Finite = Annotated[float, Meta(ge=-1e12, le=1e12)]
_Amount = Annotated[float, Meta(ge=0, le=1e15)]
_Count = Annotated[int, Meta(ge=0, le=2**48)]
_Sentence = Annotated[str, Meta(max_length=DOUBT_CHARACTERS)]
_Sentences = Annotated[tuple[_Sentence, ...], Meta(max_length=DOUBTS_MAX)]


class SentReading(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One reading of a meter on another machine.

    Attributes:
        fimi_meter: version of this message.
        session: drawn when the sender starts; another one means that it was started again.
        sequence: number of the reading in its session, from 0.
        clock_s: the sender's monotonic clock at the reading, s.
        time_s: its UNIX time, s.
        power_w: power, W.
        energy_j: accumulated energy since the session began, J.
        reset: the counter does not continue from the reading before.
        source, kind, scope, rate_hz, resolution_w, resolution_j, noise_w, relative_uncertainty,
            counts, response: the meter, as in :class:`fimi.energy.meters.MeterDescription`.
        may_rest: whether it sees what is switched off while nothing uses it.
        doubts: what speaks against the reading, a sentence each.
        facts: what a person may want to know of the meter: address, shunt, range.
    """

    fimi_meter: Literal[1] = 1
    session: _Name
    sequence: _Count
    clock_s: _Finite
    time_s: _Finite
    power_w: _Amount | None = None
    energy_j: _Amount | None = None
    reset: bool = False
    source: _Name
    kind: Kind
    scope: Scope
    rate_hz: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    resolution_w: _Amount = 0.0
    resolution_j: _Amount = 0.0
    noise_w: _Amount | None = None
    relative_uncertainty: Annotated[float, Meta(ge=0, le=10)] = 0.0
    counts: bool = False
    response: MeterResponse = AT_ONCE
    may_rest: bool | UnsetType = UNSET
    doubts: _Sentences | UnsetType = UNSET
    facts: _Sentences | UnsetType = UNSET


class Question(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A receiver asks for the sender's clock.

    Attributes:
        receiver: name of the receiver, the last part of the topic of the answer.
        number: chosen by the receiver, and repeated in the answer.
    """

    receiver: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    number: _Count


class Answer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The sender's clock.

    Attributes:
        number: of the question.
        session: of the sender.
        heard_s: its monotonic clock when the question came, s.
        answered_s: the same when the answer left, s.
    """

    number: _Count
    session: _Name
    heard_s: _Finite
    answered_s: _Finite


def sent(
    look: Look,
    meter: MeterDescription,
    *,
    session: str,
    sequence: int,
    clock_s: float,
    time_s: float,
    may_rest: bool = False,
    doubts: Sequence[str] = (),
    facts: Sequence[str] = (),
) -> bytes:
    """The message of a reading; of too many or too long doubts and facts, as much as it holds."""
    return msgspec.json.encode(
        SentReading(
            session=session,
            sequence=sequence,
            clock_s=clock_s,
            time_s=time_s,
            power_w=look.power_w,
            energy_j=look.counter_j,
            reset=look.reset,
            source=meter.source[:200],
            kind=meter.kind,
            scope=meter.scope,
            rate_hz=meter.rate_hz,
            resolution_w=meter.resolution_w,
            resolution_j=meter.resolution_j,
            noise_w=meter.noise_w,
            relative_uncertainty=meter.relative_uncertainty,
            counts=meter.counts,
            response=meter.response,
            may_rest=may_rest or UNSET,
            doubts=_bounded(doubts) or UNSET,
            facts=_bounded(facts) or UNSET,
        )
    )


def _bounded(sentences: Sequence[str]) -> tuple[str, ...]:
    return tuple(sentence[:DOUBT_CHARACTERS] for sentence in sentences[:DOUBTS_MAX])


def is_sent(body: object) -> bool:
    """Whether a message, parsed as JSON, is one of ``fimi meter publish``, of whatever version."""
    return isinstance(body, dict) and "fimi_meter" in body


def read_sent(payload: bytes) -> SentReading:
    """A reading from its message.

    Raises:
        ValueError: it is none, or of another version of FIMI.
    """
    try:
        return msgspec.json.decode(payload, type=SentReading)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"it is no reading that this version of fimi knows ({error}); run the same version of "
            "fimi on both machines"
        ) from error
