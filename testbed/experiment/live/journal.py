"""What a study did when: a file beside its runs, for whoever asks what happened on Sunday night."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import msgspec


class StudyJournal:
    """A line of JSON for each thing that happened, on the disk before the study goes on.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(
        self, what: Literal["began", "ended", "repeats", "failed"], run: str, **more: Any
    ) -> None:
        """Write a line.

        Args:
            what: happened.
            run: its name.
            more: what else there is to say.

        Raises:
            OSError: the file cannot be written.
        """
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        line = msgspec.json.encode({"at": at, "what": what, "run": run, **more})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
