"""The process on a device: profile, applying a plan, training, reporting.

* :mod:`fimi.edge_agent.data`   the device's own data and the synthetic batch it was given
* :mod:`fimi.edge_agent.backends`  what it trains with: ONNX Runtime or PyTorch
* :mod:`fimi.edge_agent.deployment`  the trained model as a user runs it: accuracy, latency, joules
* :mod:`fimi.edge_agent.exchange`  what it moves over the network: bounded, timed, told to the radio
* :mod:`fimi.edge_agent.turns`  how agents of one process share it
* :mod:`fimi.edge_agent.agent`  the agent: a loop over messages, every phase metered
* :mod:`fimi.edge_agent.doctor`  whether this machine is ready to be a device, and what mends it

Imports :mod:`fimi.energy`, :mod:`fimi.learning` and :mod:`fimi.messaging`; needs no torch where the
coordinator offers training graphs.
"""
