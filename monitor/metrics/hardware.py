"""Joules and watts of boards by OpenTelemetry's conventions for hardware.

A whole board (scopes ``board`` and ``wall``) is ``hw.host.energy`` and ``hw.host.power``. What a
meter of a part sees (``module``, ``cpu``, ``gpu``) is ``hw.energy`` and ``hw.power`` of a component
whose ``hw.parent`` is the board. So a sum over hosts holds no joule twice, and none of a part as if
it were all of the board's.

Each device is a resource of its own, with ``host.name``; its joules carry ``fimi.energy.kind``,
``fimi.energy.scope`` and ``fimi.energy.source``. The conventions are in development: their names
may change.

* :class:`MetricPoint`   one value
* :class:`MetricSeries`  the values of one metric
* :class:`MetricSource`  whom they are of, with its series
* :func:`sources`  all of a snapshot

Source: https://opentelemetry.io/docs/specs/semconv/hardware/, as of November 2026.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from fimi.energy.joules import SumKind
from fimi.monitor.snapshot import DeviceNow, Snapshot

WHOLE = ("board", "wall")
"""Scopes that are the whole host."""

Attributes = dict[str, str]


class MetricPoint(Struct, frozen=True, kw_only=True):
    """One value with its attributes."""

    value: float
    attributes: Attributes = {}


class MetricSeries(Struct, frozen=True, kw_only=True):
    """The values of one metric.

    Attributes:
        name: by the conventions.
        unit: by UCUM.
        type: a counter grows only.
        help: what it is.
        points: its values.
    """

    name: str
    unit: str
    type: Literal["counter", "gauge"]
    help: str
    points: tuple[MetricPoint, ...]


class MetricSource(Struct, frozen=True, kw_only=True):
    """Whom values are of.

    Attributes:
        resource: its attributes.
        series: its metrics.
    """

    resource: Attributes
    series: tuple[MetricSeries, ...]


def sources(snapshot: Snapshot) -> tuple[MetricSource, ...]:
    """The run, and each of its devices; what is unknown is left out."""
    run = snapshot.run
    common = {
        "service.name": "fimi-testbed",
        "service.instance.id": run.name,
        "fimi.run": run.name,
    }
    found = [MetricSource(resource=common, series=_of_run(snapshot))]
    for name, device in snapshot.devices.items():
        host = {"host.name": name, "host.id": name}
        if device.board:
            host["host.type"] = device.board
        if device.kind:
            host["fimi.hardware"] = device.kind
        found.append(MetricSource(resource={**common, **host}, series=_of_device(name, device)))
    return tuple(found)


def _of_device(name: str, device: DeviceNow) -> tuple[MetricSeries, ...]:
    series = []
    if (energy := device.total.energy) is not None:
        whose, where = _component(name, energy.scope)
        attributes = {**where, **_metered(energy.kind, energy.scope, energy.source)}
        series.append(
            MetricSeries(
                name=f"{whose}.energy",
                unit="J",
                type="counter",
                help="Joules in this run, as far as they are known.",
                points=(MetricPoint(value=energy.value_j, attributes=attributes),),
            )
        )
    if not device.online:
        return tuple(series)
    if device.power_w is not None and device.power_kind is not None:
        scope = device.power_scope or "board"
        whose, where = _component(name, scope)
        attributes = {**where, **_metered(device.power_kind, scope, device.meter)}
        series.append(_gauge(f"{whose}.power", "W", "Power.", device.power_w, attributes))
    processor = {"hw.id": "cpu", "hw.parent": name}
    if device.temperature_c is not None:
        where = {**processor, "hw.sensor_location": "CPU"}
        said = "Temperature of the processor."
        series.append(_gauge("hw.temperature", "Cel", said, device.temperature_c, where))
    if device.clock_hz is not None:
        said = "Clock of the processor."
        series.append(_gauge("hw.cpu.speed", "Hz", said, device.clock_hz, processor))
    return tuple(series)


def _component(name: str, scope: str) -> tuple[str, Attributes]:
    """The beginning of a metric's name, and the component that it is of."""
    if scope in WHOLE:
        return "hw.host", {"hw.id": name, "hw.name": name}
    return "hw", {"hw.id": scope, "hw.type": scope, "hw.parent": name}


def _metered(kind: SumKind, scope: str, source: str) -> Attributes:
    return {
        "fimi.energy.kind": kind,
        "fimi.energy.scope": scope,
        "fimi.energy.source": source,
    }


def _of_run(snapshot: Snapshot) -> tuple[MetricSeries, ...]:
    run = snapshot.run
    series = [
        _gauge("fimi.run.round", "{round}", "The round of now.", run.round, {}),
        _gauge("fimi.run.rounds.planned", "{round}", "Rounds in all.", run.rounds, {}),
    ]
    if run.accuracy is not None:
        said = "Accuracy of the global model on the test set."
        series.append(_gauge("fimi.run.accuracy", "1", said, run.accuracy, {}))
    besides = (("generator", snapshot.generator.energy), ("server", run.server))
    for whose, energy in besides:
        if energy is not None:
            attributes = _metered(energy.kind, energy.scope, energy.source)
            series.append(
                MetricSeries(
                    name=f"fimi.{whose}.energy",
                    unit="J",
                    type="counter",
                    help=f"Joules of the {whose} for this run.",
                    points=(MetricPoint(value=energy.value_j, attributes=attributes),),
                )
            )
    return tuple(series)


def _gauge(name: str, unit: str, said: str, value: float, attributes: Attributes) -> MetricSeries:
    point = MetricPoint(value=value, attributes=attributes)
    return MetricSeries(name=name, unit=unit, type="gauge", help=said, points=(point,))
