"""``fimi fleet logs``: the last lines of a board's log, and those that come.

Lines come from another machine: control characters are shown as such.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from fimi.messaging.console import Console
from fimi.messaging.errors import BrokerError, NotAnswered
from fimi.messaging.questions import LogQuestion, LogReply
from fimi.record.clean import clean

FOLLOW_S = 1.0
"""Time between two questions for new lines, s."""

_LONGEST = 4000


def last(console: Console, board: str, count: int) -> Iterator[str]:
    """The last lines of a board.

    Raises:
        NotAnswered: it does not answer.
    """
    yield from _shown(_ask(console, board, LogQuestion(most=count)))


def follow(console: Console, board: str, count: int, stop: threading.Event) -> Iterator[str]:
    """The last lines of a board, then those that come, until ``stop`` is set.

    While it does not answer, it is waited for; after a new start of its agent, lines begin anew.

    Raises:
        NotAnswered: it does not answer at first.
    """
    reply = _ask(console, board, LogQuestion(most=count))
    yield from _shown(reply)
    while not stop.wait(FOLLOW_S):
        with contextlib.suppress(NotAnswered, BrokerError):
            before, reply = reply.last, _ask(console, board, LogQuestion(after=reply.last))
            if reply.last < before:
                yield f"({board} was started again)"
                reply = _ask(console, board, LogQuestion())
            yield from _shown(reply)


def _ask(console: Console, board: str, question: LogQuestion) -> LogReply:
    reply = console.ask(board, question)
    if not isinstance(reply, LogReply):
        raise NotAnswered(f"{board} answers with {type(reply).__name__}")
    return reply


def _shown(reply: LogReply) -> Iterator[str]:
    return (clean(line, _LONGEST) for line in reply.lines)
