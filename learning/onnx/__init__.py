"""A compiler: from a PyTorch network to ONNX graphs that train without PyTorch.

Used by an agent, without torch

* :mod:`~fimi.learning.onnx.graphs`       training and evaluation as ONNX graphs, as they travel
* :mod:`~fimi.learning.onnx.graph_check`  checks what a received graph holds
* :mod:`~fimi.learning.onnx.graph_sizes`  the sizes of all tensors that it would make

The compiler (needs torch)

* :mod:`~fimi.learning.onnx.export`  a network, its loss and its optimiser as ONNX graphs
* :mod:`~fimi.learning.onnx.lowering`               from PyTorch's operators to ONNX nodes
* :mod:`~fimi.learning.onnx.tape`                   reverse-mode differentiation of the graph
* :mod:`~fimi.learning.onnx.builder`                nodes, constants, inputs and outputs of a graph
* :mod:`~fimi.learning.onnx.operators`              the rule for each operator; rules are in
* :mod:`~fimi.learning.onnx.elementwise`            activations and arithmetic
* :mod:`~fimi.learning.onnx.shapes`                 reshaping, cutting, joining, reducing
* :mod:`~fimi.learning.onnx.draws`                  dropout and stochastic depth
* :mod:`~fimi.learning.onnx.convolution`            convolution
* :mod:`~fimi.learning.onnx.convolution_gradients`  its gradients
* :mod:`~fimi.learning.onnx.linear`  the fully connected layer
* :mod:`~fimi.learning.onnx.pooling`                pooling
* :mod:`~fimi.learning.onnx.norms`                  normalisation layers
* :mod:`~fimi.learning.onnx.window`                 the window of a convolution or a pooling
"""
