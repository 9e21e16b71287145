"""Experiments: strategies, seeds and a grid of settings, each cell a dry run of its own.

* :mod:`~fimi.testbed.experiment.definition`  what an experiment is
* :mod:`~fimi.testbed.experiment.file`        its file, read and checked
* :mod:`~fimi.testbed.experiment.cells`  the runs that follow from it, and which of them are there
* :mod:`~fimi.testbed.experiment.runner`      processes side by side, as cores and memory allow
* :mod:`~fimi.testbed.experiment.series`     a stored run in numbers, costs up to a target included
* :mod:`~fimi.testbed.experiment.statistics`  intervals over seeds; "never reached" is infinity
* :mod:`~fimi.testbed.experiment.result`  every grid point and strategy compared with the baseline
* :mod:`~fimi.testbed.experiment.tables`      the same as text, Markdown, CSV and JSON
* :mod:`~fimi.testbed.experiment.page`        the same as a page with pictures
"""
