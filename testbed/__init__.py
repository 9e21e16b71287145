"""The command ``fimi``, and all that starts a federation.

* :mod:`~fimi.testbed.entry`          where the command ``fimi`` begins
* :mod:`~fimi.testbed.cli`            the command ``fimi``
* :mod:`~fimi.testbed.commands`       its commands, a module per subject
* :mod:`~fimi.testbed.interface`      runs and experiments from Python
* :mod:`~fimi.testbed.configuration`  configurations: keys, files, rules
* :mod:`~fimi.testbed.processes`      the processes of a federation
* :mod:`~fimi.testbed.fleet`          boards that are up, looked after from afar
* :mod:`~fimi.testbed.chaos`          faults on purpose: bad links, killed processes
* :mod:`~fimi.testbed.experiment`     many runs compared: strategies, seeds and a grid of settings
* :mod:`~fimi.testbed.tools`          the work of commands that run no federation
* :mod:`~fimi.testbed.explanations`   what ``fimi explain`` says of the code of an error
* :mod:`~fimi.testbed.recordings`     recordings of other tools as recordings of fimi
* :mod:`~fimi.testbed.resuming`       whether a run that ended early can be gone on with, and how
* :mod:`~fimi.testbed.dashboards`     a dashboard of what this process does
* :mod:`~fimi.testbed.run_folder`     ``runs/<name>/``: store, model, report
* :mod:`~fimi.testbed.display`        a run on a terminal, with keys
* :mod:`~fimi.testbed.live`           a run as plain lines
* :mod:`~fimi.monitor.sentences`      events in one line each
* :mod:`~fimi.testbed.logs`           the log of a process: -q, -v, --log-file
* :mod:`~fimi.testbed.nearest`        the nearest of known names
* :mod:`~fimi.testbed.child`          ``fimi`` as a child of an experiment

Imports all other packages; nobody imports it.
"""

import os

# Before NumPy is loaded. What is computed with it here is small: two threads of its linear algebra
# only wait for each other, on a busy machine for a hundred times as long as the work takes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
