"""Asks something of a run that goes on, in the process of its coordinator.

The coordinator's dashboard listens on loopback; the file ``dashboard.json`` in the run folder says
where, and has the key. Only who can read that file can ask.

* :class:`Asking`           a run, and how it is asked
* :class:`NoAnswerError`    nobody answers, or not as a coordinator does
"""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from fimi.errors import SurroundingsError
from fimi.monitor.server import door
from fimi.monitor.server.door import Door
from fimi.record.clean import clean
from fimi.record.interventions import AskFor, ControlAnswer, LookAt, Request
from fimi.record.reader import ReportError, read_run

TIMEOUT_S = 10.0
"""How long an answer may take, s."""
POLL_S = 0.25
"""Between two looks at a request that waits, s."""
_MOST_BYTES = 1 << 20
_AGO_S = 60.0


class NoAnswerError(SurroundingsError, RuntimeError):
    """Nobody answers for a run, or not as a coordinator does; says what to do."""

    code = "R015"


class Asking:
    """Asks one run.

    Args:
        folder: of the run.

    Raises:
        fimi.monitor.server.door.NoDoorError: it has no dashboard now.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._door: Door = door.find(folder)

    def ask(self, request: Request, by: str) -> ControlAnswer:
        """Hand a request in.

        Args:
            request: for what.
            by: who asks, in words, for the record.

        Raises:
            NoAnswerError: the run cannot be reached.
        """
        return self._send(AskFor(request=request, by=by))

    def wait(self, answer: ControlAnswer, request: Request, by: str) -> ControlAnswer:
        """Wait until a request that was accepted is served.

        A run that ends meanwhile takes its dashboard with it; then its record says what became of
        the request.

        Args:
            answer: to the request.
            request: for what it was.
            by: who has asked.

        Raises:
            NoAnswerError: the coordinator is gone, and has not served it.
        """
        asked_at = time.time()
        while answer.state == "accepted":
            time.sleep(POLL_S)
            try:
                answer = self._send(LookAt(number=answer.number))
            except NoAnswerError:
                if (stored := self._stored(request, by, asked_at)) is None:
                    raise
                return stored
        return answer

    def _stored(self, request: Request, by: str, asked_at: float) -> ControlAnswer | None:
        """What the record says of a request; ``None``: nothing."""
        try:
            found = read_run(self._folder).interventions
        except ReportError:
            return None
        for each in reversed(found):
            if each.request == request and each.by == clean(by) and each.at > asked_at - _AGO_S:
                return ControlAnswer(
                    number=0,
                    state="done" if each.done else "refused",
                    after_round=each.after_round,
                    words=f"done: {each.words}" if each.done else each.words,
                    refusal="" if each.done else "over",
                )
        return None

    def _send(self, message: AskFor | LookAt) -> ControlAnswer:
        place, name = urlsplit(self._door.url), self._folder.name
        connection = http.client.HTTPConnection(
            place.hostname or "127.0.0.1", place.port or 80, timeout=TIMEOUT_S
        )
        headers = {door.HEADER: self._door.key, "Content-Type": "application/json"}
        try:
            connection.request("POST", "/control", msgspec.json.encode(message), headers)
            reply = connection.getresponse()
            status, body = reply.status, reply.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException) as error:
            nobody = f"run {name}: nobody answers at {self._door.url} ({_why(error)})"
            if there := clean(self._door.elsewhere, 100):
                raise NoAnswerError(f"{nobody}: it was started on {there}; ask there") from error
            raise NoAnswerError(
                f"{nobody}: its coordinator has ended or was killed; 'fimi report {self._folder}' "
                "says how far it came"
            ) from error
        finally:
            connection.close()
        if status == http.client.FORBIDDEN:
            raise NoAnswerError(
                f"run {name}: what answers at {self._door.url} does not know the key of "
                f"{self._folder / door.NAME}: the coordinator was killed, and another run listens "
                "there now"
            )
        if status == http.client.CONFLICT:
            raise NoAnswerError(f"run {name}: {_error_of(body)}")
        try:
            if status != http.client.OK:
                raise ValueError(f"{status} {_error_of(body)}")
            return msgspec.json.decode(body, type=ControlAnswer)
        except (msgspec.MsgspecError, ValueError) as error:
            raise NoAnswerError(
                f"run {name}: {self._door.url} gives no answer that is one: {clean(error)}; does "
                "the coordinator run with the same version of fimi?"
            ) from error


def _why(error: BaseException) -> str:
    return clean(getattr(error, "strerror", None) or error or type(error).__name__)


def _error_of(body: bytes) -> str:
    """What a server says of an error."""
    try:
        return clean(msgspec.json.decode(body, type=dict[str, str]).get("error", ""), 500)
    except msgspec.MsgspecError:
        return ""
