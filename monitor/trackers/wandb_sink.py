"""Weights & Biases, offline: a folder for each process of a run, which ``wandb sync`` uploads.

Nothing leaves the machine: no figures, no errors of the tool, no description of the machine. A run
that is gone on with keeps its id, so that what is uploaded is one run. What rounds it has is read
from its earlier folders: the tool writes some seconds after it was told, which a killed process
loses.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fimi.monitor.trackers import wandb_file
from fimi.monitor.trackers.tracker import Figures, Tracked


class WandbTracker:
    """An offline run of Weights & Biases.

    Args:
        folder: where its folders go.
        project: that the run will belong to.
    """

    name, extra = "Weights & Biases", "wandb"

    def __init__(self, folder: str, project: str) -> None:
        self.place = folder
        self._folder = Path(folder).expanduser()
        self._project = project
        self._run: Any = None

    def begin(self, run: Tracked) -> int:
        """Begin an offline run, after the rounds that earlier folders have."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        before = self._folder.glob(f"wandb/offline-run-*-{run.instance}/*.wandb")
        rounds = [wandb_file.last_round(file) for file in before] if run.instance else []
        self._run = wandb.init(
            project=self._project,
            name=run.name,
            id=run.instance or None,
            dir=str(self._folder),
            mode="offline",
            config={**run.config, **{f"about/{name}": text for name, text in run.about.items()}},
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                disable_job_creation=True,
                x_disable_meta=True,
                x_disable_stats=True,
            ),
        )
        return min(max(rounds, default=0), run.after_round)

    def round(self, number: int, figures: Figures) -> None:
        """Log the figures of a round."""
        self._run.log(dict(figures), step=number, commit=True)

    def end(self, status: str, figures: Figures, files: Sequence[Path]) -> None:
        """Note the figures of the run, keep its files, and end it."""
        self._run.summary.update({"status": status, **figures})
        for file in files:
            kept = shutil.copyfile(file, Path(self._run.dir) / file.name)
            self._run.save(str(kept), base_path=self._run.dir, policy="now")
        self._run.finish(exit_code=0 if status == "completed" else 1)
