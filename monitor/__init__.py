"""What a run looks like while it goes on: one state, and all the windows through which it is seen.

The state

* :mod:`~fimi.monitor.snapshot`   the run at one moment, as types: what the feed carries
* :mod:`~fimi.monitor.watcher`    events and telemetry become snapshots
* :mod:`~fimi.monitor.devices`    the part of it that is about devices
* :mod:`~fimi.monitor.tallies`    the part that is about joules
* :mod:`~fimi.monitor.tracing`    the power of a device in a round, as it is drawn
* :mod:`~fimi.monitor.feed`       snapshots for everybody who looks, as server-sent events
* :mod:`~fimi.monitor.changes`    what differs between two snapshots, as JSON merge patches
* :mod:`~fimi.monitor.said`       the latest events in words
* :mod:`~fimi.monitor.sentences`  events in one line each

Windows

* :mod:`~fimi.monitor.server`     the dashboard: a web server in the coordinator's process
* :mod:`~fimi.monitor.terminal`   a run in a terminal: ``fimi top``, and the display of a dry run
* :mod:`~fimi.monitor.asking`     asks something of the run through it
* :mod:`~fimi.monitor.metrics`    figures for tools that collect metrics
* :mod:`~fimi.monitor.trackers`   MLflow, TensorBoard and others, told round by round

Imports :mod:`fimi.energy`, :mod:`fimi.optim`, :mod:`fimi.learning`, :mod:`fimi.messaging`,
:mod:`fimi.record` and :mod:`fimi.report`.
"""
