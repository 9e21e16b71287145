"""What a person starts.

* :mod:`testbed.cli`                the command ``fimi``
* :mod:`testbed.commands`           its commands, a module per subject
* :mod:`testbed.config`             a configuration from files and options; where values come from
* :mod:`testbed.sections`           its sections: every key, its type, its default, its meaning
* :mod:`testbed.strategy_config`    what a strategy asks of the rest of it
* :mod:`testbed.errors`             what is wrong with what was asked for
* :mod:`testbed.coordination`       a coordinator from a configuration
* :mod:`testbed.run_summary`        a run in numbers
* :mod:`testbed.dry_run`            a whole federation on one machine
* :mod:`testbed.processes`          child processes that never outlive their parent
* :mod:`testbed.orders`             what they are told
* :mod:`testbed.emulated_fleet`     the child that hosts emulated devices
* :mod:`testbed.generator_process`  the generator node, as a child or by itself
* :mod:`testbed.generator_tools`    training generators and measuring them
* :mod:`testbed.torch_cache`        no folder of PyTorch's compiler is left behind
* :mod:`testbed.agent_process`      one device by itself
* :mod:`testbed.devices`            devices from a configuration: names, data, boards
* :mod:`testbed.run_folder`         ``runs/<name>/``: store, model, report
* :mod:`testbed.live`               progress on the terminal
* :mod:`testbed.picture`            a picture there that is drawn anew as things go on
* :mod:`testbed.calibrate_host`     calibrating this machine: its work and its draft profile
* :mod:`testbed.calibrate_show`     a calibration as table, profile file and picture
* :mod:`testbed.problem_file`       a planning problem as a TOML file
* :mod:`testbed.learning_curve`     a measured learning curve as table, lines to paste and picture
* :mod:`testbed.optimise`           plans, sweeps and targets as tables, CSV and plots
* :mod:`testbed.experiment`         many runs compared: strategies, seeds and a grid of settings
* :mod:`testbed.report`             the report: tables and plots from a run store

Imports all other packages; nobody imports it.
"""

import os

# Before NumPy is loaded. What is computed with it here is small: two threads of its linear algebra
# only wait for each other, on a busy machine for a hundred times as long as the work takes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
