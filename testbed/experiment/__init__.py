"""Experiments: strategies, seeds and a grid of settings, each cell a dry run of its own.

* :mod:`~fimi.testbed.experiment.definition`  what an experiment is
* :mod:`~fimi.testbed.experiment.file`        its file, read and checked
* :mod:`~fimi.testbed.experiment.cells`  the runs that follow from it, and which of them are there
* :mod:`~fimi.testbed.experiment.run`         from the file to the results
* :mod:`~fimi.testbed.experiment.engines`     what runs them: processes side by side, or others
* :mod:`~fimi.testbed.experiment.live`        a fleet of boards as one of them
* :mod:`~fimi.testbed.experiment.where`       which of these a person asks for
* :mod:`~fimi.testbed.experiment.progress`    progress on the terminal
* :mod:`~fimi.testbed.experiment.windows`     the same, and on a dashboard

The results of the runs are in :mod:`fimi.report.comparison`.
"""
