"""Data sets, networks, local training, aggregation, learning metrics.

* :mod:`~fimi.learning.data`      data sets, partitions, batches
* :mod:`~fimi.learning.networks`  networks by name, and their cost
* :mod:`~fimi.learning.training`  trainers (ONNX Runtime and PyTorch), aggregation, metrics
* :mod:`~fimi.learning.onnx`      the compiler from a PyTorch network to ONNX graphs that train

Imports none of the other packages. The modules that an edge agent uses import without torch.
"""
