"""A real federation for every strategy: broker, generator node, agents, coordinator, one process.

Only the processes are left out. Devices are emulated boards that train the small CNN on digits, the
images come from the real node and the public part.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fimi.coordinator.context import FederationError
from fimi.coordinator.controls import Controls
from fimi.coordinator.federation import Coordinator
from fimi.coordinator.outcome import Federation
from fimi.coordinator.strategies import STRATEGIES
from fimi.edge_agent.agent import Agent
from fimi.edge_agent.turns import Turns
from fimi.energy.joules import Energy
from fimi.generator_node.generators.base import Generator
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.generators.public_samples import PublicSamples
from fimi.generator_node.service.node import GeneratorNode
from fimi.generator_node.service.service import BatchService
from fimi.learning.training import aggregation
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import Trainer
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.topics import COORDINATOR, device_id
from fimi.optim.learning_curve import LearningCurve
from fimi.record.events import BatchDelivered, Event, Intervened, RoundFinished
from fimi.record.interventions import (
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    PauseRun,
    PlanAgain,
    Request,
    SetDeadline,
)
from fimi.record.phases import round_parts
from fimi.record.reader import read_run
from fimi.record.results import RoundResult
from fimi.record.store import RunStore
from fimi.record.summary import summarise
from fimi.record.sums import EnergyTally
from fimi.report.besides import extras, server_line
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.processes.coordinator import terms

DEVICES, ROUNDS = 3, 2
SPLIT = configuration.load().split


ASKED: dict[Request, bool] = {
    PlanAgain(): False,
    SetDeadline(deadline_s=20.0): False,
    ExcludeDevice(device="device-1"): False,
    IncludeDevice(device="device-1"): False,
    PauseRun(): True,
    GoOn(): True,
}
"""What is asked of a run whose devices do not train, and whether it is done."""


class Watt:
    """A meter of the server that reads one joule for every stretch of work."""

    class Span:
        seconds = 0.0
        energy: Energy | None = None

    @contextmanager
    def span(self) -> Iterator[Span]:
        span = self.Span()
        yield span
        span.seconds = 2.0
        span.energy = Energy(value_j=1.0, kind="measured", source="test", uncertainty_j=0.1)


class Ran:
    """A federation that is over, and what its devices then held."""

    def __init__(self, broker: EmbeddedBroker, fleet: str, path: Path, name: str, **options: Any):
        self.path = path / "run.sqlite"
        config = self.config = configured(name, **options)
        self.events: list[Event] = []
        self.scenario = Scenario(config=config)
        self.agents: list[Agent] = []
        self.held: dict[str, tuple[int, int]] = {}
        self.controls = Controls()
        if not STRATEGIES[name].devices_train:
            for request in ASKED:
                assert self.controls.ask(request, "a test").state == "accepted"
        self.federation = self._run(broker, fleet)

    def _run(self, broker: EmbeddedBroker, fleet: str) -> Federation:
        stop, threads = threading.Event(), []
        config, store = self.config, RunStore(self.path)
        trainer: Trainer = TorchTrainer("small-cnn", 10, (1, 8, 8))
        with ExitStack() as stack:
            stack.callback(store.close)

            def peer(name: str, role: Any) -> Peer:
                return stack.enter_context(Peer(broker.address, fleet=fleet, peer=name, role=role))

            turns = Turns()
            for index in range(DEVICES):
                agent = Agent(peer(device_id(index, DEVICES), "device"), turns=turns)
                self.agents.append(agent)
                threads.append(threading.Thread(target=agent.run, args=(stop,)))
            if STRATEGIES[config.run.strategy].needs_images:
                node = GeneratorNode(
                    peer("generator", "generator"), BatchService(generator(config))
                )
                threads.append(threading.Thread(target=node.run, args=(stop,)))
            for thread in threads:
                thread.start()

            def listen(event: Event) -> None:
                self.events.append(event)
                if not isinstance(event, RoundFinished):
                    return
                for index, agent in enumerate(self.agents):
                    assert agent.member is not None
                    data = agent.member.data
                    held = 0 if data.unlabelled is None else len(data.unlabelled)
                    self.held[device_id(index, DEVICES)] = (data.synthetic_samples, held)

            try:
                return Coordinator(
                    "r",
                    config,
                    peer(COORDINATOR, "coordinator"),
                    trainer,
                    initial_parameters("small-cnn", 10, (1, 8, 8), seed=0),
                    SPLIT.test,
                    terms(self.scenario, one_machine=True),
                    store=store,
                    curve=LearningCurve(alpha=5.8, beta=0.93, delta0=0.027),
                    listener=listen,
                    public=SPLIT.public,
                    validation=SPLIT.validation,
                    meter=Watt(),
                    controls=self.controls,
                ).run()
            finally:
                stop.set()
                for thread in threads:
                    thread.join()


def configured(name: str, **options: Any) -> Config:
    settings = {
        "run.strategy": name,
        "fleet.devices": DEVICES,
        "rounds.count": ROUNDS,
        "plan.error_max": 0.055,
        "plan.iterations": 20,
        "training.backend": "torch",
        "training.epochs": 1,
        **{f"strategy.{key}": value for key, value in options.items()},
    }
    return configuration.load(None, {key: (v, "test") for key, v in settings.items()}).config


def generator(config: Config) -> Generator:
    if config.generator.kind == "public":
        return PublicSamples(SPLIT.public)
    return BootstrapGenerator(SPLIT.public)


@pytest.fixture(scope="module")
def run(a_broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs a federation anew."""

    def go(name: str, **options: Any) -> Ran:
        folder = tmp_path_factory.mktemp(name)
        return Ran(a_broker, f"test-{os.getpid()}-{folder.name}", folder, name, **options)

    return go


@pytest.fixture(scope="module")
def look(run: Any) -> Any:
    """A federation that is over, run once for all tests that only look at it."""
    kept: dict[tuple[Any, ...], Ran] = {}

    def once(name: str, **options: Any) -> Ran:
        key = (name, *sorted(options.items()))
        if key not in kept:
            kept[key] = run(name, **options)
        return kept[key]

    return once


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_runs_and_does_what_it_says(look: Any, name: str) -> None:
    strategy, ran = STRATEGIES[name], look(name)
    federation: Federation = ran.federation
    assert federation.status == "completed"
    assert len(federation.rounds) == ROUNDS
    assert 0.05 < federation.rounds[-1].evaluation.accuracy <= 1
    # devices: what was sent is what they hold, labelled or not, and nothing without need
    shipped = {d: sum(p.synthetic_counts) for d, p in federation.device_plans.items()}
    without = {d: p.unlabelled for d, p in federation.device_plans.items()}
    if not strategy.devices_train:
        assert shipped == {}
        assert all(not result.devices for result in federation.rounds)
        metered = [energy_of(result) for result in federation.rounds]
        assert not any(metered), "nothing was metered, which is not zero"
    elif strategy.data == "unlabelled":
        assert sum(without.values()) > 0
        assert {d: held for d, (_, held) in ran.held.items()} == without
        assert set(shipped.values()) == {0}
    else:
        assert {d: (n, 0) for d, n in shipped.items()} == ran.held
        assert (sum(shipped.values()) > 0) == (strategy.data in ("filled", "even"))
    for result in federation.rounds:
        assert result.accepted == (DEVICES if strategy.devices_train else 0)
        for device in result.devices:
            assert device.busy_s is not None
            assert device.busy_s <= ran.config.plan.deadline_s
    # the server: its own images, seconds and joules, in no device's
    own = [e for e in ran.events if isinstance(e, BatchDelivered) and e.device == COORDINATOR]
    assert bool(own) == strategy.trains_on_server
    for result in federation.rounds:
        assert (result.server is not None) == strategy.trains_on_server
        if result.server is not None:
            assert result.server.seconds == 2.0
            assert result.server.energy is not None
            assert result.server.energy.value_j == 1.0
            assert (result.server.weight is not None) == (strategy.server == "mix")
        assert (energy := energy_of(result)) is None or energy.kind == "emulated"


def test_where_devices_do_not_train_what_is_about_them_is_refused(look: Any) -> None:
    ran = look("aigc-only")
    served = {e.request: e for e in ran.events if isinstance(e, Intervened)}
    assert {request: event.done for request, event in served.items()} == ASKED
    for event in served.values():
        assert event.done or event.words.startswith("devices do not train under this strategy")
    stored = read_run(ran.path).interventions
    assert [(each.request, each.done) for each in stored] == [*ASKED.items()]


def energy_of(result: RoundResult) -> Energy | None:
    return EnergyTally(round_parts(result)).sum().value


@pytest.mark.parametrize("name", ["genfl", "sst", "semi", "aigc-only"])
def test_the_same_seed_gives_the_same_model(run: Any, look: Any, name: str) -> None:
    options = {"confidence_min": 0.3} if name == "semi" else {}
    one, other = look(name, **options), run(name, **options)
    for key, tensor in one.federation.model.items():
        np.testing.assert_array_equal(tensor, other.federation.model[key])


def test_resources_only_learns_as_tfl_and_data_only_as_fimi(look: Any) -> None:
    for one, other in (("resources-only", "tfl"), ("data-only", "fimi"), ("unplanned", "tfl")):
        first, second = look(one).federation, look(other).federation
        for key, tensor in first.model.items():
            np.testing.assert_array_equal(tensor, second.model[key])


def test_augmentation_is_other_training_on_as_many_samples(look: Any) -> None:
    first, second = look("tfl-augmented").federation, look("tfl").federation
    assert any((first.model[key] != second.model[key]).any() for key in first.model)
    samples = [
        [(d.local_samples, d.synthetic_samples) for r in each.rounds for d in r.devices]
        for each in (first, second)
    ]
    assert samples[0] == samples[1]


def test_genfl_mixes_by_its_equation(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new model is κ1 Σ ρ ω + κ2 ω_a of what devices sent and the server trained, exactly."""
    calls: list[tuple[list[Any], list[float], dict[str, Any]]] = []

    def spy(like: Any, models: Any, weights: Any) -> dict[str, Any]:
        whole = [
            {n: each.read(n, 0, t.size).reshape(t.shape).copy() for n, t in like.items()}
            for each in models
        ]
        mean = aggregation.mean(like, models, weights)
        calls.append((whole, list(weights), mean))
        return mean

    monkeypatch.setattr("fimi.coordinator.mixing.mean", spy)
    ran = run("genfl", server_weight=0.25)
    assert len(calls) == ROUNDS
    models, weights, mixed = calls[-1]
    assert len(models) == DEVICES + 1
    local = [len(share) for share in ran.scenario.shares]
    expected = [0.75 * n / sum(local) for n in local] + [0.25]
    assert weights == pytest.approx(expected)
    for name, tensor in ran.federation.model.items():
        by_hand = sum(w * m[name].astype(float) for w, m in zip(expected, models, strict=True))
        np.testing.assert_allclose(tensor, by_hand, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(tensor, mixed[name])


def test_genfls_set_grows_by_so_many_of_each_class_up_to_a_limit(run: Any) -> None:
    ran = run("genfl", images_per_round=4, images_max=6)
    assert [result.server.images for result in ran.federation.rounds] == [40, 60]


def test_scheduled_weights_reach_the_end(run: Any) -> None:
    ran = run("genfl", weights="scheduled", server_weight=0.5, server_weight_end=0.1)
    assert [r.server.weight for r in ran.federation.rounds] == pytest.approx([0.5, 0.1])


def test_weights_by_performance_come_from_validation_images(run: Any) -> None:
    ran = run_with_any_generator(run)
    for result in ran.federation.rounds:
        server = result.server
        n = min(len(SPLIT.validation), ran.config.strategy.validation_images)
        wrong = [
            (n * (1 - a) + 1) / (n + 2)
            for a in (server.federated_accuracy, server.augmented_accuracy)
        ]
        assert server.weight == pytest.approx(wrong[0] / sum(wrong))
    back = read_run(ran.path)
    (extra,) = (e for e in extras(back, summarise(back)) if "κ2" in e.note)
    assert extra.term == "server"


def run_with_any_generator(run: Any) -> Ran:
    ran: Ran = run("genfl", weights="performance", validation_images=100)
    return ran


def test_the_report_says_what_the_server_did(look: Any) -> None:
    ran = look("sst")
    back = read_run(ran.path)
    assert [r.server for r in back.rounds] == [r.server for r in ran.federation.rounds]
    told = {extra.term: extra for extra in extras(back, summarise(back))}
    assert "the server 2.00 J (measured" in told["total"].note
    extra = told["server"]
    assert "in no device's joules" in extra.note
    assert "2.00 J (measured" in extra.note
    assert "server trained on" in server_line(back.rounds[0])


TRAINING_DEVICES = [name for name, each in STRATEGIES.items() if each.devices_train]


@pytest.mark.parametrize("name", TRAINING_DEVICES)
def test_every_device_has_a_gradient_similarity_from_the_first_round_on(
    name: str, look: Any
) -> None:
    """Of all that it trains on: at the same first model, only what is added makes a difference."""
    ran, alone = look(name), look("tfl")
    back = read_run(ran.path)
    assert [insight.round for insight in back.insights] == [1, ROUNDS]
    for insight in back.insights:
        assert insight.gradient_samples == len(SPLIT.private)
        assert len(insight.devices) == DEVICES
        assert all(device.gradient_similarity is not None for device in insight.devices)
    first, of_tfl = (
        [device.gradient_similarity for device in read_run(each.path).insights[0].devices]
        for each in (ran, alone)
    )
    if any(device.synthetic_samples for device in back.rounds[0].devices):
        assert first != of_tfl
    else:
        assert first == of_tfl


def test_shares_of_devices_are_stored_and_are_those_of_samples(look: Any) -> None:
    for result in read_run(look("fimi").path).rounds:
        samples = [d.local_samples + d.synthetic_samples for d in result.devices]
        shares = [device.share for device in result.devices]
        assert shares == pytest.approx([each / sum(samples) for each in samples])


def test_shares_by_contribution_are_not_those_of_samples(run: Any) -> None:
    ran = run("genfl", client_weights="contribution", validation_images=200)
    for result in read_run(ran.path).rounds:
        shares = [device.share for device in result.devices]
        samples = [device.local_samples for device in result.devices]
        assert sum(shares) == pytest.approx(1)
        assert shares != pytest.approx([each / sum(samples) for each in samples])


def test_the_report_says_how_many_pseudo_labels_were_kept(look: Any) -> None:
    ran = look("semi", confidence_min=0.0)
    back = read_run(ran.path)
    (extra,) = (e for e in extras(back, summarise(back)) if e.term == "pseudo-labels")
    held = sum(plan.unlabelled for plan in ran.federation.device_plans.values())
    assert f"{held} of {held}" in extra.note
    kept = [d.synthetic_samples for d in ran.federation.rounds[-1].devices]
    assert sum(kept) == held
    with sqlite3.connect(ran.path) as db:
        assert db.execute(
            "SELECT sum(synthetic_samples) FROM device_round WHERE round = 2"
        ).fetchone() == (held,)


def test_predictions_of_unlabelled_images_are_an_upper_bound(look: Any) -> None:
    none, every = look("semi", confidence_min=1.0), look("semi", confidence_min=0.0)
    for ran in (none, every):
        plans = ran.federation.device_plans
        for device in ran.federation.rounds[-1].devices:
            (compute,) = [p for p in plans[device.device].predicted if p.phase == "compute"]
            profile = ran.federation.profiles[device.device]
            images = plans[device.device].unlabelled
            samples = sum(profile.label_counts) + images + math.ceil(images / 3)
            cycles = profile.board.compute.cycles_per_sample * samples
            hz = plans[device.device].point.frequency_hz
            assert compute.duration_s == pytest.approx(cycles / hz)
    # and keeping nothing takes less than keeping everything
    compute_s = [
        math.fsum(
            phase.duration_s
            for result in ran.federation.rounds
            for device in result.devices
            for phase in device.phases
            if phase.phase == "compute"
        )
        for ran in (none, every)
    ]
    assert compute_s[0] < compute_s[1]


def test_weights_by_performance_need_something_to_judge_by(
    a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path
) -> None:
    config = configured("genfl", weights="performance")
    store = RunStore(tmp_path / "run.sqlite")
    peer = Peer(a_broker.address, fleet=fleet_name, peer=COORDINATOR, role="coordinator")
    trainer = TorchTrainer("small-cnn", 10, (1, 8, 8))
    model = initial_parameters("small-cnn", 10, (1, 8, 8), seed=0)
    with pytest.raises(FederationError, match=r'"constant" or "scheduled"'):
        told = terms(Scenario(config=config), one_machine=True)
        Coordinator("r", config, peer, trainer, model, SPLIT.test, told, store=store)
    store.close()


def test_the_server_is_sent_nothing_of_the_devices_but_counts() -> None:
    """What it trains on follows from label counts; requests carry nothing else."""
    from fimi.messaging.messages.synthesis import SyntheticRequest

    assert set(SyntheticRequest.__struct_fields__) == {
        "run",
        "instance",
        "contract",
        "device",
        "counts",
        "seed",
        "skip",
        "unlabelled",
    }
    assert msgspec.json.decode(
        msgspec.json.encode(SyntheticRequest(run="r", device=COORDINATOR, counts=(1, 2), seed=0)),
        type=SyntheticRequest,
    ).counts == (1, 2)
