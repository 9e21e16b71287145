"""The boards of a study: which they are, whether they are there, and whether they are cool.

* :class:`StudyBoard`     what is known of one board at the moment
* :class:`Boards`    waits for them, and lets them rest and cool down
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from fimi.errors import RunFailedError
from fimi.messaging.errors import BrokerError
from fimi.record.clean import enumerated
from fimi.testbed.experiment.definition import LiveStudy
from fimi.testbed.experiment.engines.base import Stopped

GENERATOR = "generator"
"""Stands for a generator node among those that were waited for in vain; no device has this id."""

LOOK_S = 2.0
"""Time between two looks at the boards while they are waited for, s."""


class StudyBoard(Struct, frozen=True, kw_only=True):
    """A board at the moment.

    Attributes:
        online: whether its agent is connected.
        why_not: why no run can be made with it although it is online; empty if one can.
        temperature_c: of its processor, °C; ``None`` if it shows none.
        emulated: whether it is emulated: it need not rest.
    """

    online: bool
    why_not: str = ""
    temperature_c: float | None = None
    emulated: bool = False

    @property
    def ready(self) -> bool:
        """Whether a run can be made with it."""
        return self.online and not self.why_not


class MissingBoardsError(RunFailedError, RuntimeError):
    """Too few boards have come; the message says which, and what to do."""

    code = "X002"


Look = Callable[[], Mapping[str, StudyBoard]]
"""Gives every board of the fleet that was ever heard of. Raises BrokerError."""


class Boards:
    """Waits for boards.

    Args:
        look: gives them.
        live: for how long, and how cool.
        stop: set when the study is to stop.
        tell: told for whom it waits, each time that this changes; empty: for nobody any more.
        gone: boards that were waited for in vain, which are not waited for again until they have
            been there; changed here.
    """

    def __init__(
        self,
        look: Look,
        live: LiveStudy,
        stop: threading.Event,
        tell: Callable[[str], None],
        gone: set[str] | None = None,
    ) -> None:
        self._look = look
        self._live = live
        self._stop = stop
        self._tell = tell
        self._gone = set() if gone is None else gone
        self._away_s = 0.0

    def choose(self, count: int) -> tuple[str, ...]:
        """The boards of a study that begins, in the order of their names.

        Args:
            count: how many its largest run needs.

        Raises:
            MissingBoardsError: too few come.
            Stopped: the study was stopped.
        """
        limit_s = self._clock_s() + self._live.wait_s
        while True:
            boards = self._seen()
            here = sorted(name for name, board in boards.items() if board.ready)
            if len(here) >= count:
                self._tell("")
                return tuple(here[:count])
            left_s = limit_s - self._clock_s()
            if left_s <= 0:
                raise MissingBoardsError(
                    f"{len(here)} of {count} boards came within {self._live.wait_s:g} s"
                    f"{': ' + enumerated(here) if here else ''}"
                    f"{_why_not(boards)}; start the missing agents, ask for fewer (fleet.devices "
                    "below [base]), or wait longer (wait_s below [live])"
                )
            self._wait(f"{len(here)} of {count} boards here, {left_s:.0f} s left{_why_not(boards)}")

    def await_members(self, members: Sequence[str], quorum: int) -> tuple[str, ...]:
        """Wait for the boards of a run.

        Args:
            members: the boards.
            quorum: how many of them a run needs at least.

        Returns:
            Those that are not there.

        Raises:
            MissingBoardsError: fewer than a quorum are.
            Stopped: the study was stopped.
        """
        limit_s = self._clock_s() + self._live.wait_s
        while True:
            boards = self._seen()
            missing = tuple(m for m in members if m not in boards or not boards[m].ready)
            self._gone.difference_update(set(members) - set(missing))
            awaited = [m for m in missing if m not in self._gone]
            left_s = limit_s - self._clock_s()
            if awaited and left_s > 0:
                why = _why_not({m: boards[m] for m in awaited if m in boards})
                self._wait(f"waiting for {enumerated(awaited)}, {left_s:.0f} s left{why}")
                continue
            self._gone.update(awaited)
            self._tell("")
            if len(members) - len(missing) < quorum:
                raise MissingBoardsError(
                    f"{len(members) - len(missing)} of {len(members)} boards are there, and "
                    f"{quorum} are needed (rounds.quorum); missing: {enumerated(missing)}"
                    f"{_why_not({m: boards[m] for m in missing if m in boards})}"
                )
            return missing

    def await_node(self, has_node: Callable[[], bool]) -> None:
        """Wait for a generator node; one that was waited for in vain is not waited for again.

        Args:
            has_node: whether one is there.

        Raises:
            MissingBoardsError: none comes.
            Stopped: the study was stopped.
        """
        limit_s = self._clock_s() + self._live.wait_s
        while True:
            self._seen()  # the broker is there, and what it keeps is known
            if has_node():
                self._gone.discard(GENERATOR)
                self._tell("")
                return
            left_s = limit_s - self._clock_s()
            if GENERATOR in self._gone or left_s <= 0:
                self._gone.add(GENERATOR)
                raise MissingBoardsError(
                    "there is no generator node in this fleet: start one (fimi generator run), or "
                    "add --generator, which runs one here"
                )
            self._wait(
                f"waiting for a generator node, {left_s:.0f} s left; start one: fimi generator run"
            )

    def rest(self, members: Sequence[str], ended_s: float | None) -> dict[str, float]:
        """Let the boards of a run rest and cool down.

        Args:
            members: the boards.
            ended_s: how long ago the last run ended, s; ``None``: there was none.

        Returns:
            Their temperatures then, °C, of those that show one; a board above the limit was waited
            for as long as is allowed.

        Raises:
            Stopped: the study was stopped.
        """
        live, began_s = self._live, time.monotonic()
        while True:
            boards = {name: b for name, b in self._seen().items() if name in members and b.ready}
            gone_s = time.monotonic() - began_s
            rest_s = 0.0
            if ended_s is not None and not all(board.emulated for board in boards.values()):
                rest_s = live.rest_s - ended_s - gone_s
            warm = {
                name: board.temperature_c
                for name, board in sorted(boards.items())
                if board.temperature_c is not None
            }
            hot = [
                f"{name} at {warm[name]:.0f} °C"
                for name in warm
                if live.cool_to_c and warm[name] > live.cool_to_c
            ]
            if rest_s <= 0 and (not hot or gone_s >= live.cool_max_s):
                self._tell("")
                return warm
            if hot:
                self._wait(f"cooling down to {live.cool_to_c:g} °C: {', '.join(hot)}")
            else:
                self._wait(f"boards rest, {rest_s:.0f} s left", rest_s)

    def _seen(self) -> Mapping[str, StudyBoard]:
        """The boards, once the broker answers."""
        since_s = failed_s = time.monotonic()
        while True:
            if self._stop.is_set():
                raise Stopped
            try:
                boards = self._look()
            except BrokerError as error:
                self._wait(f"broker away for {time.monotonic() - since_s:.0f} s ({error})")
                failed_s = time.monotonic()
            else:
                self._away_s += failed_s - since_s
                return boards

    def _clock_s(self) -> float:
        """A clock that stands still while the broker is away: boards cannot come then, s."""
        return time.monotonic() - self._away_s

    def _wait(self, what: str, most_s: float = LOOK_S) -> None:
        self._tell(what)
        if self._stop.wait(max(0.05, min(LOOK_S, most_s))):
            raise Stopped


def _why_not(boards: Mapping[str, StudyBoard]) -> str:
    said = [
        b.why_not if b.why_not.startswith(f"{name} ") else f"{name}: {b.why_not}"
        for name, b in sorted(boards.items())
        if b.online and b.why_not
    ]
    return f" ({'; '.join(said)})" if said else ""
