"""The process on a device: profile, applying a plan, training, reporting.

* :mod:`edge_agent.data`   the device's own data and the synthetic batch it was given
* :mod:`edge_agent.backends`  what it trains with: ONNX Runtime or PyTorch
* :mod:`edge_agent.deployment`  the trained model as a user runs it: accuracy, latency, joules
* :mod:`edge_agent.exchange`  what it moves over the network: bounded, timed, told to the radio
* :mod:`edge_agent.turns`  how agents of one process share it
* :mod:`edge_agent.agent`  the agent: a loop over messages, every phase metered
* :mod:`edge_agent.doctor`  whether this machine is ready to be a device, and what mends it

Imports :mod:`energy`, :mod:`learning` and :mod:`messaging`; needs no torch where the coordinator
offers training graphs.
"""
