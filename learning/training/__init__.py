"""Local training, evaluation and aggregation.

Without torch

* :mod:`~fimi.learning.training.trainer`  the trainer interface, its settings and the order of
  batches
* :mod:`~fimi.learning.training.draws`  what a network draws while it trains, the same for every
  backend
* :mod:`~fimi.learning.training.onnx_trainer`   the trainer that runs ONNX graphs
* :mod:`~fimi.learning.training.onnx_runtime`   ONNX Runtime, without its telemetry
* :mod:`~fimi.learning.training.classifier`     runs a trained network from an ONNX file
* :mod:`~fimi.learning.training.tensors`        named parameters: safetensors bytes, checks, digests
* :mod:`~fimi.learning.training.coding`         parameters in fewer bytes: fp16, int8, top-k
* :mod:`~fimi.learning.training.coded`          coded parameters as bytes, and back
* :mod:`~fimi.learning.training.slices`         models that are read slice by slice
* :mod:`~fimi.learning.training.aggregation`    FedAvg, slice by slice
* :mod:`~fimi.learning.training.robust`         median, trimmed mean, Krum
* :mod:`~fimi.learning.training.metrics`  learning metrics: pure functions of arrays and series
* :mod:`~fimi.learning.training.pseudo_labels`  labels that a model gives to unlabelled images
* :mod:`~fimi.learning.training.curve_points`  errors at several amounts of data, for a learning
  curve
* :mod:`~fimi.learning.training.pilot`  short federations without boards: rounds to an accuracy
* :mod:`~fimi.learning.training.memory`         gives freed memory back to the system

With torch

* :mod:`~fimi.learning.training.torch_trainer`  the PyTorch trainer
* :mod:`~fimi.learning.training.precision`      its device, half precision, determinism
* :mod:`~fimi.learning.training.deployment`  a trained model as ONNX files, checked against PyTorch
"""
