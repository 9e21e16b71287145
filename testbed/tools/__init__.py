"""The work of commands that run no federation.

* :mod:`~fimi.testbed.tools.check`           a configuration's values, data and plan
* :mod:`~fimi.testbed.tools.optimise`        plans, sweeps and targets as tables and CSV
* :mod:`~fimi.testbed.tools.sweep_page`      a sweep as a page
* :mod:`~fimi.testbed.tools.calibrate_host`  calibrating this machine
* :mod:`~fimi.testbed.tools.calibrate_show`  a calibration as table and profile file
* :mod:`~fimi.testbed.tools.calibrate_page`  the same as a page
* :mod:`~fimi.testbed.tools.generators`      training generators and measuring them
* :mod:`~fimi.testbed.tools.learning_curve`  a measured learning curve as table and lines to paste
* :mod:`~fimi.testbed.tools.curve_page`      the same as a page
* :mod:`~fimi.testbed.tools.pilot`           rounds(Δ, E) fitted to short federations
"""
