"""The work of commands that run no federation.

* :mod:`~fimi.testbed.tools.check`           a configuration's values, data and plan
* :mod:`~fimi.testbed.tools.optimise`        plans, sweeps and targets as tables, CSV and plots
* :mod:`~fimi.testbed.tools.calibrate_host`  calibrating this machine
* :mod:`~fimi.testbed.tools.calibrate_show`  a calibration as table, profile file and picture
* :mod:`~fimi.testbed.tools.generators`      training generators and measuring them
* :mod:`~fimi.testbed.tools.learning_curve`  a measured learning curve as table, lines to paste and
  picture
* :mod:`~fimi.testbed.tools.pilot`           rounds(Δ, E) fitted to short federations
"""
