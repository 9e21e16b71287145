"""What a run has lost, and runs that are set aside because of it.

* :func:`lost`        which boards were not there, in which rounds
* :func:`refusals`    boards that cannot take part in a run that has just begun
* :class:`LostRuns`   folders of runs that do not count, beside those that do
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from fimi.record import schema
from fimi.record.clean import clean
from fimi.record.reader import STORE_NAME, ReportError, open_store, read_run
from fimi.report.words import rounds_in_words


class Loss(Struct, frozen=True, kw_only=True):
    """What a finished run has lost.

    Attributes:
        share: of all device rounds, 0 to 1.
        rounds: board to the rounds without it.
    """

    share: float
    rounds: dict[str, tuple[int, ...]]

    def __str__(self) -> str:
        return "; ".join(f"{board} in {rounds_in_words(n)}" for board, n in self.rounds.items())


def lost(folder: Path, boards: Sequence[str]) -> Loss:
    """What a finished run has lost, by its store.

    Args:
        folder: of the run.
        boards: that were to take part.

    Raises:
        ReportError: the store cannot be read.
    """
    rounds = read_run(folder).rounds
    gone = {
        board: tuple(
            each.number
            for each in rounds
            if not any(row.device == board and not row.is_gone for row in each.devices)
        )
        for board in boards
    }
    count = sum(map(len, gone.values()))
    return Loss(
        share=count / max(1, len(rounds) * len(boards)),
        rounds={board: numbers for board, numbers in gone.items() if numbers},
    )


def refusals(folder: Path) -> dict[str, str]:
    """Boards that have refused to take part in a run, or were refused, with the reason."""
    try:
        with open_store(folder) as (_, db):
            rows = db.execute(
                f"SELECT device, why_not FROM {schema.ENROLMENT.name} "
                "WHERE why_not != '' AND device_index IS NOT NULL ORDER BY device"
            ).fetchall()
    except ReportError:
        return {}
    return {device: clean(why, 1000) for device, why in rows}


class LostRuns:
    """Where runs go that do not count: nothing that boards have done is deleted.

    Args:
        folder: for them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, name: str) -> list[Path]:
        """The folders of a run's earlier attempts, oldest first."""
        found = self._folder.glob(f"{name}.*")
        numbered = [path for path in found if path.name[len(name) + 1 :].isdecimal()]
        return sorted(numbered, key=lambda path: int(path.suffix[1:]))

    def set_aside(self, run: Path) -> Path | None:
        """Move a run's folder away; returns where it is, ``None`` if there was none.

        Raises:
            OSError: it cannot be moved.
        """
        return self._move(run, run.name)

    def discard(self, run: Path) -> Path | None:
        """The same, of a run that is no attempt at the one that is asked for.

        It was of another configuration, say, or cannot be gone on with.
        """
        return self._move(run, f"{run.name}.old")

    def _move(self, run: Path, name: str) -> Path | None:
        if not (run / STORE_NAME).exists():
            shutil.rmtree(run, ignore_errors=True)
            return None
        before = self.of(name)
        number = int(before[-1].suffix[1:]) + 1 if before else 1
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / f"{name}.{number}"
        os.replace(run, target)  # noqa: PTH105 - a folder, on the same disk
        return target

    def best(self, run: Path, boards: Sequence[str]) -> Loss:
        """Leave that attempt of a run in its place that has lost least; returns its loss.

        Raises:
            ReportError: the run in its place cannot be read.
        """
        least, where = lost(run, boards), run
        for path in self.of(run.name):
            try:
                found = lost(path, boards)
            except ReportError:
                continue
            if found.share < least.share and _completed(path):
                least, where = found, path
        if where != run:
            aside = where.with_name(f"{where.name}.swap")
            os.replace(run, aside)  # noqa: PTH105
            os.replace(where, run)  # noqa: PTH105
            os.replace(aside, where)  # noqa: PTH105
        return least


def _completed(path: Path) -> bool:
    return read_run(path).info.status == "completed"
