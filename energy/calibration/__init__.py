"""Measuring what a board costs, and how well that predicts.

* :mod:`~fimi.energy.calibration.candidates`  the operating points that a sweep tries by default
* :mod:`~fimi.energy.calibration.sweep_plan`  what a sweep is to measure, and in which order
* :mod:`~fimi.energy.calibration.sweep`  operating points, load and traffic of a board, each metered
  for a while
* :mod:`~fimi.energy.calibration.following`  whether the clock follows what is set
* :mod:`~fimi.energy.calibration.points`     what the points of a sweep cost, with uncertainty
* :mod:`~fimi.energy.calibration.monotone`   order in the table of points: isotonic regression
* :mod:`~fimi.energy.calibration.fitted`  cost parameters from a sweep, with their confidence
  intervals
* :mod:`~fimi.energy.calibration.fit`        the fits: pure functions of measured settings
* :mod:`~fimi.energy.calibration.radio_fit`  the fit of sending and receiving
* :mod:`~fimi.energy.calibration.student_t`  quantiles of Student's t distribution, without SciPy
* :mod:`~fimi.energy.calibration.held_out`  the error of predictions for settings that were left out
  of the fit
* :mod:`~fimi.energy.calibration.emulated`   the same sweep on an emulated board, in virtual time
"""
