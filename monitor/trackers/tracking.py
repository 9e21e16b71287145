"""Tells trackers of a run: a listener of events, and a thread that works for it.

The coordinator's thread only notes a round (:meth:`Tracking.__call__`). The thread makes its
figures and hands them to the trackers; it rests for nineteen times as long as that took, so that it
takes a twentieth of a core at most, however many rounds there are. Rounds that ended meanwhile are
told together afterwards, each with its number. A run that is gone on with begins with the stored
rounds that a tracker has not got, because the process before was killed over them.

A tracker that raises is dropped with one warning. One that does not come back holds up the others
of its run, and the end of the run by :data:`PATIENCE_S` at most, not the run. Figures that cannot
be made are named once, and tried again with the next round and at the end of the run; what is not
told then is named too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from fimi.monitor.trackers import figures
from fimi.monitor.trackers.tracker import Figures, Tracked, Tracker
from fimi.record.clean import clean
from fimi.record.credit import prepared_again
from fimi.record.curve import points
from fimi.record.events import Credited, Event, Prepared, RoundFinished
from fimi.record.phases import run_parts
from fimi.record.record import RunData, RunInfo
from fimi.record.results import RoundResult
from fimi.report.words import rounds_in_words

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long the end of a run waits for its trackers, s."""
REST = 19.0
"""For how many times as long as it has worked the thread rests."""

Warn = Callable[[str], None]


class Tracking:
    """The trackers of one run. A context manager: inside it, they are told.

    Args:
        trackers: to be told; none: nothing is done.
        run: what they are told of.
        before: the run so far, of one that is gone on with.
        warn: called with one sentence for each tracker that fails, from another thread.
    """

    def __init__(
        self,
        trackers: Sequence[Tracker],
        run: RunInfo,
        *,
        before: RunData | None = None,
        warn: Warn = log.warning,
    ) -> None:
        self._trackers = list(trackers)
        self._data = before or RunData(path=Path(run.run), info=run)
        self._tracked = tracked(run, self._data.rounds[-1].number if self._data.rounds else 0)
        self._told: dict[Tracker, int] = {}  # the last round that each has
        self._tried = self._tracked.after_round  # the last round of which figures were made
        self._failed = False
        self._warn = warn
        self._changed = threading.Condition()
        self._ending = False
        self._ended: tuple[str, Figures, Sequence[Path]] | None = None
        self._thread = threading.Thread(target=self._work, name="trackers", daemon=True)

    @property
    def active(self) -> bool:
        """Whether anybody is told anything."""
        return bool(self._trackers)

    def __enter__(self) -> Tracking:
        if self._trackers:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._trackers:
            return
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._warn(
                f"trackers have not finished within {PATIENCE_S:g} s and are left alone: "
                f"{', '.join(tracker.name for tracker in self._trackers)}"
            )

    def __call__(self, event: Event) -> None:
        """Note an event; returns at once."""
        if not self._trackers or not isinstance(event, Prepared | RoundFinished | Credited):
            return
        with self._changed:
            if isinstance(event, Prepared):
                told = {each.device: each for each in self._data.preparations}
                own = event.preparation
                before = told.get(own.device)
                told[own.device] = own if before is None else prepared_again(before, own)
                self._data = replace(self._data, preparations=tuple(told.values()))
            elif isinstance(event, RoundFinished):
                rounds = (*self._data.rounds, event.result)
                self._data = replace(self._data, rounds=rounds)
                self._changed.notify()
            elif event.entry is not None:  # rounds that follow are told with it
                self._data = replace(self._data, rounds=_with(self._data.rounds, event))

    def end(self, status: str, run: Figures, files: Sequence[Path]) -> None:
        """Note how the run has ended; what it left is handed over when the context ends.

        Args:
            status: ``completed``, ``interrupted`` or ``failed``.
            run: figures of the whole run.
            files: those that are there are handed over.
        """
        self._ended = (status, run, tuple(file for file in files if file.is_file()))

    def _work(self) -> None:
        self._all(self._begin)
        if any(told < self._tried for told in self._told.values()):
            self._tried = 0
        while self._trackers:
            with self._changed:
                self._changed.wait_for(lambda: self._ending or self._untold)
                data, ending = self._data, self._ending
            began_s = time.monotonic()
            self._tell(data, ending)
            if ending:
                break
            with self._changed:
                rest_s = REST * (time.monotonic() - began_s)
                self._changed.wait_for(lambda: self._ending, rest_s)
        status, run, files = self._ended or ("failed", {}, ())
        self._all(lambda tracker: tracker.end(status, run, files))

    @property
    def _untold(self) -> bool:
        """Whether there are rounds of which no figures were made yet."""
        return bool(self._data.rounds) and self._data.rounds[-1].number > self._tried

    def _begin(self, tracker: Tracker) -> None:
        self._told[tracker] = tracker.begin(self._tracked)

    def _tell(self, data: RunData, ending: bool) -> None:
        """Tell each tracker the rounds that it has not got; at the end for the last time."""
        if not data.rounds:
            return
        self._tried = last = data.rounds[-1].number
        if all(self._told[tracker] >= last for tracker in self._trackers):
            return
        try:
            told = [(p.number, figures.of_round(p)) for p in points(data, run_parts(data), {})]
        except Exception as problem:
            log.debug("no figures for trackers", exc_info=True)
            why = f"cannot be made: {type(problem).__name__}: {clean(problem)}"
            if ending:
                first = 1 + min(self._told[tracker] for tracker in self._trackers)
                rounds = [each.number for each in data.rounds if each.number >= first]
                self._warn(
                    f"trackers are not told of {rounds_in_words(rounds)}, as their figures {why}; "
                    "the run's own record has them"
                )
            elif not self._failed:
                self._warn(
                    f"trackers are not told of round {last} yet, as its figures {why}; this is "
                    "tried again after the next round, and when the run ends"
                )
            self._failed = True
            return
        for number, each in told:
            self._tell_round(number, each)

    def _tell_round(self, number: int, told: Figures) -> None:
        def tell(tracker: Tracker) -> None:
            if number > self._told[tracker]:
                tracker.round(number, told)
                self._told[tracker] = number

        self._all(tell)

    def _all(self, call: Callable[[Tracker], None]) -> None:
        """Do something with every tracker; drop those that fail."""
        for tracker in tuple(self._trackers):
            try:
                call(tracker)
            except Exception as problem:
                self._trackers.remove(tracker)
                log.debug("%s failed", tracker.name, exc_info=True)
                self._warn(said(tracker, problem))


def _with(rounds: tuple[RoundResult, ...], late: Credited) -> tuple[RoundResult, ...]:
    """The rounds with what a device said late of one of them."""
    entry = late.entry
    assert entry is not None
    return tuple(
        replace(each, devices=tuple(entry if d.device == entry.device else d for d in each.devices))
        if each.number == late.round
        else each
        for each in rounds
    )


def said(tracker: Tracker, problem: Exception) -> str:
    """What is said of a tracker that has failed."""
    if isinstance(problem, ImportError):
        return (
            f"{tracker.name} is not told of this run: {clean(problem)}; pip install "
            f"'fimi-testbed[{tracker.extra}]', or leave trackers.{tracker.extra} out"
        )
    return (
        f"{tracker.name} is not told of this run any more: {type(problem).__name__}: "
        f"{clean(problem)} (trackers.{tracker.extra}, {tracker.place}); the run goes on"
    )


def tracked(run: RunInfo, after_round: int) -> Tracked:
    """What trackers are told of a run when it begins."""
    about: Mapping[str, object] = {
        "strategy": run.strategy,
        "seed": run.seed,
        "dataset": run.dataset.name,
        "private_digest": run.dataset.private_digest,
        "test_digest": run.dataset.test_digest,
        "instance": run.instance,
        "command": run.command,
        **{f"version/{package}": version for package, version in run.versions.items()},
    }
    return Tracked(
        name=run.run,
        instance=run.instance,
        after_round=after_round,
        about={name: str(value) for name, value in about.items() if value not in (None, "")},
        config=run.config,
    )
