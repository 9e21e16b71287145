"""fimi.generator_node.service.gate: what it refuses, and that it lets real images pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.generator_node.generators.base import GeneratorError, Provenance, Seeds
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.generators.card import JUDGE, shipped_for
from fimi.generator_node.service.drawing import made_by
from fimi.generator_node.service.gate import Gate, GateSettings, Judge, Neighbours, read_judge
from fimi.generator_node.service.service import BatchService
from fimi.generator_node.training.judge import train_judge
from fimi.learning.data.changes import ImageChanges
from fimi.learning.data.dataset import Dataset, Images, Labels, Split
from fimi.learning.training.onnx_runtime import onnxruntime
from fimi.messaging.messages.synthesis import SyntheticRequest


@pytest.fixture(scope="module")
def judge(parts: Split) -> Judge:
    return read_judge(shipped_for(parts.public))


@pytest.fixture(scope="module")
def gate(judge: Judge, parts: Split) -> Gate:
    return Gate(judge, parts.public)


class TestJudge:
    def test_the_shipped_one_knows_real_digits(self, judge: Judge, parts: Split) -> None:
        probabilities, features = judge.look(parts.test.images)
        assert (probabilities.argmax(1) == parts.test.labels).mean() > 0.88
        assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
        assert features.shape == (len(parts.test), 64)

    def test_training_one(self, parts: Split) -> None:
        probabilities, _ = Judge(train_judge(parts.public, steps=60)).look(parts.test.images)
        assert (probabilities.argmax(1) == parts.test.labels).mean() > 0.7

    def test_no_judge(self, tmp_path: Path) -> None:
        with pytest.raises(GeneratorError, match="the judge cannot be loaded"):
            Judge(b"nothing")
        with pytest.raises(GeneratorError, match=r"holds no generator\.json"):
            read_judge(tmp_path / "nowhere")

    def test_a_judge_of_another_generator(self, tiny_folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
        (copy / JUDGE).write_bytes(b"x")
        with pytest.raises(GeneratorError, match=r"judge\.onnx is not the file that generator\.j"):
            read_judge(copy)
        (copy / JUDGE).unlink()
        with pytest.raises(GeneratorError, match=r"judge\.onnx cannot be read"):
            read_judge(copy)


class TestVerdicts:
    def test_real_images_pass(self, gate: Gate, parts: Split) -> None:
        judged = gate.judge(parts.test.images, parts.test.labels)
        kept = np.mean([verdict == "kept" for verdict in judged.verdicts])
        assert kept > 0.9

    def test_copies_and_blanks_do_not(self, gate: Gate, parts: Split) -> None:
        copy = parts.public.images[:1]
        grey = np.full_like(copy, 90)
        judged = gate.judge(np.concatenate([copy, grey]), np.array([parts.public.labels[0], 3]))
        assert judged.verdicts == ("near-copy", "blank")
        assert judged.distance[0] == pytest.approx(0, abs=1e-3)
        assert judged.deviation[1] == pytest.approx(0, abs=1e-6)

    def test_wrong_labels_do_not(self, gate: Gate, parts: Split) -> None:
        wrong = (parts.test.labels + 1) % 10
        judged = gate.judge(parts.test.images, wrong)
        assert np.mean([verdict == "below-chance" for verdict in judged.verdicts]) > 0.8
        assert (judged.confidence < 0.1).mean() > 0.8

    def test_limits_per_class(self, judge: Judge, parts: Split) -> None:
        limits = (1.0,) + (0.0,) * 9
        strict = Gate(judge, parts.public, GateSettings(confidence_min=limits, copy_quantile=0))
        judged = strict.judge(parts.test.images, parts.test.labels)
        refused = np.array([verdict == "below-chance" for verdict in judged.verdicts])
        assert not refused[parts.test.labels != 0].any()
        assert refused[parts.test.labels == 0].mean() > 0.3

    def test_copies_may_be_let_pass(self, judge: Judge, parts: Split) -> None:
        gate = Gate(judge, parts.public, GateSettings(copy_quantile=0))
        judged = gate.judge(parts.public.images[:50], parts.public.labels[:50])
        assert "near-copy" not in judged.verdicts

    def test_as_many_limits_as_classes(self, judge: Judge, parts: Split) -> None:
        with pytest.raises(ValueError, match=r"confidence_min has 3 values.*10 classes"):
            Gate(judge, parts.public, GateSettings(confidence_min=(0.1, 0.2, 0.3)))

    def test_each_by_itself(self, gate: Gate, parts: Split) -> None:
        images, labels = parts.test.images[:20], parts.test.labels[:20]
        together = gate.judge(images, labels)
        alone = [gate.judge(images[i : i + 1], labels[i : i + 1]) for i in range(20)]
        assert together.verdicts == tuple(one.verdicts[0] for one in alone)


def test_verdicts_by_other_public_images_are_others(judge: Judge, parts: Split) -> None:
    """A pool does not mix them, whatever draws: a model of text knows nothing of the split."""
    generator = BootstrapGenerator(parts.public)
    gates = [Gate(judge, public) for public in (parts.public, parts.private)]
    assert len({made_by(generator, gate) for gate in gates}) == 2
    assert made_by(generator, gates[0]) == made_by(generator, Gate(judge, parts.public))


class TestNeighbours:
    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(0, 2**16), count=st.integers(2, 30))
    def test_brute_force(self, seed: int, count: int) -> None:
        random = np.random.default_rng(seed)
        real = random.integers(0, 256, (count, 1, 3, 4), np.uint8)
        other = random.integers(0, 256, (7, 1, 3, 4), np.uint8)
        flat, far = real.reshape(count, -1) / 255, other.reshape(7, -1) / 255
        expected = np.sqrt(((far[:, None] - flat[None]) ** 2).mean(-1)).min(1)
        assert np.allclose(Neighbours(real).distances(other), expected, atol=1e-3)
        among = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(-1))
        np.fill_diagonal(among, np.inf)
        assert np.allclose(Neighbours(real).among_themselves(), among.min(1), atol=1e-3)


class Stubborn:
    """Draws public images as they are, the first 40 or for ever."""

    def __init__(self, public: Dataset, *, mends: bool) -> None:
        still = ImageChanges(rotation_degrees=0, shift_pixels=0, scale=0)
        self._copies = BootstrapGenerator(public, still)
        self._changed = BootstrapGenerator(public, ImageChanges(shift_pixels=1))
        self._mends = mends
        self.drawn = 0
        self.classes, self.image_shape = self._copies.classes, self._copies.image_shape
        self.name = "stubborn"

    @property
    def provenance(self) -> Provenance:
        return self._copies.provenance

    def generate(self, class_ids: Labels, seeds: Seeds) -> Images:
        source = self._changed if self._mends and self.drawn >= 40 else self._copies
        self.drawn += len(class_ids)
        return source.generate(class_ids, seeds)


class TestInTheService:
    REQUEST = SyntheticRequest(run="r", device="d", counts=(2,) * 10, seed=3)

    def test_what_is_refused_is_drawn_again(self, gate: Gate, parts: Split) -> None:
        generator = Stubborn(parts.public, mends=True)
        made = BatchService(generator, gate=gate).make(self.REQUEST)
        assert made.delivered == (2,) * 10
        assert made.refused["near-copy"] >= 40
        assert made.drawn == 20 + sum(made.refused.values())
        assert made.error == ""

    def test_but_not_for_ever_and_the_shortfall_is_told(self, gate: Gate, parts: Split) -> None:
        generator = Stubborn(parts.public, mends=False)
        made = BatchService(generator, gate=gate).make(self.REQUEST)
        assert generator.drawn == 20 * (1 + gate.settings.redraws)
        assert (made.delivered, made.data, made.drawn) == ((0,) * 10, b"", 80)
        assert "20 of 20 images were refused by the quality gate" in made.error
        assert "80 near-copy" in made.error
        assert not made.failed

    def test_equal_images_are_given_once(self, judge: Judge, parts: Split) -> None:
        """Two public images of a class, unchanged: no more than two can be had."""
        gate = Gate(judge, parts.public, GateSettings(copy_quantile=0, confidence_min=(0,)))
        zeros = np.flatnonzero(parts.public.labels == 0)[:2]
        others = np.flatnonzero(parts.public.labels != 0)
        few = parts.public.subset(np.concatenate([zeros, others]), "few")
        service = BatchService(Stubborn(few, mends=False), gate=gate)
        service.submit(SyntheticRequest(run="r", device="a", counts=(5,) + (0,) * 9, seed=3))
        service.submit(SyntheticRequest(run="r", device="b", counts=(5,) + (0,) * 9, seed=3))
        made = []
        while service.busy:
            made += service.work()
        assert sum(batch.delivered[0] for batch in made) == 2
        assert all("repeat" in batch.error for batch in made if batch.delivered[0] < 5)


def test_served_by_onnx_runtime(judge: Judge) -> None:
    assert isinstance(judge._session, onnxruntime.InferenceSession)
