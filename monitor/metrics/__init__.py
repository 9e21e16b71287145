"""Figures of a run for tools that collect metrics: Prometheus, Grafana, OpenTelemetry.

* :mod:`~fimi.monitor.metrics.families`     what there is, as a table: name, unit, labels, value
* :mod:`~fimi.monitor.metrics.experiments`  what there is of an experiment
* :mod:`~fimi.monitor.metrics.exposition`   the text that Prometheus scrapes, ``/metrics``
* :mod:`~fimi.monitor.metrics.hardware`     joules and watts by OpenTelemetry's conventions
* :mod:`~fimi.monitor.metrics.otlp`         sends them over OTLP
* :mod:`~fimi.monitor.metrics.settings`     the section ``otlp`` of a configuration
"""
