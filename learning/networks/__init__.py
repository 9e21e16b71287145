"""The networks, and the cost of one sample in each.

* :mod:`~fimi.learning.networks.models`         the networks by name (needs torch)
* :mod:`~fimi.learning.networks.cost`  multiply-accumulates, cycles and bytes of any network
* :mod:`~fimi.learning.networks.built_in_cost`  the built-in networks, counted from their shapes
  without torch
* :mod:`~fimi.learning.networks.counted_cost`  any other network, counted by PyTorch's flop counter
  (needs torch)
"""
