"""The commands of ``fimi``, a module per subject; :mod:`fimi.testbed.cli` puts them together.

* :mod:`~fimi.testbed.commands.base`  what all commands share: -q, -v, --log-file, suggestions,
  ./fimi.toml
* :mod:`~fimi.testbed.commands.shared`  options of several commands, exit codes, errors
* :mod:`~fimi.testbed.commands.interrupts`  Ctrl-C and other signals
* :mod:`~fimi.testbed.commands.lacking`  packages that a command needs and are not here
* :mod:`~fimi.testbed.commands.reaching`  how they reach a broker: --broker, --bundle, --insecure
* :mod:`~fimi.testbed.commands.carbon`  ``--carbon``: an intensity that is given after the run
* :mod:`~fimi.testbed.commands.federation`  ``fimi dry-run``, ``fimi coordinator run``, ``fimi
  report``
* :mod:`~fimi.testbed.commands.dashboard`       --dashboard: where a run is seen while it goes on
* :mod:`~fimi.testbed.commands.control`         ``fimi control``: pause, stop, exclude, plan again …
* :mod:`~fimi.testbed.commands.nodes`           ``fimi broker`` and ``fimi agent run``
* :mod:`~fimi.testbed.commands.service`         ``fimi agent install`` and ``fimi agent uninstall``
* :mod:`~fimi.testbed.commands.agent_config`    the file of ``fimi agent run --config``
* :mod:`~fimi.testbed.commands.fleet`           ``fimi fleet``: boards that are up
* :mod:`~fimi.testbed.commands.credentials`     ``fimi fleet init``, ``enroll``, ``rotate`` …
* :mod:`~fimi.testbed.commands.forget`          ``fimi fleet forget``
* :mod:`~fimi.testbed.commands.home_assistant`  ``fimi fleet home-assistant``
* :mod:`~fimi.testbed.commands.meter`           ``fimi meter publish`` and ``fimi meter import``
* :mod:`~fimi.testbed.commands.generate`        ``fimi generator``: run, train, evaluate
* :mod:`~fimi.testbed.commands.experiment`      ``fimi experiment``
* :mod:`~fimi.testbed.commands.plot`            ``fimi plot``: figures for a paper
* :mod:`~fimi.testbed.commands.compare`         ``fimi experiment compare``
* :mod:`~fimi.testbed.commands.bundle`          ``fimi bundle`` and ``fimi verify``
* :mod:`~fimi.testbed.commands.collection`      ``fimi runs``, ``fimi export``
* :mod:`~fimi.testbed.commands.compare_runs`    ``fimi compare``
* :mod:`~fimi.testbed.commands.top`             ``fimi top``: a run in a terminal
* :mod:`~fimi.testbed.commands.optimise`        ``fimi optimise``
* :mod:`~fimi.testbed.commands.learning_curve`  ``fimi learning-curve``
* :mod:`~fimi.testbed.commands.pilot`           ``fimi pilot``
* :mod:`~fimi.testbed.commands.calibrate`       ``fimi calibrate``
* :mod:`~fimi.testbed.commands.chaos`           ``fimi chaos``: faults on purpose
* :mod:`~fimi.testbed.commands.explain`         ``fimi explain``: what the code of an error means
* :mod:`~fimi.testbed.commands.doctor`          ``fimi agent doctor`` and ``fimi agent restore``
* :mod:`~fimi.testbed.commands.step_load`       meters under a known load: ``--step-load``,
  ``fimi agent compare-meters``
"""
