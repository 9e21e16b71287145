"""The section ``otlp`` of a configuration: where a run's metrics are sent, and how often."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class OtlpSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """OpenTelemetry: a collector that is sent the metrics of the run; none by default."""

    endpoint: Annotated[
        str,
        Meta(pattern=r"^(https?://[^@\s]+)?$"),
        "URL of a collector that takes OTLP over HTTP, http://127.0.0.1:4318, without user and "
        "password (OTEL_EXPORTER_OTLP_HEADERS); empty: nothing is sent. Needs the extra otlp.",
    ] = ""
    interval_s: Annotated[
        float, Meta(ge=1, le=3600), "Time between two messages to the collector, s."
    ] = 10.0
