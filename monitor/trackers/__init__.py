"""Trackers of experiments that are told of a run: MLflow, TensorBoard, Weights & Biases.

They are fed by the coordinator alone, and get the figures of the record. None of them is needed,
and none can hurt a run: one that fails is named in one warning and is not told any more. A run that
is gone on with asks each which round it has last, and tells it those that were stored after it.

* :mod:`~fimi.monitor.trackers.tracker`      what a tracker is
* :mod:`~fimi.monitor.trackers.settings`     the section ``trackers`` of a configuration
* :mod:`~fimi.monitor.trackers.figures`      a round and a run as numbers with names
* :mod:`~fimi.monitor.trackers.tracking`     tells all of them, on a thread of its own
* :mod:`~fimi.monitor.trackers.opening`      the trackers of a configuration
* :mod:`~fimi.monitor.trackers.mlflow_sink`  MLflow
* :mod:`~fimi.monitor.trackers.tensorboard_sink`  TensorBoard
* :mod:`~fimi.monitor.trackers.wandb_sink`   Weights & Biases, offline
* :mod:`~fimi.monitor.trackers.wandb_file`  what earlier processes of a run have written there
"""
