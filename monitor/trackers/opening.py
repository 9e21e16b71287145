"""The trackers of a configuration; the one list of them."""

from __future__ import annotations

from collections.abc import Callable

from fimi.monitor.trackers.mlflow_sink import MlflowTracker
from fimi.monitor.trackers.settings import TrackerSettings
from fimi.monitor.trackers.tensorboard_sink import TensorBoardTracker
from fimi.monitor.trackers.tracker import Tracker
from fimi.monitor.trackers.wandb_sink import WandbTracker

_KNOWN: tuple[Callable[[TrackerSettings], Tracker | None], ...] = (
    lambda s: MlflowTracker(s.mlflow, s.project) if s.mlflow else None,
    lambda s: TensorBoardTracker(s.tensorboard) if s.tensorboard else None,
    lambda s: WandbTracker(s.wandb, s.project) if s.wandb else None,
)


def trackers_of(settings: TrackerSettings) -> tuple[Tracker, ...]:
    """The trackers that a configuration names; their tools are not loaded yet."""
    return tuple(tracker for make in _KNOWN if (tracker := make(settings)) is not None)
