"""The section ``trackers`` of a configuration: which trackers are told of a run, and where."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class TrackerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Trackers of experiments, which the coordinator tells of its run; none by default."""

    mlflow: Annotated[
        str,
        Meta(pattern="^[^@]*$"),
        "Tracking URI of MLflow, sqlite:///runs/mlflow.db or that of a server, without user and "
        "password (MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD); empty: it is not told. "
        "Needs the extra mlflow.",
    ] = ""
    tensorboard: Annotated[
        str,
        "Folder in which TensorBoard finds a folder for each run; empty: it is not told. Needs the "
        "extra tensorboard.",
    ] = ""
    wandb: Annotated[
        str,
        "Folder for offline runs of Weights & Biases, which 'wandb sync' uploads; empty: it is not "
        "told. Needs the extra wandb.",
    ] = ""
    project: Annotated[
        str,
        Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"),
        "Experiment of MLflow and project of Weights & Biases that runs belong to.",
    ] = "fimi"
