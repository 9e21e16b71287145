"""The process on a device: it joins runs, follows plans, trains, and meters every phase.

* :mod:`fimi.edge_agent.agent`       the agent: one run after another, step by step
* :mod:`fimi.edge_agent.course`      what it does next: the state machine of the conversation
* :mod:`fimi.edge_agent.line`        the conversation on a thread of its own
* :mod:`fimi.edge_agent.outbox`    what the coordinator has not stored, on disk
* :mod:`fimi.edge_agent.readings_room`  room for readings among what is not stored
* :mod:`fimi.edge_agent.answering`   answers what people ask, on a thread of its own
* :mod:`fimi.edge_agent.telemetry`   tells at a steady rate what the board draws and does
* :mod:`fimi.edge_agent.status`      how the board is, for them
* :mod:`fimi.edge_agent.joining`     joining a run: samples, contract, leaks
* :mod:`fimi.edge_agent.own_profile`  the profile of this machine, and what calibrations find of it
* :mod:`fimi.edge_agent.share`       the device's samples, by indices, from a file, or as shipped
* :mod:`fimi.edge_agent.boards`      the emulated board of a device without a meter
* :mod:`fimi.edge_agent.member`      a device in one run: plan, rounds, trials
* :mod:`fimi.edge_agent.tools`       what it works with in every run, and its limits
* :mod:`fimi.edge_agent.plan_batches`  the synthetic batches of its plan, and what they cost
* :mod:`fimi.edge_agent.round_training`  from the global model to the update
* :mod:`fimi.edge_agent.round_work`  what becomes of one round's work, and the report of it
* :mod:`fimi.edge_agent.trials`      the trial of the trained model, file by file
* :mod:`fimi.edge_agent.metering`    its phases, split where it waits for others
* :mod:`fimi.edge_agent.update_coder`  the model as it came, the update in fewer bytes
* :mod:`fimi.edge_agent.exchange`    its transfers: limited, timed, as long as they are wanted
* :mod:`fimi.edge_agent.kept`        payloads that are kept on disk by digest
* :mod:`fimi.edge_agent.failures`    what is reported where a step failed
* :mod:`fimi.edge_agent.health`      no report holds a number that is none
* :mod:`fimi.edge_agent.data`        the device's local data and its synthetic batch
* :mod:`fimi.edge_agent.backends`    chooses the trainer: ONNX Runtime or PyTorch
* :mod:`fimi.edge_agent.deployment`  tries one file of the model: accuracy, latency, joules
* :mod:`fimi.edge_agent.turns`       how agents in one process share memory and processor
* :mod:`fimi.edge_agent.meter_sender`  a meter for the boards beside this machine
* :mod:`fimi.edge_agent.discovery`   plugs and meters that announce themselves at a broker
* :mod:`fimi.edge_agent.doctor`      checks whether this machine can be a device
* :mod:`fimi.edge_agent.service`     the agent as a service of its machine: installed, updated

Imports :mod:`fimi.energy`, :mod:`fimi.learning` and :mod:`fimi.messaging`; needs no torch where the
coordinator offers training graphs.
"""
