"""Experiments on a fleet of boards: one run after another, with whatever happens in days.

* :mod:`~fimi.testbed.experiment.live.study`      the fleet held for one study, from the broker on
* :mod:`~fimi.testbed.experiment.live.engine`     the engine: run after run, in its order
* :mod:`~fimi.testbed.experiment.live.order`      in which order, so that time is no effect
* :mod:`~fimi.testbed.experiment.live.attempts`   one run: resumed, repeated, given up
* :mod:`~fimi.testbed.experiment.live.boards`     which boards, whether they are there and cool
* :mod:`~fimi.testbed.experiment.live.loss`       what a run has lost; runs that are set aside
* :mod:`~fimi.testbed.experiment.live.processes`  coordinator and generator node of a run
* :mod:`~fimi.testbed.experiment.live.journal`    what happened when
"""
