"""Figures for a paper, from the record alone: ``fimi plot``.

* :mod:`~fimi.report.plots.figure`   what a figure shows, in numbers with units; as CSV
* :mod:`~fimi.report.plots.kinds`    which figures there are, of runs and of experiments
* :mod:`~fimi.report.plots.curves`   accuracy over rounds and joules, errors, similarity
* :mod:`~fimi.report.plots.devices`  joules, phases, frequencies, images, powers of devices
* :mod:`~fimi.report.plots.studies`  experiments: curves with bands over seeds
* :mod:`~fimi.report.plots.costs`    experiments: joules to the target over a grid key
* :mod:`~fimi.report.plots.powers`   the power of a device in a round
* :mod:`~fimi.report.plots.lengths`  lengths as people write them
* :mod:`~fimi.report.plots.drawing`  drawing one with matplotlib: PDF, SVG, PNG at a width
* :mod:`~fimi.report.plots.fitting`  making what is written fit the size, or refusing it

Only the last two need matplotlib (``pip install 'fimi-testbed[figures]'``).
"""
