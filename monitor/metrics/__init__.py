"""Figures of a run for tools that collect metrics: Prometheus, Grafana, OpenTelemetry.

* :mod:`~fimi.monitor.metrics.families`     what there is, as a table: name, unit, labels, value
* :mod:`~fimi.monitor.metrics.exposition`   the text that Prometheus scrapes, ``/metrics``
* :mod:`~fimi.monitor.metrics.otlp`         sends the same joules and watts over OTLP
"""
