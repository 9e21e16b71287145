"""Data sets, partitions, models, local training, aggregation, learning metrics.

Modules without torch, which an edge agent uses:

* :mod:`learning.datasets`     labelled images and their split into public, private and test parts
* :mod:`learning.datasets_registry`  data sets by name, and the interface for one's own:
  :mod:`learning.datasets_folder` (a folder per class), :mod:`learning.datasets_torchvision`
  (published sets; imports torchvision when asked for one), :mod:`learning.datasets_images`
  (decoding, size and mode)
* :mod:`learning.partition`    who holds what: Dirichlet partitions over devices
* :mod:`learning.partition_schemes`  all ways to divide data: Dirichlet, shards, IID, quantity skew
* :mod:`learning.partition_file`     a partition as a file
* :mod:`learning.pseudo_labels`  labels that a model gives to images that have none
* :mod:`learning.partition_summary`  how uneven a partition came out
* :mod:`learning.metrics`      learning metrics: pure functions of arrays and series
* :mod:`learning.model_cost`   multiply-accumulates, cycles and bytes of a network
* :mod:`learning.tensors`      named parameters: safetensors bytes, checks, digests
* :mod:`learning.batches`      labelled images as they travel
* :mod:`learning.image_coding` images as differences, which compress better
* :mod:`learning.training`     the trainer interface, its settings and the order of batches
* :mod:`learning.curve_points` errors at several amounts of data, for a learning curve
* :mod:`learning.aggregation`  FedAvg
* :mod:`learning.graphs`       training and evaluation as ONNX graphs, as they travel
* :mod:`learning.graph_check`  what a graph may hold
* :mod:`learning.onnx_trainer` the ONNX Runtime trainer
* :mod:`learning.classifier`   a trained network as an ONNX file, as a user runs it
* :mod:`learning.runtime`      ONNX Runtime, without its telemetry
* :mod:`learning.memory`       free memory, given back to the system

Modules that need torch:

* :mod:`learning.models`         the networks, by name
* :mod:`learning.model_count`    what any network costs, by PyTorch's flop counter
* :mod:`learning.torch_trainer`  the PyTorch trainer
* :mod:`learning.precision`      its device, half precision, determinism
* :mod:`learning.deployment`     a trained model as ONNX files, checked against PyTorch
* :mod:`learning.export`         a network, its loss and its optimiser as ONNX graphs, made of
  :mod:`learning.onnx_lowering` (from PyTorch's operators to ONNX nodes),
  :mod:`learning.onnx_operators` (the rule for each operator; what it and its gradient become is in
  :mod:`learning.onnx_elementwise`, :mod:`learning.onnx_shapes`, :mod:`learning.onnx_linear`,
  :mod:`learning.onnx_convolution`, :mod:`learning.onnx_convolution_gradients`,
  :mod:`learning.onnx_pooling` and :mod:`learning.onnx_norms`), :mod:`learning.onnx_window` (what a
  kernel sees of an image), :mod:`learning.onnx_tape` (differentiation) and
  :mod:`learning.onnx_builder` (nodes and constants)

Imports none of the other packages.
"""
