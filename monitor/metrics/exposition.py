"""The text that Prometheus scrapes: OpenMetrics 1.0, or Prometheus' own older format.

Which one is asked for by the header ``Accept``. No registry is shared with anything: a text is made
of one snapshot and of nothing else, so that what has gone is gone from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from prometheus_client import core, exposition
from prometheus_client.openmetrics import exposition as openmetrics

from fimi.monitor.metrics.experiments import EXPERIMENT_FAMILIES
from fimi.monitor.metrics.families import FAMILIES, Family
from fimi.monitor.snapshot import Snapshot

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
OLDER = "text/plain; version=0.0.4; charset=utf-8"

_AS_THEY_ARE = openmetrics.ALLOWUTF8
"""Names are not looked at sign by sign for what older readers lack: all of ours are plain."""

_TYPES: dict[str, Any] = {
    "gauge": core.GaugeMetricFamily,
    "counter": core.CounterMetricFamily,
    "info": core.InfoMetricFamily,
    "stateset": core.StateSetMetricFamily,
}


class _Collected:
    """Metrics of one snapshot, as prometheus_client asks a registry for them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Any]:
        found = FAMILIES if self._snapshot.study is None else EXPERIMENT_FAMILIES
        for family in found:
            if (metric := _metric(family, self._snapshot)).samples:
                yield metric


def _metric(family: Family, snapshot: Snapshot) -> Any:
    if family.type in ("info", "stateset"):
        metric = _TYPES[family.type](family.name, family.help)
    else:
        metric = _TYPES[family.type](family.name, family.help, labels=(), unit=family.unit)
    ends = {"counter": "_total", "info": "_info"}
    name = family.name + ends.get(family.type, "")
    for values, value in family.rows(snapshot):
        metric.add_sample(name, dict(zip(family.labels, values, strict=True)), value)
    return metric


def metrics(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """A snapshot as text.

    Args:
        snapshot: of the run or the experiment.
        accept: the media types that are asked for, as HTTP has it; empty: the older format.

    Returns:
        The text, and its media type.
    """
    collected: Any = _Collected(snapshot)
    if _takes_openmetrics(accept):
        return openmetrics.generate_latest(collected, escaping=_AS_THEY_ARE), OPENMETRICS
    return exposition.generate_latest(collected, escaping=_AS_THEY_ARE), OLDER


def _takes_openmetrics(accept: str) -> bool:
    """Whether it is among the media types that are asked for, and not ruled out (``q=0``)."""
    for each in accept.split(","):
        media, *parameters = (part.strip().lower() for part in each.split(";"))
        if media == "application/openmetrics-text":
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False
