"""``fimi fleet doctor``: every board's doctor in one table, failures first.

* :func:`examine`  asks them
* :func:`lines`    the table, and what to do below it
* :func:`remedies`  what is wrong and what helps, once for all boards that have the same
* :func:`body`     the same as JSON
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fimi.messaging.console import Console, SeenBoard
from fimi.messaging.errors import MessagingError, NotAnswered
from fimi.messaging.questions import Check, DoctorQuestion, DoctorReply
from fimi.record.clean import clean, enumerated, shortened
from fimi.report.layout import Marked, Paper, table, wrap
from fimi.report.words import MISSING
from fimi.testbed.fleet.boards import alike, each_of, together

PATIENCE_S = 120.0
"""How long a doctor may take between two words, s: some meters show something new seldom."""

Found = Mapping[str, tuple[Check, ...] | MessagingError]
"""What the doctor of each board found, or why it did not look."""

_INDENT = 9
_ORDER = ("failure", "warning", "ok", "absent")
_CELLS = {
    "ok": Marked("ok", "good"),
    "absent": MISSING,
    "warning": Marked("warning", "warning"),
    "failure": Marked("FAILURE", "problem"),
}


def examine(console: Console, boards: Iterable[SeenBoard]) -> Found:
    """Let boards examine themselves, all at once."""

    def ask(board: SeenBoard) -> tuple[Check, ...]:
        reply = console.ask(board.device, DoctorQuestion(), PATIENCE_S)
        if not isinstance(reply, DoctorReply):
            raise NotAnswered(f"{board.device} answers with {type(reply).__name__}")
        return reply.checks

    return each_of(boards, ask)


def has_failed(found: Found) -> bool:
    """Whether a board cannot be a device, or did not look."""
    return any(
        isinstance(checks, MessagingError) or any(check.status == "failure" for check in checks)
        for checks in found.values()
    )


def lines(found: Found, paper: Paper) -> Iterator[str]:
    """A row for each check and a column for each board, failures first; below it what to do."""
    looked = {board: checks for board, checks in found.items() if isinstance(checks, tuple)}
    worst: dict[str, int] = {}
    for checks in looked.values():
        for check in checks:
            rank = _ORDER.index(check.status)
            worst[check.name] = min(worst.get(check.name, rank), rank)
    by_name = {board: _by_name(checks) for board, checks in looked.items()}
    rows = [
        [clean(name, 30), *(_cell(checks.get(name)) for checks in by_name.values())]
        for name in sorted(worst, key=worst.__getitem__)  # which keeps the doctor's order
    ]
    if rows:
        yield table(["check", *shortened([*looked], 20)], rows, paper=paper)
    declined = alike((b, f"{error}") for b, error in found.items() if not isinstance(error, tuple))
    for words, boards in declined.items():
        yield ""
        yield from wrap(f"not examined: {clean(together(boards, words), 600)}", paper.text_width)
    for status in ("failure", "warning"):
        yield from remedies(looked, status, paper)


def _by_name(checks: Sequence[Check]) -> dict[str, Check]:
    """Checks by name; of several of one name the worst."""
    ranked = sorted(checks, key=lambda check: -_ORDER.index(check.status))
    return {check.name: check for check in ranked}


def _cell(check: Check | None) -> str:
    return "" if check is None else _CELLS[check.status]


def remedies(looked: Mapping[str, tuple[Check, ...]], status: str, paper: Paper) -> Iterator[str]:
    """What is wrong and what helps, once for all boards that have the same."""
    same: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for board, checks in looked.items():
        for check in checks:
            if check.status == status:
                same.setdefault((check.name, check.fix), []).append((board, check.found))
    mark = _CELLS[status]
    for (name, fix), each in same.items():
        for what, boards in alike(each).items():
            of_itself = what.startswith((" ", ": "))  # a sentence that names the board
            about = f"{enumerated(boards)}, {name}: {what}"
            said = together(boards, what) if of_itself else about
            yield ""
            first, *rest = (
                line
                for part in said.splitlines()
                for line in wrap(clean(part.strip(), 600), paper.text_width - _INDENT)
            )
            yield f"{paper.ink(mark)}{'':{_INDENT - len(mark)}}{first}"
            yield from (f"{'':{_INDENT}}{line}" for line in rest)
            if fix != what:
                for number, line in enumerate(fix.splitlines()):
                    yield f"{'':{_INDENT}}{'  ' if number else '→ '}{clean(line, 2000)}"


def body(found: Found) -> dict[str, Any]:
    """What was found, as JSON."""
    return {
        "boards": {
            board: {"error": str(checks)}
            if isinstance(checks, MessagingError)
            else {"checks": msgspec.to_builtins(checks)}
            for board, checks in found.items()
        }
    }
