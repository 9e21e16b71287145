"""Engines: they run the cells of an experiment, each a command line of ``fimi``.

* :mod:`~fimi.testbed.experiment.engines.base`       what an engine gets, does and gives back
* :mod:`~fimi.testbed.experiment.engines.beginning`  whether a run is begun or gone on with
* :mod:`~fimi.testbed.experiment.engines.choosing`   the engine that a person asks for
* :mod:`~fimi.testbed.experiment.engines.pool`       processes on this machine, side by side
* :mod:`~fimi.testbed.experiment.engines.memory`     how many fit side by side
* :mod:`~fimi.testbed.experiment.engines.ray`        remote tasks of Ray, here or on a cluster
* :mod:`~fimi.testbed.experiment.engines.slurm`      array jobs of Slurm
* :mod:`~fimi.testbed.experiment.engines.worker`     what a worker of these two does

The table is the same to the last digit whatever the engine: they run the same commands, with the
same versions. There is no scheduler of our own beyond the local pool.
"""
