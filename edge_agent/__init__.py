"""The process on a device: profile, applying a plan, training, reporting.

* :mod:`fimi.edge_agent.agent`       the agent: a loop over messages, every phase metered
* :mod:`fimi.edge_agent.course`      what it does next: the state machine of the conversation
* :mod:`fimi.edge_agent.data`        the device's local data and its synthetic batch
* :mod:`fimi.edge_agent.share`       takes the device's share of a run's data, checks the contract
* :mod:`fimi.edge_agent.backends`    chooses the trainer: ONNX Runtime or PyTorch
* :mod:`fimi.edge_agent.deployment`  tries the trained model: accuracy, latency, joules
* :mod:`fimi.edge_agent.exchange`    the device's transfers: limited, timed, reported to the board
* :mod:`fimi.edge_agent.turns`       how agents in one process share memory and processor
* :mod:`fimi.edge_agent.doctor`      checks whether this machine can be a device

Imports :mod:`fimi.energy`, :mod:`fimi.learning` and :mod:`fimi.messaging`; needs no torch where the
coordinator offers training graphs.
"""
