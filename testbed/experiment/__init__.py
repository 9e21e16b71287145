"""Experiments: strategies, seeds and a grid of settings, each cell a dry run of its own.

* :mod:`~testbed.experiment.definition`  what an experiment is
* :mod:`~testbed.experiment.file`        its file, read and checked
* :mod:`~testbed.experiment.cells`       the runs that follow from it, and which of them are there
* :mod:`~testbed.experiment.runner`      processes side by side, as cores and memory allow
* :mod:`~testbed.experiment.outcome`     a stored run in numbers, costs up to a target included
* :mod:`~testbed.experiment.statistics`  intervals over seeds; "never reached" is infinity
* :mod:`~testbed.experiment.result`      every grid point and strategy compared with the baseline
* :mod:`~testbed.experiment.tables`      the same as text, Markdown, CSV and JSON
* :mod:`~testbed.experiment.page`        the same as a page with pictures
"""
