"""Experiments: strategies, seeds and a grid of settings, each cell a dry run of its own.

* :mod:`~fimi.testbed.experiment.definition`  what an experiment is
* :mod:`~fimi.testbed.experiment.file`        its file, read and checked
* :mod:`~fimi.testbed.experiment.cells`  the runs that follow from it, and which of them are there
* :mod:`~fimi.testbed.experiment.run`         from the file to the results
* :mod:`~fimi.testbed.experiment.runner`      processes side by side, as cores and memory allow
* :mod:`~fimi.testbed.experiment.memory`      how many fit side by side
* :mod:`~fimi.testbed.experiment.progress`    progress on the terminal

The results of the runs are in :mod:`fimi.report.comparison`.
"""
