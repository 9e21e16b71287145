"""Real brokers of both kinds, started once; a fresh fleet for every test."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    LinkModel,
    OperatingPoint,
    predict_round,
)
from fimi.energy.hardware import Applied, HardwareDescription
from fimi.energy.joules import Energy
from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.energy.meters import MeterDescription
from fimi.energy.phase_powers import PowerEquations
from fimi.energy.resting import Resting
from fimi.learning.training.coding import Coded, Coding
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging import backoff, link
from fimi.messaging.broker.embedded import EmbeddedBroker, find_mosquitto
from fimi.messaging.client import Peer
from fimi.messaging.messages.basis import Message, Offer
from fimi.messaging.messages.documents import Desired, Fact, Heard, Reported
from fimi.messaging.messages.every import AnyMessage
from fimi.messaging.messages.facts import (
    DeploymentReport,
    FactBody,
    PlanApplied,
    Profile,
    Refusal,
    RoundReport,
    RoundSettled,
    Trial,
    UpdateReady,
)
from fimi.messaging.messages.orders import (
    DeploymentClosed,
    DeploymentTest,
    DevicePlan,
    ModelFile,
    RoundClosed,
    RoundStart,
    RunEnded,
)
from fimi.messaging.messages.peers import Claim, DeviceState, Lease, Telemetry
from fimi.messaging.messages.synthesis import (
    SamplePicture,
    SyntheticBatch,
    SyntheticProgress,
    SyntheticRequest,
    SyntheticSamples,
)

Join = Callable[..., Peer]
_fleets = itertools.count(1)


@pytest.fixture(scope="session", params=["mosquitto 5", "mosquitto 3.1.1", "amqtt"])
def broker(request: pytest.FixtureRequest) -> Iterator[EmbeddedBroker]:
    """A running broker and the version of MQTT that is spoken with it.

    The tests that use it are the contract that all three fulfil.
    """
    kind, _, version = request.param.partition(" ")
    if kind == "mosquitto" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with pytest.MonkeyPatch.context() as patch, EmbeddedBroker(kind) as running:
        patch.setattr(link, "_spoken", {})
        if version == "3.1.1":
            patch.setattr(link, "VERSIONS", (MQTTProtocolVersion.MQTTv311,))
        yield running


@pytest.fixture(scope="session")
def mosquitto_missing() -> bool:
    return find_mosquitto() is None


@pytest.fixture
def quick_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "LONGEST_S", 0.3)


@pytest.fixture
def fleet() -> str:
    return f"fleet-{next(_fleets)}"


@pytest.fixture(params=["mosquitto", "amqtt"])
def mortal(
    request: pytest.FixtureRequest, mosquitto_missing: bool, free_port: int, quick_reconnect: None
) -> Iterator[EmbeddedBroker]:
    """A broker for one test, which may end it and start it again; peers are soon back."""
    if request.param == "mosquitto" and mosquitto_missing:
        pytest.skip("mosquitto is not installed")
    with EmbeddedBroker(request.param, port=free_port) as broker:
        yield broker


@pytest.fixture
def join(broker: EmbeddedBroker, fleet: str) -> Iterator[Join]:
    """Connect a peer of this test's fleet; all of them leave at the end."""
    peers: list[Peer] = []

    def connect(peer: str, *, address=None, **options) -> Peer:
        role = options.pop("role", peer if peer in ("coordinator", "generator") else "device")
        joined = Peer(address or broker.address, fleet=fleet, peer=peer, role=role, **options)
        joined.connect()
        peers.append(joined)
        return joined

    yield connect
    for joined in peers:
        joined.close()


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until a condition holds, or fail."""

    def wait(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline_s:
                pytest.fail(f"not within {timeout_s} s")
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def samples() -> tuple[tuple[str, str, Message], ...]:
    """One message of every type with its sender and recipient."""
    board = BoardModel(
        compute=ComputeModel(
            cycles_per_sample=1e7,
            capacitance_w_per_hz3=1e-28,
            frequency_min_hz=6e8,
            frequency_max_hz=1.5e9,
        ),
        link=LinkModel(
            channel_gain=1e-8,
            noise_density_w_per_hz=4e-21,
            transmit_power_max_w=0.2,
            downlink_rate_bps=2e7,
        ),
        idle_power_w=2.0,
    )
    meter = MeterDescription(source="emulated:pi", kind="emulated", scope="board", rate_hz=10.0)
    point = OperatingPoint(
        frequency_hz=1e9, bandwidth_hz=1e6, transmit_power_w=0.1, time_split=0.75
    )
    offer = Offer(holder="d1", digest="0f" * 32, size_bytes=10, media="safetensors")
    energy = Energy(value_j=3.25, kind="emulated", source="emulated:pi", uncertainty_j=0.1)
    phases = (
        PhaseRecord(
            phase="compute",
            start_s=1.5,
            duration_s=2.0,
            energy=energy,
            sample_count=20,
            largest_gap_s=0.1,
        ),
        PhaseRecord(
            phase="idle",
            start_s=3.5,
            duration_s=1.0,
            energy=None,
            sample_count=0,
            largest_gap_s=1.0,
        ),
    )
    up, down, run = ("d1", "coordinator"), ("coordinator", "d1"), "run-1"
    batch = SyntheticBatch(
        run=run,
        device="d1",
        delivered=(1, 0),
        offer=offer,
        seconds=0.5,
        generator="noise",
        error="short of one 'ß'",
    )
    said = (
        (*up, Profile(
            run=run,
            device="d1",
            boot_id="b",
            dataset="digits",
            label_counts=(3, 0, 7),
            hardware=HardwareDescription(board="pi", kind="emulated", meter=meter),
            board=board,
            backend="torch",
        )),
        ("coordinator", "generator", SyntheticRequest(
            run=run, device="d1", counts=(1, 1), seed=7, skip=(4, 0)
        )),
        ("generator", "coordinator", batch),
        ("generator", "coordinator", SyntheticProgress(
            run=run, devices_done=1, devices_asked=2, lacking=40, images_per_s=300.5
        )),
        ("generator", "coordinator", SyntheticSamples(
            run=run, instance="i1", pictures=(SamplePicture(class_index=1, png=b"\x89PNG"),)
        )),
        (*down, DevicePlan(
            run=run,
            device="d1",
            device_index=0,
            synthetic_counts=(1, 0),
            batch=offer,
            point=point,
            predicted=predict_round(
                board, point, cycles=1e9, upload_bits=1e6, download_bits=1e6, round_s=60.0
            ),
        )),
        (*up, PlanApplied(
            run=run,
            device="d1",
            applied=Applied(
                frequency_hz=1e9,
                frequency_control="emulated",
                rate_bps=None,
                rate_control="none",
                notes=("no pacing here",),
            ),
            phases=phases,
        )),
        (*down, RoundStart(
            run=run,
            device="d1",
            round=1,
            model=offer,
            training=TrainingSettings(),
            seed=5,
            fleet_time_s=0.1,
            model_coding=Coding(kind="fp16", compress=True),
            update_coding=Coding(kind="top-k", share=0.05),
            model_bytes=153_720,
        )),
        (*up, UpdateReady(run=run, device="d1", round=1, update=offer)),
        (*up, RoundReport(
            run=run,
            device="d1",
            round=1,
            local_samples=10,
            synthetic_samples=1,
            training_loss=0.1,
            training_accuracy=0.9,
            frequency_hz=None,
            evidence=Evidence(
                powers=PowerEquations(
                    columns=("", "compute@1500 MHz"),
                    gram=(4.0, 0.5, 15.5),
                    moments=(12.0, 80.0),
                    readings=20,
                ),
                rests=(
                    Resting(
                        when="before", start_s=1.0, duration_s=3.0, power_w=2.5, uncertainty_w=0.01
                    ),
                ),
            ),
            busy_s=4.5,
            phases=phases,
            coded=Coded(coding="top-k 5 %", raw_bytes=153_720, coded_bytes=13_370, error=0.5),
        )),
        (*down, RoundClosed(run=run, device="d1", round=1, accepted=True, fleet_time_s=60.0)),
        (*up, RoundSettled(run=run, device="d1", round=1, phases=phases)),
        (*down, DeploymentTest(
            run=run,
            device="d1",
            round=3,
            files=(ModelFile(variant="fp32", model=offer),),
            images=20,
            seconds=0.5,
            training_share=0.3,
        )),
        (*up, DeploymentReport(
            run=run,
            device="d1",
            round=3,
            trials=(
                Trial(
                    variant="fp32",
                    inferences=20,
                    images=20,
                    accuracy=0.9,
                    latency_median_s=0.001,
                    latency_p95_s=0.002,
                    metered=phases[0],
                ),
                Trial(variant="int8", error="no such operator"),
            ),
            seconds=1.5,
        )),
        (*down, DeploymentClosed(run=run, device="d1", round=1, fleet_time_s=61.0)),
        ("coordinator", "all", RunEnded(run=run, reason="completed")),
        (*up, DeviceState(peer="d1", role="device", status="online", boot_id="b")),
        (*up, Telemetry(
            device="d1",
            boot_id="b",
            number=3,
            unix_s=1.7e9,
            stage="training",
            run=run,
            round=2,
            power_w=3.5,
            kind="measured",
            source="ina3221:VDD_IN",
            scope="board",
            temperature_c=51.5,
        )),
        (*up, Refusal(run=run, device="d1", reason="data.seed differs")),
        ("d1", "d1", Claim(peer="d1", nonce="n")),
        ("d1", "d1", Lease(
            peer="d1", role="device", boot_id="b", epoch=3, host="pi", pid=7, since="2026-01-01"
        )),
    )  # fmt: skip
    by_type = {type(message): message for _, _, message in said}
    desired = Desired(
        run=run,
        device="d1",
        instance="5" * 16,
        epoch=2,
        number=9,
        heard=Heard(boot_id="b", fact=4),
        plan=by_type[DevicePlan],
        start=by_type[RoundStart],
        closed=by_type[RoundClosed],
        test=by_type[DeploymentTest],
        resume=by_type[DeploymentClosed],
        ended=by_type[RunEnded],
    )
    bodies = [by_type[kind] for kind in get_args(FactBody)]
    reported = Reported(
        run=run,
        device="d1",
        instance="5" * 16,
        boot_id="b",
        number=7,
        epoch=2,
        heard=9,
        stage="settled",
        facts=tuple(Fact(number=n, body=body) for n, body in enumerate(bodies, 1)),
    )
    alone = [each for each in said if type(each[2]) in get_args(AnyMessage)]
    return ((*down, desired), (*up, reported), *alone)


PEER_PROCESS = """
import os, sys, time
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
url, fleet, peer, heartbeat_s, serve = sys.argv[1:]
me = Peer(BrokerAddress.parse(url), fleet=fleet, peer=peer, role="device",
          heartbeat_s=float(heartbeat_s))
me.connect()
if serve:
    me.set_pacing(4e6)
    import msgspec
    print(msgspec.json.encode(me.transfers.serve(os.urandom(int(serve)), "noise")).decode())
else:
    print(me.boot_id)
sys.stdout.flush()
time.sleep(60)
"""


@pytest.fixture
def peer_process(broker: EmbeddedBroker, fleet: str) -> Iterator[Callable[..., tuple[int, str]]]:
    """Start a device as a process of its own; returns its process id and first line."""
    processes: list[subprocess.Popen[str]] = []

    def launch(peer: str, *, heartbeat_s: float = 5.0, serve: str = "") -> tuple[int, str]:
        url = broker.address.url(with_password=True)
        process = subprocess.Popen(
            [sys.executable, "-c", PEER_PROCESS, url, fleet, peer, str(heartbeat_s), serve],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process.pid, process.stdout.readline().strip()

    yield launch
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
