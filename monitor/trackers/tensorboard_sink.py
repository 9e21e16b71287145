"""TensorBoard: figures as scalars whose step is the round, the configuration as a text.

A run has a folder of its own below the one that is named, as TensorBoard wants it. A run that is
gone on with gets another file there; what an earlier process wrote of rounds that were not stored
is purged.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fimi.monitor.trackers.tracker import Figures, Tracked


class TensorBoardTracker:
    """A folder of events of TensorBoard.

    Args:
        folder: for all runs.
    """

    name, extra = "TensorBoard", "tensorboard"

    def __init__(self, folder: str) -> None:
        self.place = folder
        self._folder = Path(folder).expanduser()
        self._writer: Any = None

    def begin(self, run: Tracked) -> None:
        """Open a file of events."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._folder = self._folder / run.name
        purge = run.after_round + 1 if run.after_round else None
        self._writer = SummaryWriter(str(self._folder), purge_step=purge)
        if not run.after_round:
            rows = [*run.about.items(), *run.config.items()]
            text = "".join(f"| {_cell(name)} | {_cell(value)} |\n" for name, value in rows)
            self._writer.add_text("run", f"| key | value |\n|---|---|\n{text}")
            self._writer.flush()

    def round(self, number: int, figures: Figures) -> None:
        """Write the figures of a round."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    def end(self, status: str, figures: Figures, files: Sequence[Path]) -> None:
        """Write the figures of the run, copy its files beside them, and close."""
        rows = "".join(f"| {_cell(name)} | {value!r} |\n" for name, value in figures.items())
        self._writer.add_text("end", f"| {status} | |\n|---|---|\n{rows}")
        self._writer.close()
        for file in files:
            shutil.copyfile(file, self._folder / file.name)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
