"""An agent on a physical board sets the operating point of its plan, and trains with its cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import POINT, SETTINGS, Bench
from boards_of_files import policy
from msgspec.structs import replace

from fimi.energy.cost_model import BoardModel, ComputeModel, ComputePoint, ComputeSetting, LinkModel
from fimi.energy.host import HostHardware
from fimi.energy.host_profile import HostProfile
from fimi.learning.onnx import export, graphs
from fimi.learning.training.onnx_trainer import OnnxTrainer
from fimi.messaging.broker.embedded import EmbeddedBroker

POINTS = (
    ComputePoint(
        name="slow, one core",
        seconds_per_sample=4e-3,
        power_w=1.0,
        setting=ComputeSetting(cpu_hz={"policy0": 0.6e9}, cores=1),
    ),
    ComputePoint(
        name="fast",
        seconds_per_sample=1e-3,
        power_w=3.0,
        setting=ComputeSetting(cpu_hz={"policy0": 1.8e9}),
    ),
)
PROFILE = HostProfile(
    name="board of files",
    constant_power_w=5.0,
    board=BoardModel(
        compute=ComputeModel(
            cycles_per_sample=2e6,
            capacitance_w_per_hz3=4e-28,
            frequency_min_hz=0.6e9,
            frequency_max_hz=1.8e9,
            points=POINTS,
        ),
        link=LinkModel(
            channel_gain=1e-10,
            noise_density_w_per_hz=4e-21,
            transmit_power_max_w=0.1,
            downlink_rate_bps=2e7,
        ),
        idle_power_w=2.0,
    ),
)


@pytest.fixture
def ceiling(tmp_path: Path) -> Path:
    return policy(tmp_path, 0, 600_000, 1_800_000) / "scaling_max_freq"


@pytest.fixture
def bench(
    tmp_path: Path, ceiling: Path, a_broker: EmbeddedBroker, fleet_name: str
) -> Iterator[Bench]:
    with (
        HostHardware(PROFILE, root=tmp_path, state=tmp_path / "state") as hardware,
        Bench(a_broker, fleet_name, hardware=hardware) as bench,
    ):
        yield bench


def test_the_profile_has_the_points(bench: Bench) -> None:
    assert bench.profile.board.compute.points == POINTS


def test_the_named_point_is_set_and_its_cores_limit_the_threads(
    bench: Bench, ceiling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    make = OnnxTrainer.__init__

    def watched(trainer: OnnxTrainer, decoded: graphs.GraphSet, *, threads: int = 1) -> None:
        made.append(threads)
        make(trainer, decoded, threads=threads)

    monkeypatch.setattr(OnnxTrainer, "__init__", watched)
    four = replace(SETTINGS, threads=4)
    offer = bench.serve(graphs.encode(export.export(four, 10, (1, 8, 8))), "onnx-graphs")
    for number, (measured, threads) in enumerate(zip(POINTS, (1, 4), strict=True), 1):
        speed_hz = 2e6 / measured.seconds_per_sample
        point = replace(POINT, setting=measured.name, frequency_hz=speed_hz)
        applied = bench.follow(replace(bench.plan(), point=point)).applied
        assert applied is not None
        assert applied.point == measured.name
        assert applied.frequency_hz == pytest.approx(speed_hz)
        assert int(ceiling.read_text()) == (600_000 if number == 1 else 1_800_000)
        _, report = bench.round(replace(bench.start(number), training=four, graphs=offer))
        assert report.error == ""
        assert report.backend.startswith("onnxruntime")
        assert made[-1] == threads
        assert report.observed is not None
        assert report.observed.cap_hz == pytest.approx(speed_hz)


def test_a_plan_for_another_profile_is_refused_with_the_reason(bench: Bench, ceiling: Path) -> None:
    reply = bench.follow(replace(bench.plan(), point=replace(POINT, setting="turbo")))
    assert reply.applied is None
    assert "UnknownPointError" in reply.error
    assert "'slow, one core', 'fast'" in reply.error
    assert ceiling.read_text() == "1800000\n"


def test_everything_is_given_back_at_the_end(
    tmp_path: Path, ceiling: Path, a_broker: EmbeddedBroker, fleet_name: str
) -> None:
    cores = os.sched_getaffinity(0)
    with (
        HostHardware(PROFILE, root=tmp_path, state=tmp_path / "state") as hardware,
        Bench(a_broker, fleet_name, hardware=hardware) as bench,
    ):
        applied = bench.follow(replace(bench.plan(), point=replace(POINT, setting=POINTS[0].name)))
        assert applied.applied is not None
        assert applied.applied.setting == POINTS[0].setting
    assert os.sched_getaffinity(0) == cores
    assert ceiling.read_text() == "1800000\n"
