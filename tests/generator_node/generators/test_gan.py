"""fimi.generator_node.generators.gan: the contract, there and back, and that training moves towards
the data."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from contract import GeneratorContract
from generator_quality import synthesise

from fimi.generator_node.generators.base import Generator, GeneratorError
from fimi.generator_node.generators.card import shipped_for
from fimi.generator_node.generators.gan import WEIGHTS, GanSettings
from fimi.generator_node.generators.open import load, open_generator
from fimi.generator_node.service.gate import read_judge
from fimi.generator_node.training.diffusion_training import DiffusionSettings, train
from fimi.generator_node.training.evaluation import spread
from fimi.generator_node.training.gan_training import TrainedGan, train_gan
from fimi.generator_node.training.loop import TrainingProgress
from fimi.learning.data.dataset import Dataset, Split

TINY = GanSettings(steps=3, batch_size=8, width=8, judge_steps=2, seed=1)


@pytest.fixture(scope="module")
def trained(small_public: Dataset) -> TrainedGan:
    return train_gan(small_public, TINY, name="tiny-gan")


@pytest.fixture(scope="module")
def folder(trained: TrainedGan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gan")
    trained.save(folder)
    return folder


class TestContract(GeneratorContract):
    @pytest.fixture
    def generator(self, folder: Path, small_public: Dataset) -> Generator:
        return open_generator(small_public, str(folder))


class TestShipped(GeneratorContract):
    @pytest.fixture
    def generator(self, parts: Split) -> Generator:
        return open_generator(parts.public, kind="conditional-gan")

    def test_images_of_a_class_differ(self, generator: Generator, parts: Split) -> None:
        """A collapsed GAN gives every digit in one hand; a tenth of this spread was seen."""
        generated = synthesise(generator, parts.public, 30)
        assert spread(generated) > 0.8 * spread(parts.private)

    def test_its_judge_knows_what_it_draws(self, generator: Generator, parts: Split) -> None:
        judge = read_judge(shipped_for(parts.public, "conditional-gan"))
        generated = synthesise(generator, parts.public, 30)
        probabilities, _ = judge.look(generated.images)
        assert (probabilities.argmax(1) == generated.labels).mean() > 0.95


def test_a_named_folder_must_hold_a_gan(
    tiny_folder: Path, folder: Path, small_public: Dataset
) -> None:
    with pytest.raises(GeneratorError, match="holds a class-conditional-diffusion, not a cond"):
        open_generator(small_public, str(tiny_folder), kind="conditional-gan")
    assert open_generator(small_public, str(folder)).name == "tiny-gan (conditional GAN)"


def test_the_same_seed_gives_the_same_weights(
    trained: TrainedGan, small_public: Dataset, tmp_path: Path, folder: Path
) -> None:
    train_gan(small_public, TINY, name="tiny-gan").save(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_it_learns_how_bright_images_are(parts) -> None:  # type: ignore[no-untyped-def]
    """Untrained, every pixel is grey; the border columns of digits are black."""
    public = parts.public
    settings = GanSettings(steps=120, batch_size=32, width=8, judge_steps=1)
    steps = []
    before, after = (
        train_gan(public, s, lambda p: steps.append(p.step)).network
        for s in (GanSettings(steps=1, batch_size=8, width=8, judge_steps=1), settings)
    )
    noise, classes = torch.randn(50, 64), torch.arange(50) % 10
    real = public.images.astype(np.float32).mean(0) / 127.5 - 1
    off = [np.abs(net(noise, classes).mean(0).numpy() - real).mean() for net in (before, after)]
    assert off[1] < 0.6 * off[0]
    assert steps[-1] == 120


class TestCheckpoints:
    def test_going_on_gives_the_same_weights(self, small_public: Dataset, tmp_path: Path) -> None:
        """Interrupted between two checkpoints, and between two penalties."""
        path = tmp_path / "checkpoint.safetensors"
        chosen = msgspec.structs.replace(TINY, steps=9)
        whole = train_gan(small_public, chosen)

        def stop(done: TrainingProgress) -> None:
            if done.step == 7:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_gan(small_public, chosen, stop, checkpoint=path, every=3)
        steps: list[int] = []
        after = train_gan(
            small_public, chosen, lambda p: steps.append(p.step), checkpoint=path, every=3
        )
        assert steps == [7, 8, 9], "from the checkpoint of step 6"
        for name, tensor in whole.network.state_dict().items():
            assert torch.equal(after.network.state_dict()[name], tensor), name
        assert after.card.loss == whole.card.loss

    def test_of_another_training(self, small_public: Dataset, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.safetensors"
        train_gan(small_public, TINY, checkpoint=path, every=2)
        other = msgspec.structs.replace(TINY, penalty=0.1)
        with pytest.raises(GeneratorError, match="other settings or other data"):
            train_gan(small_public, other, checkpoint=path)
        with pytest.raises(GeneratorError, match="other settings or other data"):
            train(small_public, DiffusionSettings(steps=1), checkpoint=path)

    def test_previews_do_not_change_the_training(
        self, trained: TrainedGan, small_public: Dataset
    ) -> None:
        seen: dict[int, tuple[int, ...]] = {}
        looked = train_gan(
            small_public,
            TINY,
            every=2,
            preview=lambda step, images: seen.update({step: images.shape}),
        )
        assert seen == {2: (100, 1, 8, 8), 3: (100, 1, 8, 8)}
        for name, tensor in trained.network.state_dict().items():
            assert torch.equal(looked.network.state_dict()[name], tensor), name


class TestBadInput:
    def test_sides(self) -> None:
        images = np.zeros((4, 1, 6, 8), np.uint8)
        odd = Dataset(name="odd", images=images, labels=np.zeros(4, np.int64), class_names=("a",))
        with pytest.raises(ValueError, match="sides divisible by 4, not 6×8"):
            train_gan(odd, TINY)

    def test_damage(self, folder: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        (copy / WEIGHTS).write_bytes(b"x")
        with pytest.raises(GeneratorError, match=r"is not the file that generator\.json describes"):
            load(copy)
        (copy / WEIGHTS).unlink()
        with pytest.raises(GeneratorError, match="cannot be read"):
            load(copy)
