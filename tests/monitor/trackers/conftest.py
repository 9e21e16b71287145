"""One stored run, and what trackers are told of it while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from stored_runs import write_run

from fimi.monitor.trackers import figures
from fimi.monitor.trackers.tracker import Tracker
from fimi.monitor.trackers.tracking import Tracking
from fimi.record.events import Prepared, RoundFinished
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.summary import Summary, summarise

INSTANCE = "0123456789abcdef"
ABOUT = {
    "strategy": "fimi",
    "seed": 3,
    "instance": INSTANCE,
    "config": {"rounds.count": 3, "plan.deadline_s": 12.0, "fleet.members": ["a", "b"]},
    "versions": {"torch": "2.6"},
}

Tell = Callable[..., list[str]]


class Stored:
    """A run of three rounds with a device on a plug and an emulated one."""

    def __init__(self, folder: Path) -> None:
        write_run(folder, about=ABOUT, physical=("device-1",))
        self.run: RunData = read_run(folder)
        self.summary: Summary = summarise(self.run)
        self.report = folder / "report.html"
        self.report.write_text("<title>a report</title>")

    def tell(
        self,
        trackers: Sequence[Tracker],
        *,
        before: RunData | None = None,
        upto: int = 3,
        status: str = "completed",
    ) -> list[str]:
        """Tell trackers what a coordinator would; returns the warnings."""
        said: list[str] = []
        after = before.rounds[-1].number if before else 0
        tracking = Tracking(trackers, self.run.info, before=before, warn=said.append)
        with tracking:
            for preparation in () if before else self.run.preparations:
                tracking(Prepared(preparation=preparation))
            for result in self.run.rounds[after:upto]:
                tracking(RoundFinished(result=result))
            missing = self.report.with_name("model.onnx")
            tracking.end(status, figures.of_run(self.summary), (self.report, missing))
        return said


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored(tmp_path_factory.mktemp("runs") / "a-run")
