"""The agent answers what people ask (:mod:`fimi.messaging.questions`), whatever it does otherwise.

:class:`Answering` has a thread of its own. It publishes the board's status when that changes, and
every :data:`STATUS_S`; and it answers. What needs the board for itself (its doctor, a calibration,
a restart) is an *errand*: the thread that works in runs does it between two steps, and only while
the board is in no run. Pieces of an update are taken in at once, and only then as well. What
changes the machine is declined unless the board allows it.

The same thread tells the service manager that the agent is alive, as long as the thread that hears
the coordinator is alive as well.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from fimi.edge_agent.service.notify import Notifier
from fimi.energy.cost_model import BoardModel
from fimi.errors import FimiError
from fimi.messaging.client import Peer
from fimi.messaging.errors import MessageRefused, MessagingError
from fimi.messaging.questions import (
    Allowed,
    AnyQuestion,
    AnyReply,
    Ask,
    BoardAnswer,
    BoardStatus,
    CalibrationRequest,
    Declined,
    Echo,
    Echoed,
    ErrandProgress,
    LogQuestion,
    LogReply,
    ModelQuestion,
    ModelReply,
    RestartRequest,
    StatusQuestion,
    UpdateOffer,
    UpdatePart,
    UpdateRequest,
    decode,
    decode_question,
    encode,
)
from fimi.sources import version

STATUS_S = 60.0
"""The status is published at least so often, s."""

LOOK_AGAIN_S = 1.0
"""Time between two looks at whether it has changed, s."""

MOST_WAITING = 100
"""More questions than this at once are dropped."""

LOG_BYTES = 256 * 1024
"""Of the log so much is kept in memory, bytes."""

log = logging.getLogger(__name__)

Say = Callable[[str], None]
Errand = Callable[[AnyQuestion, Say], AnyReply]
"""Does an errand, and says how far it is."""

_NEEDS: dict[type, Allowed] = {
    CalibrationRequest: "calibrate",
    RestartRequest: "restart",
    UpdateOffer: "update",
    UpdatePart: "update",
    UpdateRequest: "update",
}
_AT_ONCE = (UpdateOffer, UpdatePart)
"""Errands that are short, and are done on the thread that answers."""


class Board(Protocol):
    """What an agent knows of its board; asked on the thread that answers."""

    def status(self) -> BoardStatus:
        """How the board is."""

    def model(self) -> BoardModel | None:
        """What it costs; ``None`` for an emulated one outside of a run."""

    def hears(self) -> bool:
        """Whether the thread that hears the coordinator goes on."""


class LogTail(logging.Handler):
    """The last lines of the log, at most :data:`LOG_BYTES`, counted from 1.

    Args:
        size_bytes: see there.
    """

    def __init__(self, size_bytes: int = LOG_BYTES) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        self._room = size_bytes
        self._lines: deque[str] = deque()
        self._kept = 0
        self.last = 0
        """Number of the last line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        try:
            for line in self.format(record).splitlines():
                self._keep(line[:2000])
        except Exception:
            self.handleError(record)

    def reply(self, question: LogQuestion) -> LogReply:
        """The lines that were asked for."""
        with self.lock or contextlib.nullcontext():
            first = self.last - len(self._lines)
            lines = list(self._lines)[max(0, question.after - first) :]
            return LogReply(last=self.last, lines=tuple(lines[-question.most :]))

    def _keep(self, line: str) -> None:
        self.last += 1
        self._lines.append(line)
        self._kept += len(line.encode())
        while self._kept > self._room:
            self._kept -= len(self._lines.popleft().encode())


class Remote(Struct, frozen=True, kw_only=True):
    """What may be asked of an agent from afar, beside how it is.

    Attributes:
        errands: what it can do while it is in no run, by the type of question.
        allows: what may change the machine.
        tail: the last lines of its log; ``None``: there are none to show.
        notifier: tells the service manager how the agent is.
        reported: called once, when the broker has the first status; ``None``: nobody asks.
        update: says that the version that was sent last is on trial, or why it was left.
    """

    errands: dict[type, Errand] = {}
    allows: tuple[Allowed, ...] = ()
    tail: LogTail | None = None
    notifier: Notifier | None = None
    reported: Callable[[], None] | None = None
    update: Callable[[], str] = lambda: ""


class _Waiting(Struct):
    """An errand that was asked for."""

    ask: Ask
    question: AnyQuestion


class Answering:
    """Answers for one agent. A context manager: inside it, questions are heard.

    Args:
        peer: its connection.
        board: what it knows.
        remote: what else may be asked of it.
    """

    def __init__(self, peer: Peer, board: Board, remote: Remote) -> None:
        self._peer = peer
        self._board = board
        self._errands, self._allows = remote.errands, remote.allows
        self._tail = remote.tail or LogTail()
        self._notifier = remote.notifier or Notifier({})
        self._reported = remote.reported
        self._questions: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._heard: deque[str] = deque(maxlen=MOST_WAITING)
        self._waiting: queue.SimpleQueue[_Waiting] = queue.SimpleQueue()
        self._published: object = None
        self._doing = ""
        self._published_s = float("-inf")
        self.errand = ""
        """The errand that is done now, in words."""
        self._thread = threading.Thread(target=self._answer, name=f"answers-{peer.id}", daemon=True)

    def __enter__(self) -> Answering:
        self._peer.on_ask(self._hear)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._questions.put(None)
        self._thread.join()

    # For the thread that works.

    def do_errand(self) -> None:
        """Do an errand that waits, if there is one; called between two steps, while in no run."""
        try:
            waiting = self._waiting.get_nowait()
        except queue.Empty:
            return
        self._do(waiting)

    def _do(self, waiting: _Waiting) -> None:
        question = waiting.question
        self.errand = what = str(question.__struct_config__.tag)
        level = logging.DEBUG if isinstance(question, UpdatePart) else logging.INFO
        log.log(level, "%s: %s, asked for from afar", self._peer.id, what)
        try:
            reply = self._errands[type(question)](
                question, lambda words: self._say(waiting.ask, ErrandProgress(words=words))
            )
        except FimiError as error:
            log.warning("%s: %s failed: %s", self._peer.id, what, error)
            reply = Declined(why=f"{what} failed: {error}"[:4000])
        except Exception as error:
            log.exception("%s: %s failed", self._peer.id, what)
            reply = Declined(why=f"{what} failed: {type(error).__name__}: {error}"[:4000])
        finally:
            self.errand = ""
        self._say(waiting.ask, reply)

    # On the network thread.

    def _hear(self, payload: bytes) -> None:
        with contextlib.suppress(queue.Full):
            self._questions.put_nowait(payload)

    # The thread that answers.

    def _answer(self) -> None:
        while True:
            try:
                self._publish_status()
                self._show()
                payload = self._questions.get(timeout=LOOK_AGAIN_S)
                if payload is None:
                    return
                self._take(decode(payload, Ask), time.time())
            except queue.Empty:
                continue
            except MessageRefused as error:
                log.warning("%s: a question is dropped: %s", self._peer.id, error)
            except MessagingError:
                return  # the line says it, and the agent ends
            except Exception:
                log.exception("%s: a question could not be answered", self._peer.id)

    def _publish_status(self) -> None:
        status = self._board.status()
        self._doing = f"takes part in {status.busy}" if status.run else "waits for a coordinator"
        changes = (status.run, bool(status.run), status.troubles, status.errand, status.board)
        now_s = time.monotonic()
        if changes != self._published or now_s - self._published_s >= STATUS_S:
            self._published, self._published_s = changes, now_s
            self._peer.tell("status", encode(status))

    def _show(self) -> None:
        """Tell the service manager how it is; and once, that the broker has the first status."""
        if self._board.hears():
            self._notifier.alive()
        away_s = self._peer.broker_away_s()
        if away_s is not None:
            away = f"the broker is away ({self._peer.address})"
            self._notifier.status(self._peer.shut_out or away)
        else:
            self._notifier.status(self._doing)
        if self._reported is not None and away_s is None and self._peer.flush(LOOK_AGAIN_S):
            reported, self._reported = self._reported, None
            reported()

    def _take(self, ask: Ask, now_unix_s: float) -> None:
        if ask.id in self._heard or ask.boot_id not in ("", self._peer.boot_id):
            return  # once more, or for an earlier start
        self._heard.append(ask.id)
        try:
            question = decode_question(ask)
        except MessageRefused as error:
            why = f"this agent (fimi {version() or 'unknown'}) does not know the question: {error}"
            self._say(ask, Declined(why=why))
            return
        if (reply := self._reply(ask, question, now_unix_s)) is not None:
            self._say(ask, reply)

    def _reply(self, ask: Ask, question: AnyQuestion, now_unix_s: float) -> AnyReply | None:
        """What is replied at once; ``None``: the errand will."""
        match question:
            case StatusQuestion():
                return self._board.status()
            case Echo():
                return Echoed(
                    payload=question.payload, received_unix_s=now_unix_s, sent_unix_s=time.time()
                )
            case ModelQuestion():
                return ModelReply(board=self._board.model())
            case LogQuestion():
                return self._tail.reply(question)
        if (why := self._why_not(question)) is not None:
            return Declined(why=why)
        waiting = _Waiting(ask, question)
        if getattr(question, "force", False) or isinstance(question, _AT_ONCE):
            self._do(waiting)
        else:
            self._waiting.put(waiting)
        return None

    def _why_not(self, question: AnyQuestion) -> str | None:
        """Why an errand is not done; ``None`` if it is."""
        needs = _NEEDS.get(type(question))
        if needs is not None and needs not in self._allows:
            return (
                f"it is not allowed to {needs} from afar: start its agent with --allow {needs}, or "
                f'write allow = ["{needs}"] below [remote] in its profile'
            )
        if type(question) not in self._errands:
            if needs == "update":
                return (
                    "this agent cannot be updated from afar: it is no service with a key for "
                    "updates (sudo fimi agent install --bundle FILE --allow update)"
                )
            return "this agent cannot do that: it runs without a profile of its machine"
        status = self._board.status()
        if status.run and not getattr(question, "force", False):
            return f"it takes part in {status.busy}, which this would disturb; ask again later"
        if status.errand:
            return f"it is busy with another errand ({status.errand}); ask again later"
        return None

    def _say(self, ask: Ask, reply: AnyReply) -> None:
        try:
            answer = BoardAnswer(
                id=ask.id,
                device=self._peer.id,
                boot_id=self._peer.boot_id,
                version=version(),
                reply=msgspec.Raw(encode(reply)),
            )
            self._peer.tell("answer", encode(answer))
        except MessageRefused as error:
            if not isinstance(reply, Declined):
                self._say(ask, Declined(why=f"its answer is too large: {error}"[:4000]))
        except MessagingError as error:  # if it is no longer connected, the line says so
            log.warning("%s cannot answer: %s", self._peer.id, error)
