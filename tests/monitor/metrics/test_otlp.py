"""A real receiver decodes what is sent: conventions of hardware, no joule twice, kinds named."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from fimi.energy.joules import Energy
from fimi.monitor.metrics.hardware import sources
from fimi.monitor.metrics.otlp import OtlpSender
from fimi.monitor.metrics.settings import OtlpSettings
from fimi.monitor.snapshot import DeviceNow, JoulesNow, RunNow, Snapshot

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="fimi-testbed[otlp]")
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2


class Collector:
    """Takes OTLP over HTTP, as a collector of OpenTelemetry does."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.paths: list[str] = []
        self.refuses = False
        self.came = threading.Condition()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.headers["Content-Type"] == "application/x-protobuf"
                request = metrics_service_pb2.ExportMetricsServiceRequest()
                request.ParseFromString(body)
                with collector.came:
                    collector.paths.append(self.path)
                    if not collector.refuses:
                        collector.requests.append(request)
                    self.send_response(400 if collector.refuses else 200)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    collector.came.notify_all()

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def points(self) -> dict[tuple[str, str], tuple[Any, Any, dict[str, str]]]:
        """Of the last request: by host and metric, the metric, its point and attributes."""
        found = {}
        for each in self.requests[-1].resource_metrics:
            resource = {a.key: a.value.string_value for a in each.resource.attributes}
            for metric in each.scope_metrics[0].metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                (point,) = data.data_points
                attributes = {a.key: a.value.string_value for a in point.attributes}
                key = (resource.get("host.name", ""), metric.name)
                assert key not in found
                found[key] = (metric, point, attributes)
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


def send_once(url: str, snapshot: Snapshot) -> list[str]:
    """What is sent when a run ends at once; the warnings."""
    said: list[str] = []
    with OtlpSender(OtlpSettings(endpoint=url, interval_s=60), lambda: snapshot, said.append):
        pass
    return said


def test_whole_boards_are_hosts_with_the_joules_of_the_record(
    seen: Any, collector: Collector
) -> None:
    assert send_once(collector.url, seen.snapshot()) == []
    assert collector.paths == ["/v1/metrics"]
    points = collector.points()
    for row in seen.summary.devices:
        energy = row.energy.value
        assert energy is not None
        metric, point, attributes = points[(row.device, "hw.host.energy")]
        assert (metric.unit, metric.sum.is_monotonic) == ("J", True)
        assert metric.sum.aggregation_temporality == 2  # cumulative
        assert point.as_double == energy.value_j
        assert point.start_time_unix_nano == int(5000e9)
        assert attributes == {
            "hw.id": row.device,
            "hw.name": row.device,
            "fimi.energy.kind": energy.kind,
            "fimi.energy.scope": energy.scope,
            "fimi.energy.source": energy.source,
        }
    metric, point, attributes = points[("device-1", "hw.host.power")]
    assert (metric.unit, metric.WhichOneof("data")) == ("W", "gauge")
    assert (point.as_double, attributes["fimi.energy.kind"]) == (6.5, "measured")
    _, point, attributes = points[("device-0", "hw.temperature")]
    assert point.as_double == 41.5
    assert attributes == {"hw.id": "cpu", "hw.parent": "device-0", "hw.sensor_location": "CPU"}
    assert points[("", "fimi.run.accuracy")][1].as_double == seen.summary.points[-1].accuracy
    assert not any(name in ("hw.energy", "hw.power") for _, name in points)


@pytest.mark.parametrize("scope", ["cpu", "gpu", "module"])
def test_a_rail_is_a_component_below_its_board_and_no_host(
    collector: Collector, scope: Any
) -> None:
    energy = Energy(value_j=7.5, kind="measured", source="rail", scope=scope)
    device = DeviceNow(
        kind="physical", total=JoulesNow(energy=energy), power_w=2.0, power_kind="measured",
        power_scope=scope, meter="rail",
    )  # fmt: skip
    run = RunNow(name="r", began_unix_s=9.0)
    assert send_once(collector.url, Snapshot(unix_s=9.0, run=run, devices={"jetson": device})) == []
    points = collector.points()
    assert not any(name.startswith("hw.host") for _, name in points)
    for name, value in (("hw.energy", 7.5), ("hw.power", 2.0)):
        _, point, attributes = points[("jetson", name)]
        assert point.as_double == value
        assert (attributes["hw.id"], attributes["hw.type"]) == (scope, scope)
        assert attributes["hw.parent"] == "jetson"


def test_who_has_gone_has_joules_and_no_power(seen: Any) -> None:
    before = seen.snapshot()
    gone = replace(before.devices["device-0"], online=False)
    after = replace(before, devices={"device-0": gone})
    (_, device) = sources(after)
    assert [series.name for series in device.series] == ["hw.host.energy"]


def test_a_collector_that_is_not_there_is_named_once(seen: Any, collector: Collector) -> None:
    said: list[str] = []
    collector.refuses = True
    settings = OtlpSettings(endpoint=f"{collector.url}/v1/metrics", interval_s=1)
    sender = OtlpSender(settings, seen.snapshot, said.append)
    sender._settings = replace(settings, interval_s=0.02)
    with sender, collector.came:
        assert collector.came.wait_for(lambda: len(collector.paths) >= 3, 20)
        collector.refuses = False
        assert collector.came.wait_for(lambda: len(collector.requests) >= 2, 20)
    assert len(said) == 2
    assert said[0].startswith(f"metrics do not arrive at {settings.endpoint}")
    assert "arrive" in said[1] and "again" in said[1]
    assert set(collector.paths) == {"/v1/metrics"}


def test_without_an_endpoint_nothing_is_started(seen: Any) -> None:
    before = threading.active_count()
    with OtlpSender(OtlpSettings(), seen.snapshot):
        assert threading.active_count() == before
