"""Engines: they run the cells of an experiment, each a command line of ``fimi``.

* :mod:`~fimi.testbed.experiment.engines.base`       what an engine gets, does and gives back
* :mod:`~fimi.testbed.experiment.engines.beginning`  whether a run is begun or gone on with
* :mod:`~fimi.testbed.experiment.engines.pool`       processes on this machine, side by side
* :mod:`~fimi.testbed.experiment.engines.memory`     how many fit side by side
"""
