from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.coordinator.dealt import Labelled, SamplesUnknownError
from fimi.coordinator.insight import Observer, balanced
from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.learning.data.dataset import Dataset, Images, Labels, load_digits
from fimi.learning.networks import models
from fimi.learning.training import tensors
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import EpochDone, Evaluation, TrainingResult, TrainingSettings
from fimi.record.insight import Insight

Counts = tuple[int, int, int]
TEST = Dataset(
    name="test",
    images=np.zeros((4, 1, 2, 2), np.uint8),
    labels=np.array([0, 1, 2, 0]),
    class_names=("a", "b", "c"),
)
BEFORE = {"w": np.zeros(3, np.float32)}


class AlongTheAxes:
    """Every class pulls its own weight up by its share; accuracy is the first weight."""

    backend = "arithmetic"
    batch_min = 1

    def train(
        self,
        parameters: Parameters,
        images: Images,
        labels: Labels,
        settings: TrainingSettings,
        *,
        stream: tuple[int, ...],
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[EpochDone], None] | None = None,
    ) -> TrainingResult:
        shares = np.bincount(labels, minlength=3) / len(labels)
        pulled = parameters["w"] + shares.astype(np.float32)
        return TrainingResult(parameters={"w": pulled}, samples=len(labels), loss=0.0, accuracy=0.0)

    def evaluate(self, parameters: Parameters, images: Images, labels: Labels) -> Evaluation:
        return Evaluation(
            accuracy=float(parameters["w"][0]), loss=0.0, class_accuracy=(None,) * 3, samples=4
        )


def public(*counts: int) -> Dataset:
    labels = np.repeat(np.arange(3), counts)
    return Dataset(
        name="public",
        images=np.zeros((len(labels), 1, 2, 2), np.uint8),
        labels=labels,
        class_names=("a", "b", "c"),
    )


class Held:
    """What devices hold, by the samples of each of three classes."""

    def __init__(
        self, local: dict[str, Counts], synthetic: dict[str, Counts], lost: tuple[str, ...] = ()
    ) -> None:
        self._local, self._synthetic, self._lost = local, synthetic, lost
        self.devices = tuple(sorted(local))

    def local(self, device: str) -> Labelled:
        return samples_of(self._local[device])

    def synthetic(self, device: str, model: Parameters) -> Labelled | None:
        if device in self._lost:
            raise SamplesUnknownError("generator node is away")
        return samples_of(self._synthetic[device]) if device in self._synthetic else None


class Digits:
    """Digits by their numbers, and some more beside those of device a."""

    def __init__(self, parts: dict[str, NDArray[np.intp]], extra: NDArray[np.intp]) -> None:
        self._digits, self._parts, self._extra = load_digits(), parts, extra
        self.devices = tuple(parts)

    def local(self, device: str) -> Labelled:
        of = self._parts[device]
        return Labelled(self._digits.images[of], self._digits.labels[of])

    def synthetic(self, device: str, model: Parameters) -> Labelled | None:
        of = self._extra
        return Labelled(self._digits.images[of], self._digits.labels[of]) if device == "a" else None


def samples_of(counts: Counts) -> Labelled:
    held = public(*counts)
    return Labelled(held.images, held.labels)


def look(
    folder: Path,
    data: Dataset | None,
    held: Held | None = None,  # nothing is known of what devices hold
    *,
    trainer: type[AlongTheAxes] = AlongTheAxes,
    **updates: tuple[float, float, float],
) -> Insight:
    spool = UpdateStore(folder)
    for device, weights in updates.items():
        spool.put(device, tensors.dump({"w": np.array(weights, np.float32)}))
    observer = Observer(
        trainer(), TEST, data, TrainingSettings(), seed=0, spool=UpdateStore(folder)
    )
    return observer.look(3, BEFORE, Updates(spool, sorted(updates)), held or Held({}, {}))


class TestObserver:
    def test_a_balanced_update_points_the_iid_way_and_one_of_a_single_class_does_not(
        self, tmp_path: Path
    ) -> None:
        seen = look(tmp_path, public(50, 20, 30), a=(0.5, 0.5, 0.5), b=(0.25, 0, 0), c=(0, -1, 0))
        assert seen.round == 3
        assert seen.reference_samples == 60
        assert [d.device for d in seen.devices] == ["a", "b", "c"]
        assert [d.similarity for d in seen.devices] == pytest.approx([1.0, 3**-0.5, -(3**-0.5)])
        assert [d.local_error for d in seen.devices] == [0.5, 0.75, 1.0]
        assert seen.orthogonality == pytest.approx(1 - (2 * 3**-0.5 + 0) / 3)

    def test_without_public_data_there_is_no_reference(self, tmp_path: Path) -> None:
        seen = look(tmp_path, None, a=(1, 0, 0))
        assert (seen.reference_samples, seen.devices[0].similarity) == (0, None)
        assert seen.orthogonality is None

    def test_updates_that_do_not_fit_into_memory_give_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        updates = {"a": (1.0, 0.2, 0.0), "b": (0.1, 1.0, 0.3), "c": (0.5, 0.5, 0.5)}
        held = look(tmp_path, None, **updates)
        monkeypatch.setattr("fimi.coordinator.insight.MEMORY_BYTES", 0)
        assert replace(look(tmp_path, None, **updates), seconds=held.seconds) == held

    def test_a_reference_that_diverges_leaves_the_rest_of_the_insight(self, tmp_path: Path) -> None:
        digits = load_digits()
        some, shape = digits.subset(np.arange(100), "some"), (1, 8, 8)
        start = initial_parameters("small-cnn", 10, shape, seed=0)
        steep = {name: tensor * np.float32(1e25) for name, tensor in start.items()}
        spool = UpdateStore(tmp_path)
        spool.put("a", tensors.dump(start))
        trainer = TorchTrainer("small-cnn", 10, shape)
        observer = Observer(
            trainer, some, some, TrainingSettings(epochs=1), seed=0, spool=UpdateStore(tmp_path)
        )
        held = Digits({"a": np.arange(50)}, np.arange(50, 60))
        seen = observer.look(1, steep, Updates(spool, ["a"]), held)
        (device,) = seen.devices
        assert (seen.reference_samples, device.similarity) == (0, None)
        assert (seen.gradient_samples, device.gradient_similarity) == (0, None)
        right = trainer.evaluate(start, some.images, some.labels).accuracy
        assert device.local_error == 1 - right

    def test_a_round_without_updates_says_nothing(self, tmp_path: Path) -> None:
        seen = look(tmp_path, public(5, 5, 5))
        assert (seen.devices, seen.orthogonality, seen.reference_samples) == ((), None, 0)


OF_ONE_CLASS: dict[str, Counts] = {"a": (10, 0, 0), "b": (0, 10, 0), "c": (0, 0, 10)}


class TestGradients:
    """(L3): every class pulls along its own axis, so that a gradient is minus the shares."""

    def test_what_fills_the_classes_up_turns_a_gradient_to_the_iid_one(
        self, tmp_path: Path
    ) -> None:
        held = Held(OF_ONE_CLASS, {"a": (0, 10, 10), "b": (5, 0, 0)})
        seen = look(tmp_path, None, held, a=(1, 0, 0), b=(0, 1, 0), c=(0, 0, 1))
        of_b = (5 + 10) / (3 * (25 + 100)) ** 0.5
        similar = [d.gradient_similarity for d in seen.devices]
        assert similar == pytest.approx([1.0, of_b, 3**-0.5])
        assert seen.gradient_samples == 30

    def test_the_iid_gradient_has_the_samples_of_those_without_an_update(
        self, tmp_path: Path
    ) -> None:
        held = Held({"a": (8, 0, 0), "b": (0, 6, 0)}, {})
        (device,) = look(tmp_path, None, held, a=(1, 0, 0)).devices
        assert device.gradient_similarity == pytest.approx(0.8)

    def test_synthetic_samples_that_cannot_be_had_leave_only_their_device_unknown(
        self, tmp_path: Path
    ) -> None:
        held = Held(OF_ONE_CLASS, {}, lost=("b",))
        seen = look(tmp_path, None, held, a=(1, 0, 0), b=(0, 1, 0))
        assert [d.gradient_similarity for d in seen.devices] == [pytest.approx(3**-0.5), None]
        assert seen.gradient_samples == 30

    def test_batch_normalisation_has_no_gradient_of_its_data_alone(self, tmp_path: Path) -> None:
        class Normalised(AlongTheAxes):
            batch_min = 2

        held = Held(OF_ONE_CLASS, {})
        seen = look(tmp_path, None, held, trainer=Normalised, a=(1, 0, 0))
        assert (seen.gradient_samples, seen.devices[0].gradient_similarity) == (0, None)

    def test_it_is_the_cosine_of_the_gradients_that_autograd_gives(self, tmp_path: Path) -> None:
        """Whatever steps, optimiser and share of synthetic samples devices train with."""
        digits, shape = load_digits(), (1, 8, 8)
        order = np.argsort(digits.labels, kind="stable")
        parts = {"a": order[:150], "b": order[150:400]}
        extra = order[900:1000]
        start = initial_parameters("small-cnn", 10, shape, seed=3)
        network = models.build("small-cnn", 10, shape, seed=3)

        def gradient(of: NDArray[np.intp]) -> torch.Tensor:
            network.zero_grad()
            images = torch.from_numpy(digits.images[of].astype(np.float32) / 255)
            logits = network(images)
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(digits.labels[of]))
            found = torch.autograd.grad(loss, list(network.parameters()))
            return torch.cat([each.ravel() for each in found]).double()

        iid = gradient(order[:400])
        expected = [
            float(torch.nn.functional.cosine_similarity(gradient(of), iid, dim=0))
            for of in (np.concatenate([parts["a"], extra]), parts["b"])
        ]

        spool = UpdateStore(tmp_path)
        for device in parts:
            spool.put(device, tensors.dump(start))
        settings = TrainingSettings(
            epochs=3, optimiser="adam", synthetic_share=0.5, weight_decay=0.1, clip_norm=0.1
        )
        observer = Observer(
            TorchTrainer("small-cnn", 10, shape),
            digits,
            None,
            settings,
            seed=0,
            spool=UpdateStore(tmp_path),
        )
        seen = observer.look(1, start, Updates(spool, ["a", "b"]), Digits(parts, extra))
        found = [device.gradient_similarity for device in seen.devices]
        assert found == pytest.approx(expected, abs=1e-5)
        assert expected[0] > 0.1


class TestBalanced:
    def test_the_scarcest_class_decides(self) -> None:
        chosen = balanced(public(50, 7, 30), 200, 0)
        assert chosen is not None
        assert chosen.label_counts() == (7, 7, 7)

    def test_a_class_without_samples_leaves_no_reference(self) -> None:
        assert balanced(public(50, 0, 30), 200, 0) is None


class TestSpool:
    @pytest.mark.parametrize("memory_bytes", [0, 5, 100])
    def test_what_went_in_comes_out_from_memory_or_disk(
        self, tmp_path: Path, memory_bytes: int
    ) -> None:
        spool = UpdateStore(tmp_path, memory_bytes)
        spool.put("a", b"1234")
        spool.put("b", b"567")
        spool.put("a", b"89")
        assert (spool.get("a"), spool.get("b")) == (b"89", b"567")
        on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert 5 - on_disk <= memory_bytes
        assert on_disk == {0: 5, 5: 3, 100: 0}[memory_bytes]
        spool.clear()
        assert not list(tmp_path.iterdir())
        with pytest.raises(KeyError):
            spool.get("a")

    def test_updates_come_in_the_order_asked_for(self, tmp_path: Path) -> None:
        spool = UpdateStore(tmp_path, 0)
        for value, device in enumerate("abc"):
            spool.put(device, tensors.dump({"w": np.full(2, value, np.float32)}))
        updates = Updates(spool, ("c", "a", "b"))
        assert [float(update["w"][0]) for update in updates] == [2, 0, 1]
        assert [float(update["w"][0]) for update in updates[1:]] == [0, 1]
