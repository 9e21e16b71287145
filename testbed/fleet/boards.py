"""The boards of a fleet as a console sees them: which are there, and what is wrong with each.

* :func:`chosen`    those of some ids, or all
* :func:`each_of`   ask several boards at once
* :class:`Problem`  one thing that is wrong with a board, and what to do
* :func:`problems`  all of them
* :func:`ordered`   boards with problems first
* :func:`alike`     boards of which the same is said
* :func:`together`  one sentence for all of them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

from msgspec import Struct

from fimi.edge_agent.doctor.board import HOT_C
from fimi.edge_agent.doctor.surroundings import LEAST_DISK_BYTES, LEAST_MEMORY_BYTES
from fimi.errors import InputError
from fimi.messaging.console import SeenBoard
from fimi.messaging.errors import MessagingError, NotAnswered
from fimi.messaging.questions import BoardStatus
from fimi.record.clean import enumerated
from fimi.sources import source_digest, version
from fimi.testbed.nearest import hint

MOST_AT_ONCE = 32
"""So many boards are asked at the same time."""

_RANKS = {"failure": 0, "warning": 1}

T = TypeVar("T")


class UnknownBoardError(InputError, ValueError):
    """A fleet has no such board; the message names the nearest."""

    code = "F004"


class Problem(Struct, frozen=True, kw_only=True):
    """Something that is wrong with a board.

    Attributes:
        weight: ``failure``: it cannot take part in a run; ``warning``: it can.
        what: what is wrong and what to do, in words.
    """

    weight: Literal["failure", "warning"]
    what: str


def chosen(seen: Mapping[str, SeenBoard], ids: Sequence[str]) -> list[SeenBoard]:
    """The boards of some ids, or all that there are where none is given.

    Raises:
        UnknownBoardError: there is no board of that id, or none at all.
    """
    if not seen:
        raise UnknownBoardError(
            "the broker knows no board in this fleet: start their agents (fimi agent run), or name "
            "another fleet with --fleet"
        )
    for name in ids:
        if name not in seen:
            raise UnknownBoardError(f"no board {name!r} in this fleet; {hint(name, seen)}")
    return [seen[name] for name in dict.fromkeys(ids or seen)]


def each_of(
    boards: Iterable[SeenBoard], ask: Callable[[SeenBoard], T], *, in_turn: bool = False
) -> dict[str, T | MessagingError]:
    """What several boards answer, by id; where one does not, the error that says why.

    One that has not answered to a look is not asked.

    Args:
        boards: the boards.
        ask: asks one of them.
        in_turn: one after another instead of at once.
    """

    def one(board: SeenBoard) -> T | MessagingError:
        if board.standing != "answers":
            return NotAnswered(board.why_not())
        try:
            return ask(board)
        except MessagingError as error:
            return error

    every = list(boards)
    with ThreadPoolExecutor(1 if in_turn else MOST_AT_ONCE) as pool:
        answers = pool.map(one, every)
        return {board.device: answer for board, answer in zip(every, answers, strict=True)}


def problems(board: SeenBoard) -> tuple[Problem, ...]:
    """What is wrong with a board."""
    if board.standing != "answers" or board.status is None:
        return (Problem(weight="failure", what=board.why_not()),)
    status = board.status
    found = [Problem(weight="failure", what=trouble) for trouble in status.troubles]
    found += [Problem(weight="warning", what=words) for words in _warnings(status)]
    return tuple(found)


def _warnings(status: BoardStatus) -> Iterable[str]:
    if status.version != version():
        yield (
            f"its agent is of fimi {status.version or 'that was never installed'}, here is "
            f"{version()}: install the same on both, and restart the agent"
        )
    elif status.sources != source_digest():
        yield (
            f"its agent's code ({status.sources}) differs from the code here ({source_digest()}): "
            "copy it there, and restart the agent"
        )
    if status.update:
        yield f"its last update: {status.update}"
    if status.memory_bytes and status.memory_free_bytes < LEAST_MEMORY_BYTES:
        yield f"only {room(status.memory_free_bytes)} of memory are free: stop other programs"
    if status.disk_free_bytes < LEAST_DISK_BYTES:
        yield f"only {room(status.disk_free_bytes)} of disk are free: sudo apt clean"
    if status.temperature_c is not None and status.temperature_c >= HOT_C:
        yield f"{status.temperature_c:.0f} °C: cool it, or it will throttle"


def ordered(seen: Iterable[SeenBoard]) -> list[tuple[SeenBoard, tuple[Problem, ...]]]:
    """Boards with what is wrong with them: failures first, then warnings, each by id."""
    found = [(board, problems(board)) for board in seen]
    return sorted(found, key=lambda each: (_rank(each[1]), each[0].device))


def alike(said: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Boards of which the same is said: by the words, without an id that they begin with.

    Args:
        said: board and words.
    """
    same: dict[str, list[str]] = {}
    for board, words in said:
        same.setdefault(words.removeprefix(board), []).append(board)
    return same


def together(boards: Sequence[str], words: str) -> str:
    """``d1 is offline``; ``d1, d2: each is offline``; ``d1, d2: it is hot``.

    Args:
        boards: their ids.
        words: as :func:`alike` gives them.
    """
    if not words.startswith(" "):
        return f"{enumerated(boards)}: {words.removeprefix(': ')}"
    return f"{enumerated(boards)}{': each' * (len(boards) > 1)}{words}"


def has_failed(found: Iterable[Problem]) -> bool:
    """Whether one of them keeps the board from taking part in a run."""
    return any(problem.weight == "failure" for problem in found)


def _rank(found: tuple[Problem, ...]) -> int:
    return min((_RANKS[problem.weight] for problem in found), default=len(_RANKS))


def room(size_bytes: int) -> str:
    """``512 MB``, ``12.3 GB``."""
    gigabytes = size_bytes / 1e9
    return f"{gigabytes:.3g} GB" if gigabytes >= 1.0 else f"{1e3 * gigabytes:.0f} MB"
