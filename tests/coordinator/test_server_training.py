"""The server's training in a round: one that diverges is told, counted, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fimi.coordinator.context import FederationError
from fimi.coordinator.server_training import Server
from fimi.coordinator.settings import ClientWeights, StrategySettings
from fimi.coordinator.strategies import STRATEGIES
from fimi.learning.data import batches
from fimi.learning.data.dataset import Dataset, load_digits
from fimi.learning.training.aggregation import fedavg
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.synthesis import SyntheticBatch
from fimi.record.results import ServerRound
from fimi.testbed.configuration.sections import Config, RunConfig

DIGITS = load_digits()
SHAPE = (1, 8, 8)
MODEL = initial_parameters("small-cnn", 10, SHAPE, seed=0)
STEEP = {name: tensor * np.float32(1e25) for name, tensor in MODEL.items()}
"""The first step from here leads out of the numbers."""
UPDATES = [{n: t * np.float32(f) for n, t in MODEL.items()} for f in (0.5, 1.0)]


@pytest.fixture
def lines(a_broker: EmbeddedBroker, fleet_name: str) -> Iterator[tuple[Peer, Peer]]:
    node = Peer(a_broker.address, fleet=fleet_name, peer="generator", role="generator")
    desk = Peer(a_broker.address, fleet=fleet_name, peer="coordinator", role="coordinator")
    for peer in (node, desk):
        peer.connect()
    yield node, desk
    for peer in (node, desk):
        peer.close()


def server(strategy: str, lines: tuple[Peer, Peer]) -> Server:
    node, desk = lines
    config = Config(run=RunConfig(strategy=strategy), training=TrainingSettings(epochs=1))
    made = Server(STRATEGIES[strategy], config, TorchTrainer("small-cnn", 10, SHAPE))
    payload = batches.encode(DIGITS.images[:60], DIGITS.labels[:60])
    made.receive(
        SyntheticBatch(
            run="r",
            device="coordinator",
            delivered=tuple(np.bincount(DIGITS.labels[:60], minlength=10).tolist()),
            offer=node.transfers.serve(payload, batches.MEDIA),
            seconds=1.0,
            generator="digits",
        ),
        desk,
        SHAPE,
    )
    return made


def aggregated(
    made: Server, model: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], ServerRound]:
    with made.beside(1, model):
        pass
    new, entry, _ = made.aggregate(1, model, UPDATES, [1.0, 3.0])
    assert entry is not None
    return new, entry


def said(entry: ServerRound) -> None:
    assert entry.error.startswith("server diverged: loss not finite in epoch 1, step ")
    assert entry.loss is None
    assert entry.weight is None
    assert entry.images > 0
    assert entry.seconds > 0


def test_mixed_in(lines: tuple[Peer, Peer]) -> None:
    """GenFL: what is left is the devices' mean."""
    made = server("genfl", lines)
    new, entry = aggregated(made, STEEP)
    said(entry)
    for name, tensor in fedavg(UPDATES, [1.0, 3.0]).items():
        np.testing.assert_array_equal(new[name], tensor)
    new, entry = aggregated(made, MODEL)  # the next round is not spoilt
    assert entry.error == ""
    assert entry.loss is not None
    assert entry.weight is not None


def test_alone(lines: tuple[Peer, Peer]) -> None:
    made = server("aigc-only", lines)
    new, entry, _ = made.aggregate(1, STEEP, (), ())
    assert entry is not None
    said(entry)
    assert new is STEEP


def test_continued(lines: tuple[Peer, Peer]) -> None:
    """SST: the mean of updates from which training diverges stays the model."""
    made = server("sst", lines)
    new, entry, _ = made.aggregate(1, MODEL, [STEEP, STEEP], [1.0, 1.0])
    assert entry is not None
    said(entry)
    for name, tensor in fedavg([STEEP, STEEP], [1.0, 1.0]).items():
        np.testing.assert_array_equal(new[name], tensor)


@pytest.fixture(scope="module")
def updates() -> list[Parameters]:
    """Of three devices with 250 digits each; the last one has another digit for every label."""
    trainer, found = TorchTrainer("small-cnn", 10, SHAPE), []
    for i in range(3):
        part = DIGITS.subset(np.arange(250 * i, 250 * (i + 1)), f"device {i}")
        labels = (part.labels + 1) % 10 if i == 2 else part.labels
        trained = trainer.train(
            MODEL, part.images, labels, TrainingSettings(epochs=8), stream=(0, i)
        )
        found.append(trained.parameters)
    return found


class TestWeighing:
    """Who harms the mean has less weight in it; nobody is judged by test images."""

    def weigher(self, policy: ClientWeights, public: Dataset | None) -> Server:
        config = Config(strategy=StrategySettings(client_weights=policy))
        trainer = TorchTrainer("small-cnn", 10, SHAPE)
        return Server(STRATEGIES["genfl"], config, trainer, validation=public)

    @pytest.mark.parametrize("policy", ["quality", "contribution"])
    def test_harmful_updates_get_less_weight(
        self, policy: ClientWeights, updates: list[Parameters]
    ) -> None:
        public = DIGITS.subset(np.arange(800, 1200), "public")
        shares = self.weigher(policy, public).weigh(updates, [250.0] * 3)
        assert sum(shares) == pytest.approx(1)
        assert shares[2] < 0.2 < 0.3 < min(shares[:2])

    def test_by_size_nothing_is_judged(self, updates: list[Parameters]) -> None:
        assert self.weigher("size", None).weigh(updates, [5.0, 4.0, 3.0]) == [5.0, 4.0, 3.0]

    def test_one_alone_has_all(self, updates: list[Parameters]) -> None:
        public = DIGITS.subset(np.arange(800, 900), "public")
        assert self.weigher("contribution", public).weigh(updates[:1], [250.0]) == [250.0]

    def test_there_must_be_something_to_judge_by(self) -> None:
        with pytest.raises(FederationError, match=r'client_weights is "quality" \(take "size"\)'):
            self.weigher("quality", None)
