from __future__ import annotations

import numpy as np
import pytest
import sklearn.datasets
import torch
from hypothesis import given
from hypothesis import strategies as st

from fimi.learning.data.dataset import load_digits
from fimi.learning.networks import models
from fimi.learning.training import torch_trainer
from fimi.learning.training.torch_trainer import TorchTrainer
from fimi.learning.training.trainer import TrainingSettings, batches, pieces, to_float

DIGITS = load_digits()


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 70))
def test_every_epoch_sees_every_sample_once(samples: int, epochs: int, size: int) -> None:
    settings = TrainingSettings(epochs=epochs, batch_size=size)
    seen: dict[int, list[int]] = {}
    for epoch, indices in batches(samples, settings, stream=(0, 1, 2)):
        assert 1 <= len(indices) <= size
        seen.setdefault(epoch, []).extend(indices.tolist())
    assert [sorted(order) for order in seen.values()] == [list(range(samples))] * epochs


def test_the_order_depends_on_seed_device_and_round() -> None:
    settings = TrainingSettings(epochs=1, batch_size=50)

    def order(*stream: int) -> tuple[int, ...]:
        return tuple(next(batches(50, settings, stream=stream))[1].tolist())

    assert order(0, 1, 1) == order(0, 1, 1)
    assert len({order(0, 1, 1), order(1, 1, 1), order(0, 2, 1), order(0, 1, 2)}) == 4


@given(st.integers(1, 60), st.integers(1, 70))
def test_pieces_joined_are_the_whole(samples: int, size: int) -> None:
    whole = np.arange(samples)
    parts = pieces(whole, size)
    assert np.concatenate(parts).tolist() == whole.tolist()
    assert {len(part) for part in parts[:-1]} <= {size}
    assert 1 <= len(parts[-1]) <= size


def test_pieces_of_no_size_are_one() -> None:
    assert [part.tolist() for part in pieces(np.arange(5), 0)] == [[0, 1, 2, 3, 4]]


def test_images_become_floats_between_0_and_1() -> None:
    floats = to_float(DIGITS.images)
    assert floats.dtype == np.float32
    assert (floats.min(), floats.max()) == (0.0, 1.0)


class TestTorchTrainer:
    trainer = TorchTrainer("small-cnn", 10, (1, 8, 8))
    start = torch_trainer.initial_parameters("small-cnn", 10, (1, 8, 8), seed=3)
    settings = TrainingSettings(epochs=4, batch_size=20, learning_rate=0.05)

    def test_the_network_has_the_documented_size(self) -> None:
        assert sum(tensor.size for tensor in self.start.values()) == 38_282

    def test_training_learns_and_leaves_its_start_alone(self) -> None:
        before = {name: tensor.copy() for name, tensor in self.start.items()}
        images, labels = DIGITS.images[:600], DIGITS.labels[:600]
        result = self.trainer.train(self.start, images, labels, self.settings, stream=(0, 0, 1))
        assert result.samples == 4 * 600
        first = self.trainer.evaluate(self.start, images, labels)
        last = self.trainer.evaluate(result.parameters, images, labels)
        assert last.loss < first.loss
        assert last.accuracy > first.accuracy + 0.3
        assert all((self.start[name] == before[name]).all() for name in before)

    def test_same_stream_same_numbers(self) -> None:
        images, labels = DIGITS.images[:50], DIGITS.labels[:50]
        runs = [
            self.trainer.train(self.start, images, labels, self.settings, stream=stream).parameters
            for stream in ((0, 0, 1), (0, 0, 1), (0, 0, 2))
        ]
        assert all((runs[0][name] == runs[1][name]).all() for name in self.start)
        assert any((runs[0][name] != runs[2][name]).any() for name in self.start)

    def test_a_class_without_samples_has_no_accuracy(self) -> None:
        zeros = DIGITS.labels == 0
        result = self.trainer.evaluate(self.start, DIGITS.images[zeros], DIGITS.labels[zeros])
        assert result.class_accuracy[0] == result.accuracy
        assert result.class_accuracy[1:] == (None,) * 9

    def test_nothing_to_train_on(self) -> None:
        with pytest.raises(ValueError, match="0 images"):
            self.trainer.train(
                self.start, DIGITS.images[:0], DIGITS.labels[:0], self.settings, stream=(0,)
            )


def test_the_initial_model_is_the_seeds() -> None:
    one, same, other = (
        torch_trainer.initial_parameters("small-cnn", 10, (1, 8, 8), seed=seed)
        for seed in (0, 0, 1)
    )
    assert all((one[name] == same[name]).all() for name in one)
    assert any((one[name] != other[name]).any() for name in one)


def test_unknown_model() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'vgg-99'; there are .*small-cnn"):
        TorchTrainer("vgg-99", 10, (1, 8, 8))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_step_is_that_of_torch_optim(momentum: float) -> None:
    images, labels = DIGITS.images[:90], DIGITS.labels[:90]
    settings = TrainingSettings(epochs=3, batch_size=20, learning_rate=0.05, momentum=momentum)
    start = torch_trainer.initial_parameters("small-cnn", 10, (1, 8, 8), seed=1)
    ours = TorchTrainer("small-cnn", 10, (1, 8, 8)).train(
        start, images, labels, settings, stream=(7,)
    )
    module = models.build("small-cnn", 10, (1, 8, 8), seed=1)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=momentum)
    inputs, targets = torch.from_numpy(to_float(images)), torch.from_numpy(labels)
    for _, order in batches(90, settings, stream=(7,)):
        indices = torch.from_numpy(order)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs[indices]), targets[indices]).backward()
        optimiser.step()
    for name, tensor in models.parameters_of(module).items():
        np.testing.assert_allclose(ours.parameters[name], tensor, rtol=1e-6, atol=1e-8)


def test_digits_are_those_of_scikit_learn() -> None:
    theirs = sklearn.datasets.load_digits()
    np.testing.assert_array_equal(DIGITS.labels, theirs.target)
    np.testing.assert_array_equal(DIGITS.images[:, 0], np.rint(theirs.images * 255 / 16))


class TestSteps:
    def test_so_many_batches_all_of_one_size(self) -> None:
        how = TrainingSettings(steps=7, batch_size=20)
        drawn = [order for _, order in batches(50, how, stream=(1,))]
        assert [len(order) for order in drawn] == [20] * 7
        assert how.processed(50) == 140
        # nothing comes again before everything has been
        assert sorted(np.concatenate(drawn)[:50].tolist()) == list(range(50))

    def test_less_data_than_a_batch(self) -> None:
        how = TrainingSettings(steps=3, batch_size=20)
        drawn = [order for _, order in batches(8, how, stream=(1,))]
        assert [sorted(order.tolist()) for order in drawn] == [list(range(8))] * 3
        assert how.processed(8) == 24

    def test_epochs_are_as_they_were(self) -> None:
        how = TrainingSettings(epochs=3, batch_size=20)
        assert how.processed(50) == 150
        assert how.passes(50) == (50, 3)


class TestShare:
    @given(
        real=st.integers(1, 60),
        synthetic=st.integers(1, 60),
        batch=st.integers(1, 40),
        share=st.floats(0.01, 0.99),
        steps=st.integers(0, 9),
    )
    def test_every_batch_has_its_share(
        self, real: int, synthetic: int, batch: int, share: float, steps: int
    ) -> None:
        samples = real + synthetic
        how = TrainingSettings(epochs=2, batch_size=batch, synthetic_share=share, steps=steps)
        drawn = [order for _, order in batches(samples, how, stream=(3,), synthetic=synthetic)]
        assert sum(map(len, drawn)) == how.processed(samples)
        for order in drawn:
            assert abs(int((order >= real).sum()) - share * len(order)) <= 1.0 + 1e-9
        everything = np.concatenate(drawn)
        assert abs(int((everything >= real).sum()) - share * len(everything)) <= 0.5 + 1e-9
        for kind in (everything[everything < real], everything[everything >= real]):
            counts = np.bincount(kind)
            assert kind.size == 0 or counts.max() - counts[counts > 0].min() <= 1

    def test_without_synthetic_samples_nothing_changes(self) -> None:
        plain, mixed = TrainingSettings(), TrainingSettings(synthetic_share=0.5)
        for synthetic in (0, 50):
            one, other = (
                [order.tolist() for _, order in batches(50, s, stream=(1,), synthetic=synthetic)]
                for s in (plain, mixed)
            )
            assert one == other

    def test_the_same_stream_draws_the_same(self) -> None:
        how = TrainingSettings(synthetic_share=0.3, steps=9)
        first, again, other = (
            [order.tolist() for _, order in batches(70, how, stream=(n,), synthetic=30)]
            for n in (1, 1, 2)
        )
        assert first == again
        assert first != other
