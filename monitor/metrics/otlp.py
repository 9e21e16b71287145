"""Sends the metrics of a run to an OpenTelemetry collector: OTLP over HTTP, protobuf.

Encoding, compression, headers and certificates are those of OpenTelemetry's own exporter, which
reads the variables ``OTEL_EXPORTER_OTLP_…``. A collector that cannot be reached is named in one
warning; it is tried again, and the run does not notice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from fimi.monitor.metrics.hardware import MetricSeries, MetricSource, sources
from fimi.monitor.metrics.settings import OtlpSettings
from fimi.monitor.snapshot import Snapshot

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""How long a collector has time for one message, tries again included, s."""
ENDS_S = 7.0
"""How long the end of a run waits for its last message, s."""


class OtlpSender:
    """Sends a run's metrics at a steady rate. A context manager: inside it, it does.

    Args:
        settings: where to, and how often.
        snapshot: the run as it is now.
        warn: called with a sentence when nothing arrives any more, and when it does again.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        snapshot: Callable[[], Snapshot],
        warn: Callable[[str], None] = log.warning,
    ) -> None:
        self._settings, self._snapshot, self._warn = settings, snapshot, warn
        self._stop = threading.Event()
        self._arrives = True
        self._thread: threading.Thread | None = None

    def __enter__(self) -> OtlpSender:
        if self._settings.endpoint:
            self._thread = threading.Thread(target=self._send, name="otlp", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(ENDS_S)

    def _send(self) -> None:
        try:
            exporter = _exporter(self._settings.endpoint)
        except ImportError as error:
            self._warn(
                f"no metrics are sent to {self._settings.endpoint}: {error}; pip install "
                "'fimi-testbed[otlp]', or leave otlp.endpoint out"
            )
            return
        try:
            while not self._stop.wait(self._settings.interval_s):
                self._once(exporter)
            self._once(exporter)  # as the run has ended
        finally:
            exporter.shutdown()

    def _once(self, exporter: Any) -> None:
        try:
            problem = _export(exporter, self._snapshot())
        except Exception as error:
            log.debug("no metrics this time", exc_info=True)
            problem = f"{type(error).__name__}: {error}"
        if (not problem) == self._arrives:
            return
        self._arrives = not problem
        where = self._settings.endpoint
        if problem:
            self._warn(
                f"metrics do not arrive at {where}: {problem}; they are sent again and again"
            )
        else:
            self._warn(f"metrics arrive at {where} again")


def _exporter(endpoint: str) -> Any:
    """OpenTelemetry's exporter of metrics, silent: what fails is said here, once."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    path = "" if endpoint.rstrip("/").endswith("/v1/metrics") else "/v1/metrics"
    return OTLPMetricExporter(endpoint=endpoint.rstrip("/") + path, timeout=TIMEOUT_S)


def _export(exporter: Any, snapshot: Snapshot) -> str:
    """Send a snapshot; why it did not arrive, empty if it did."""
    from opentelemetry.sdk.metrics import export

    began_ns = int(1e9 * snapshot.run.began_unix_s)
    now_ns = time.time_ns()
    told = [_resource_metrics(source, began_ns, now_ns) for source in sources(snapshot)]
    result = exporter.export(export.MetricsData(resource_metrics=told))
    if result is export.MetricExportResult.SUCCESS:
        return ""
    return "it cannot be reached, or refuses them"


def _resource_metrics(source: MetricSource, began_ns: int, now_ns: int) -> Any:
    from opentelemetry.sdk.metrics.export import ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    return ResourceMetrics(
        resource=Resource(source.resource),
        scope_metrics=[
            ScopeMetrics(
                scope=InstrumentationScope("fimi"),
                metrics=[_metric(series, began_ns, now_ns) for series in source.series],
                schema_url="",
            )
        ],
        schema_url="",
    )


def _metric(series: MetricSeries, began_ns: int, now_ns: int) -> Any:
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Gauge,
        Metric,
        NumberDataPoint,
        Sum,
    )

    points = [
        NumberDataPoint(
            attributes=point.attributes,
            start_time_unix_nano=began_ns if series.type == "counter" else 0,
            time_unix_nano=now_ns,
            value=float(point.value),
        )
        for point in series.points
    ]
    data: Any = Gauge(points)
    if series.type == "counter":
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    return Metric(name=series.name, description=series.help, unit=series.unit, data=data)
