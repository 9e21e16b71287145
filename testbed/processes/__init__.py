"""The processes of a federation, each from a configuration.

* :mod:`~fimi.testbed.processes.dry_run`         a whole federation on one machine
* :mod:`~fimi.testbed.processes.coordinator`     a coordinator
* :mod:`~fimi.testbed.processes.generator_node`  the generator node, as a child or by itself
* :mod:`~fimi.testbed.processes.agent`           one device by itself
* :mod:`~fimi.testbed.processes.errands`         what it does for a console
* :mod:`~fimi.testbed.processes.waiting`         it waits for its broker
* :mod:`~fimi.testbed.processes.emulated_fleet`  the child that hosts emulated devices
* :mod:`~fimi.testbed.processes.devices`         emulated devices of a configuration
* :mod:`~fimi.testbed.processes.nursery`         child processes that never outlive their parent
* :mod:`~fimi.testbed.processes.tracked`  trackers of experiments that are told of a run
* :mod:`~fimi.testbed.processes.windows`         all that looks at a run while it goes on
* :mod:`~fimi.testbed.processes.orders`          the orders that children receive
* :mod:`~fimi.testbed.processes.training_graphs`  what devices without PyTorch train with
* :mod:`~fimi.testbed.processes.torch_cache`     removes the folder of PyTorch's compiler
"""
