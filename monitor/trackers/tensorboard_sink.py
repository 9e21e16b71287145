"""TensorBoard: figures as scalars whose step is the round, the configuration as a text.

A run has a folder of its own below the one that is named, as TensorBoard wants it, called like the
run; another run of that name gets one with the beginning of its instance behind it, so that neither
loses its curves to the other. A run that is gone on with gets another file in its folder. Its first
record purges what an earlier process wrote of rounds that were not stored, and of the last round:
that process may have been killed over it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fimi.monitor.trackers.figures import ALWAYS
from fimi.monitor.trackers.tracker import Figures, Tracked

_MARK = "fimi-instance.txt"
"""Says whose folder it is."""


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

    def begin(self, run: Tracked) -> int:
        """Open a file of events, after the rounds that earlier files have."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._folder = _own_folder(self._folder / run.name, run.instance)
        last = _last_round(self._folder)
        told = min(last - 1, run.after_round) if last else 0
        self._writer = SummaryWriter(str(self._folder), purge_step=told + 1 if last else None)
        if not last:
            rows = [*run.about.items(), *run.config.items()]
            text = "".join(f"| {_cell(name)} | {_cell(value)} |\n" for name, value in rows)
            self._writer.add_text("run", f"| key | value |\n|---|---|\n{text}")
            self._writer.flush()
        return told

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


def _own_folder(folder: Path, instance: str) -> Path:
    """The folder of a run: the one of its name, unless another run of that name has it."""
    for place in (folder, folder.with_name(f"{folder.name}-{instance[:8]}")):
        mark = place / _MARK
        if mark.is_file() and mark.read_text(encoding="utf-8").strip() != instance:
            continue
        place.mkdir(parents=True, exist_ok=True)
        mark.write_text(f"{instance}\n", encoding="utf-8")
        return place
    raise ValueError(f"{folder} and {place.name} beside it are of other runs")


def _last_round(folder: Path) -> int:
    """The last round of which files of events have anything; 0 without any."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    last = 0
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(file)).Load():
            if event.HasField("session_log"):  # later ones are purged
                last = min(last, max(0, event.step - 1))
            elif any(value.tag == ALWAYS for value in event.summary.value):
                last = max(last, event.step)
    return last


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
