"""What people ask the boards of a fleet on demand, and what boards answer.

An :class:`Ask` goes from a :class:`~fimi.messaging.console.Console` to one device, or to all. It
carries a question, and a random id that every :class:`BoardAnswer` to it names. A device answers
with any number of :class:`ErrandProgress` and then one other reply; :class:`Declined` says why it
does not do what was asked. A :class:`BoardStatus` is a reply, and a document that every device
keeps at the broker as well.

No run needs any of this, and none is disturbed by it: agents and coordinators that do not know it
drop it, and fields that are not known here are ignored. Whether an agent answers is therefore no
question of the version of the conversation (:data:`~fimi.learning.data.contract.PROTOCOL`).

* questions: :class:`StatusQuestion`, :class:`Echo`, :class:`ModelQuestion`,
  :class:`DoctorQuestion`, :class:`LogQuestion`, :class:`RestartRequest`,
  :class:`CalibrationRequest`, :class:`CalibrationQuestion`, :class:`UpdateOffer`,
  :class:`UpdatePart`, :class:`UpdateRequest`
* replies: :class:`BoardStatus`, :class:`Echoed`, :class:`ModelReply`, :class:`DoctorReply`,
  :class:`LogReply`, :class:`Restarting`, :class:`Calibrated`, :class:`UpdateHeld`,
  :class:`ErrandProgress`, :class:`Declined`
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from fimi.energy.cost_model import BoardModel
from fimi.energy.joules import Kind, Scope
from fimi.learning.data.contract import PROTOCOL
from fimi.messaging.errors import MessageRefused
from fimi.messaging.transfers.wire import MAX_MESSAGE_BYTES

Allowed = Literal["calibrate", "restart", "update"]
"""What changes a machine, and is done from afar only where the board allows it."""

AskId = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
Words = Annotated[str, Meta(max_length=4000)]
Bytes = Annotated[int, Meta(ge=0, le=2**60)]
Unix = Annotated[float, Meta(ge=0, le=1e11)]


class BoardQuestion(Struct, frozen=True, kw_only=True, tag_field="what"):
    """Base of all questions; the field ``what`` of the JSON object names it."""


class StatusQuestion(BoardQuestion, frozen=True, tag="status"):
    """How are you? The reply is :class:`BoardStatus`."""


class Echo(BoardQuestion, frozen=True, tag="echo"):
    """Send these bytes back; the reply is :class:`Echoed`."""

    payload: bytes = b""


class ModelQuestion(BoardQuestion, frozen=True, tag="model"):
    """What do you cost? The reply is :class:`ModelReply`."""


class DoctorQuestion(BoardQuestion, frozen=True, tag="doctor"):
    """Examine yourself; the reply is :class:`DoctorReply`. Not while a run is on."""


class LogQuestion(BoardQuestion, frozen=True, tag="logs"):
    """Your last lines of the log; the reply is :class:`LogReply`.

    Attributes:
        after: only lines with greater numbers.
        most: at most so many, the last ones.
    """

    after: Annotated[int, Meta(ge=0)] = 0
    most: Annotated[int, Meta(ge=1, le=10_000)] = 200


class RestartRequest(BoardQuestion, frozen=True, tag="restart"):
    """Leave in order and start again; the reply is :class:`Restarting`.

    Attributes:
        force: also in the middle of a run.
    """

    force: bool = False


class CalibrationRequest(BoardQuestion, frozen=True, tag="calibrate"):
    """Calibrate yourself, and use that profile; the reply is :class:`Calibrated`.

    Attributes:
        seconds: time at every point, s.
        settle: time before every point, s.
        repeats: how often.
        frequencies: how many clocks, at most.
    """

    seconds: Annotated[float, Meta(ge=0.5, le=600)] = 10.0
    settle: Annotated[float, Meta(ge=0, le=600)] = 3.0
    repeats: Annotated[int, Meta(ge=1, le=50)] = 2
    frequencies: Annotated[int, Meta(ge=1, le=50)] = 13


class CalibrationQuestion(BoardQuestion, frozen=True, tag="calibration"):
    """What did your last calibration give? The reply is :class:`Calibrated`."""


class UpdateOffer(BoardQuestion, frozen=True, tag="update-offer"):
    """Receive this update of your agent; the reply is :class:`UpdateHeld`.

    Attributes:
        statement: what is signed of it, as JSON.
        signature: its Ed25519 signature.
        force: also in the middle of a run.
    """

    statement: Annotated[bytes, Meta(max_length=4096)]
    signature: Annotated[bytes, Meta(max_length=64)]
    force: bool = False


class UpdatePart(BoardQuestion, frozen=True, tag="update-part"):
    """A piece of the wheel that was offered; the reply is :class:`UpdateHeld`.

    Attributes:
        sha256: digest of the whole wheel.
        offset: of the piece in it, bytes.
        payload: the piece.
        force: also in the middle of a run.
    """

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    offset: Bytes
    payload: bytes
    force: bool = False


class UpdateRequest(BoardQuestion, frozen=True, tag="update"):
    """Start again with the wheel that has come; the reply is :class:`Restarting`.

    Attributes:
        sha256: digest of the wheel.
        force: also in the middle of a run.
    """

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    force: bool = False


AnyQuestion = (
    StatusQuestion
    | Echo
    | ModelQuestion
    | DoctorQuestion
    | LogQuestion
    | RestartRequest
    | CalibrationRequest
    | CalibrationQuestion
    | UpdateOffer
    | UpdatePart
    | UpdateRequest
)


class Reply(Struct, frozen=True, kw_only=True, tag_field="what"):
    """Base of all replies; the field ``what`` of the JSON object names it."""


class SeenMeter(Struct, frozen=True, kw_only=True):
    """The meter of a board: where its joules come from, of what kind they are, what it sees."""

    source: str
    kind: Kind
    scope: Scope


class BoardStatus(Reply, frozen=True, tag="status"):
    """How a board is: what it last knew by itself, nothing is read from its meter for this.

    Attributes:
        device: its id.
        boot_id: of this start of its agent.
        version: of fimi; empty where it is not installed.
        sources: first digits of the digest of its modules.
        protocol: version of the conversation.
        board: name of the board; empty for an emulated one outside of a run.
        kind: what kind of board it is.
        meter: its meter; ``None`` for an emulated board outside of a run.
        power_w: what its meter showed last, W; of an emulated board what it draws, in its time.
        why_no_power: why there is none, in words.
        temperature_c: of its processor, °C; ``None`` if unknown.
        memory_free_bytes: memory that a program could still get.
        memory_bytes: all of it.
        disk_free_bytes: free on the disk of its cache, or of its state.
        run: the run that it takes part in; empty for none.
        round: the round that it was last told to begin; 0 for none.
        stage: what it does in the run, as in its reported state.
        waits_for: for whom or what it waits there, in words.
        errand: what it does for a console just now, in words; empty for nothing.
        contract: digest of the run's contract, or of that of its own data file; empty for none.
        troubles: what is wrong, a sentence each.
        allows: what it may be told from afar.
        can_calibrate: whether it has a profile that it could calibrate.
        update: that the version that was sent last is on trial, or why it was left, in words;
            empty if it stays.
        unix_s: its own time of day, s.
    """

    device: str
    boot_id: str
    version: str = ""
    sources: str = ""
    protocol: int = PROTOCOL
    board: str = ""
    kind: Literal["physical", "emulated"] = "emulated"
    meter: SeenMeter | None = None
    power_w: float | None = None
    why_no_power: Words = ""
    temperature_c: float | None = None
    memory_free_bytes: Bytes = 0
    memory_bytes: Bytes = 0
    disk_free_bytes: Bytes = 0
    run: str = ""
    round: int = 0
    stage: str = "idle"
    waits_for: Words = ""
    errand: str = ""
    contract: str = ""
    troubles: tuple[Words, ...] = ()
    allows: tuple[str, ...] = ()
    can_calibrate: bool = False
    update: Words = ""
    unix_s: Unix = 0.0

    @property
    def busy(self) -> str:
        """The run, and round, that it takes part in, in words; empty if it is free."""
        if not self.run:
            return ""
        return f"run {self.run}" + (f", round {self.round}" if self.round else "")


class Echoed(Reply, frozen=True, tag="echoed"):
    """The bytes of an :class:`Echo`.

    Attributes:
        payload: the same bytes.
        received_unix_s: when they came, by the board's time of day, s.
        sent_unix_s: when they were sent back, s.
    """

    payload: bytes
    received_unix_s: Unix
    sent_unix_s: Unix


class ModelReply(Reply, frozen=True, tag="model"):
    """What a board says of its costs; ``None``: it is emulated, as the run will say."""

    board: BoardModel | None


class Check(Struct, frozen=True, kw_only=True):
    """The result of one check of a doctor: one line.

    Attributes:
        name: what was checked.
        status: ``ok``; ``absent`` for what the machine does not have; ``warning``; ``failure``.
        found: what was found, or what is wrong.
        fix: the command or rule that helps; empty where nothing is wrong.
    """

    name: str
    status: Literal["ok", "absent", "warning", "failure"]
    found: str
    fix: str = ""


class DoctorReply(Reply, frozen=True, tag="doctor"):
    """What a board's doctor found."""

    checks: tuple[Check, ...]


class LogReply(Reply, frozen=True, tag="logs"):
    """Lines of the log, one after another.

    Attributes:
        last: number of the last line; lines are counted from 1 after every start.
        lines: the lines.
    """

    last: int
    lines: tuple[str, ...]


class Restarting(Reply, frozen=True, tag="restarting"):
    """The agent leaves now, and starts again."""


class Calibrated(Reply, frozen=True, tag="calibrated"):
    """What a calibration gave.

    Attributes:
        profile: the new profile, TOML.
        calibration: what was measured, as ``fimi calibrate --format json`` prints it.
        unix_s: when it ended, by the board's time of day, s.
    """

    profile: str
    calibration: msgspec.Raw
    unix_s: Unix


class UpdateHeld(Reply, frozen=True, tag="held"):
    """So many bytes of the update are on the board, from its beginning."""

    size_bytes: Bytes


class ErrandProgress(Reply, frozen=True, tag="progress"):
    """How far an errand is, in words; another reply follows."""

    words: Words


class Declined(Reply, frozen=True, tag="declined"):
    """The board does not do what was asked, and why, as a sentence."""

    why: Words


AnyReply = (
    BoardStatus
    | Echoed
    | ModelReply
    | DoctorReply
    | LogReply
    | Restarting
    | Calibrated
    | UpdateHeld
    | ErrandProgress
    | Declined
)


class Ask(Struct, frozen=True, kw_only=True):
    """Console to a device, or to all.

    Attributes:
        id: random; the answers name it.
        boot_id: of the start that is meant; another one ignores the question. Empty: any.
        question: as JSON, so that a question that an agent does not know can be declined.
    """

    id: AskId
    boot_id: str = ""
    question: msgspec.Raw


class BoardAnswer(Struct, frozen=True, kw_only=True):
    """Device to coordinator.

    Attributes:
        id: of the question.
        device: who answers.
        boot_id: of this start.
        version: of its fimi.
        reply: as JSON.
    """

    id: AskId
    device: str
    boot_id: str
    version: str = ""
    reply: msgspec.Raw


T = TypeVar("T", Ask, BoardAnswer, BoardStatus)
_encoder = msgspec.json.Encoder()
_decoders: dict[type, Any] = {
    kind: msgspec.json.Decoder[Any](kind) for kind in (Ask, BoardAnswer, BoardStatus)
}
_question = msgspec.json.Decoder[Any](AnyQuestion)
_reply = msgspec.json.Decoder[Any](AnyReply)


def new_id() -> str:
    """An id that no other question has."""
    return secrets.token_hex(8)


def encode(said: Ask | BoardAnswer | BoardStatus | AnyQuestion | AnyReply) -> bytes:
    """As JSON.

    Raises:
        MessageRefused: it is larger than a message may be.
    """
    payload = _encoder.encode(said)
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageRefused(
            f"{type(said).__name__} of {len(payload)} B, the limit is {MAX_MESSAGE_BYTES} B"
        )
    return payload


def decode(payload: bytes, kind: type[T]) -> T:
    """An :class:`Ask`, an :class:`BoardAnswer` or a :class:`BoardStatus` from JSON.

    Raises:
        MessageRefused: it is not valid; says why.
    """
    decoded: T = _decoded(payload, _decoders[kind], kind.__name__)
    return decoded


def decode_question(ask: Ask) -> AnyQuestion:
    """The question.

    Raises:
        MessageRefused: it is none that is known here; says why.
    """
    question: AnyQuestion = _decoded(bytes(ask.question), _question, "question")
    return question


def decode_reply(answer: BoardAnswer) -> AnyReply:
    """The reply.

    Raises:
        MessageRefused: it is none that is known here; says why.
    """
    reply: AnyReply = _decoded(bytes(answer.reply), _reply, "reply")
    return reply


def _decoded(payload: bytes, decoder: msgspec.json.Decoder[Any], what: str) -> Any:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageRefused(f"{what} of {len(payload)} B, the limit is {MAX_MESSAGE_BYTES} B")
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MessageRefused(f"no {what} of ours: {error}") from error
