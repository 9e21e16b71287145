"""Trackers of a run (:mod:`fimi.monitor.trackers`): from its configuration to its end.

* :func:`tracking_of`  who is told of the run in a folder
* :func:`tell_end`     what the run has come to, once it is stored and reported
"""

from __future__ import annotations

import logging
from pathlib import Path

from fimi.monitor.trackers import figures
from fimi.monitor.trackers.opening import trackers_of
from fimi.monitor.trackers.settings import TrackerSettings
from fimi.monitor.trackers.tracker import Figures
from fimi.monitor.trackers.tracking import Tracking
from fimi.record.clean import clean
from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.testbed.run_folder import FILE_NAMES, RunFolder

log = logging.getLogger(__name__)


def tracking_of(settings: TrackerSettings, folder: RunFolder) -> Tracking:
    """The trackers of a run; a context manager and a listener of its events."""
    return Tracking(
        trackers_of(settings),
        folder.store.info,
        before=folder.before,
        warn=lambda text: log.warning("%s", text),
    )


def tell_end(tracking: Tracking, path: Path) -> None:
    """Hand over what a run has come to.

    Args:
        tracking: its trackers.
        path: its folder, whose store is closed.
    """
    if not tracking.active:
        return
    files = [path / name for name in ("report.html", *FILE_NAMES.values())]
    told: Figures = {}
    status = "failed"
    try:
        run = read_run(path)
        status = "interrupted" if run.info.status == "running" else run.info.status
        told = figures.of_run(summarise(run))
    except Exception as error:  # the run is over and reported: a tracker must not fail it
        log.debug("no figures of the whole run for trackers", exc_info=True)
        log.warning("trackers get no figures of the whole run: %s", clean(error))
    tracking.end(status, told, files)
