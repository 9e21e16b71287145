"""MLflow: figures as metrics whose step is the round, the configuration as parameters.

A run that is gone on with is the same run there: it is found by the tag ``fimi.instance``. MLflow's
names take letters, digits and ``_ - . /`` (and spaces and colons). Its limits: 6,000 characters of
a parameter, 1,000 figures in one call.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fimi.monitor.trackers.figures import ALWAYS
from fimi.monitor.trackers.tracker import Figures, Tracked

VALUE_MAX = 6000
"""Longest value of a parameter, characters."""
PARAMS_MAX = 100
"""Most parameters in one call."""
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would tell its makers
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is not there is known soon
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Variables that are set unless they are set already."""
STATUS = {"completed": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MlflowTracker:
    """A run of MLflow.

    Args:
        uri: tracking URI: of a database file, or of a server.
        project: name of the experiment there.
    """

    name, extra = "MLflow", "mlflow"

    def __init__(self, uri: str, project: str) -> None:
        self.place = uri
        self._project = project
        self._client: Any = None
        self._run = ""

    def begin(self, run: Tracked) -> int:
        """Find the run of this instance and what it was told, or make one."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # tells every retry
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        if self.place.startswith("sqlite:///"):
            Path(self.place.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._client = client = MlflowClient(tracking_uri=self.place)
        experiment = client.get_experiment_by_name(self._project)
        number = (
            client.create_experiment(self._project, artifact_location=self._artifacts())
            if experiment is None
            else experiment.experiment_id
        )
        known = client.search_runs(
            [number], filter_string=f"tags.`fimi.instance` = '{run.instance}'", max_results=1
        )
        if run.instance and known:
            self._run = known[0].info.run_id
            client.update_run(self._run, status="RUNNING")
            told = client.get_metric_history(self._run, ALWAYS)
            return max((m.step for m in told if m.step <= run.after_round), default=0)
        tags = {f"fimi.{name.replace('/', '.')}": text for name, text in run.about.items()}
        self._run = client.create_run(number, run_name=run.name, tags=tags).info.run_id
        params = [Param(key, str(value)[:VALUE_MAX]) for key, value in run.config.items()]
        for start in range(0, len(params), PARAMS_MAX):
            client.log_batch(self._run, params=params[start : start + PARAMS_MAX])
        return 0

    def round(self, number: int, figures: Figures) -> None:
        """Log the figures of a round."""
        self._log(figures, number)

    def end(self, status: str, figures: Figures, files: Sequence[Path]) -> None:
        """Log the figures of the run and its files, and end it."""
        self._log(figures, 0)
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, status=STATUS.get(status, "FAILED"))

    def _log(self, figures: Figures, step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(1000 * time.time())
        metrics = [Metric(name, value, now_ms, step) for name, value in figures.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def _artifacts(self) -> str | None:
        """Where files go with a database file: beside it. A server knows better."""
        if not self.place.startswith("sqlite:///"):
            return None
        database = Path(self.place.removeprefix("sqlite:///")).resolve()
        return (database.parent / "mlflow-artifacts").as_uri()
