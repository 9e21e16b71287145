"""fimi.generator_node.training.diffusion_training: reproducible, learns, and reads nothing but the
public data."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.training.augmentation import AugmentationSettings, augment
from fimi.generator_node.training.diffusion_training import (
    DiffusionSettings,
    Trained,
    levels_of,
    train,
)
from fimi.generator_node.training.loop import TrainingProgress
from fimi.generator_node.training.network import NetworkSettings
from fimi.learning.data.dataset import Dataset

SMALL = DiffusionSettings(
    steps=3,
    batch_size=16,
    judge_steps=2,
    network=NetworkSettings(channels=(8,), norm_groups=4),
    seed=3,
)


class TestTrain:
    def test_the_same_seed_gives_the_same_weights(self, small_public: Dataset) -> None:
        before = torch.random.get_rng_state()
        first, again = (train(small_public, SMALL) for _ in range(2))
        other = train(small_public, msgspec.structs.replace(SMALL, seed=4))
        assert torch.equal(torch.random.get_rng_state(), before)
        for name, tensor in first.unet.state_dict().items():
            assert torch.equal(tensor, again.unet.state_dict()[name])
        assert not torch.equal(first.unet.conv_in.weight, other.unet.conv_in.weight)

    def test_the_loss_falls(self, parts) -> None:
        seen: list[TrainingProgress] = []
        train(parts.public, msgspec.structs.replace(SMALL, steps=120, batch_size=64), seen.append)
        # An untrained network predicts nearly nothing; the loss is then the velocity's variance.
        assert seen[0].loss > 0.7
        # The running mean lags by some 50 steps: the ratio after 120 is 0.71 to 0.83 for three
        # seeds (diffusers 0.42.1, torch 2.15), and 1.04 with a learning rate of 1e-9.
        assert seen[-1].loss < 0.9 * seen[0].loss
        assert [done.step for done in seen] == list(range(1, 121))
        assert seen[-1].steps == 120

    def test_the_card_says_what_was_done(self, tiny: Trained, small_public: Dataset) -> None:
        card = tiny.card
        assert card.data_digest == small_public.digest()
        assert card.dataset == "digits/few"
        assert card.class_names == small_public.class_names
        assert card.image_shape == (1, 8, 8)
        assert card.training["seed"] == 3
        assert card.libraries.keys() == {"diffusers", "numpy", "torch"}
        assert 0 < card.loss < 10

    def test_more_images_per_step_than_there_are(self, small_public: Dataset) -> None:
        few = small_public.subset(np.arange(3), "three")
        assert train(few, SMALL).card.loss > 0

    def test_colour_images(self) -> None:
        images = np.random.default_rng(0).integers(0, 256, (8, 3, 4, 4)).astype(np.uint8)
        labels = np.arange(8, dtype=np.int64) % 2
        colours = Dataset(name="c", images=images, labels=labels, class_names=("a", "b"))
        trained = train(colours, SMALL)
        assert trained.card.levels == ()
        assert trained.unet.config.in_channels == 3

    def test_no_images(self, small_public: Dataset) -> None:
        empty = small_public.subset(np.arange(0), "none")
        with pytest.raises(ValueError, match="none holds no images"):
            train(empty, SMALL)

    @pytest.mark.parametrize(
        "wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"null_share": 1.0}, {"ema_decay": 1.5}]
    )
    def test_settings_out_of_range(self, small_public: Dataset, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            train(small_public, msgspec.structs.replace(SMALL, **wrong))

    def test_a_training_that_diverges(self, small_public: Dataset) -> None:
        wild = msgspec.structs.replace(SMALL, steps=60, learning_rate=1e30, warmup_steps=1)
        with pytest.raises(FloatingPointError, match=r"take a learning_rate below 1e\+30"):
            train(small_public, wild)


class TestAugment:
    @settings(max_examples=30, deadline=None)
    @given(
        probability=st.floats(0, 1),
        rotation=st.floats(0, 180),
        shift=st.floats(0, 10),
        scale=st.floats(0, 0.9),
        seed=st.integers(0, 1000),
    )
    def test_stays_an_image(
        self, probability: float, rotation: float, shift: float, scale: float, seed: int
    ) -> None:
        draw = torch.Generator().manual_seed(seed)
        images = torch.rand(5, 2, 6, 4, generator=draw) * 2 - 1
        chosen = AugmentationSettings(
            probability=probability, rotation_degrees=rotation, shift_pixels=shift, scale=scale
        )
        changed = augment(images, chosen, draw)
        assert changed.shape == images.shape
        assert float(changed.abs().max()) <= 1

    def test_no_change_at_all(self) -> None:
        draw = torch.Generator().manual_seed(0)
        images = torch.rand(20, 1, 8, 8, generator=draw) * 2 - 1
        assert torch.equal(augment(images, AugmentationSettings(probability=0), draw), images)
        still = AugmentationSettings(probability=1, rotation_degrees=0, shift_pixels=0, scale=0)
        torch.testing.assert_close(augment(images, still, draw), images, atol=1e-5, rtol=0)

    def test_about_half_are_changed_and_what_comes_in_is_black(self) -> None:
        draw = torch.Generator().manual_seed(0)
        images = torch.ones(400, 1, 8, 8)
        far = AugmentationSettings(rotation_degrees=0, shift_pixels=2.0, scale=0)
        changed = augment(images, far, draw)
        touched = (changed != 1).flatten(1).any(1)
        assert 150 < int(touched.sum()) < 250
        # Exactly black only where the kernel does not reach the image, so shift by 2 at most.
        assert float(changed.min()) == -1.0

    def test_shifts_are_in_pixels_both_ways(self) -> None:
        """A bright column moves by at most the shift, in wide images too."""
        draw = torch.Generator().manual_seed(0)
        images = -torch.ones(200, 1, 4, 16)
        images[..., 8] = 1
        moved = AugmentationSettings(probability=1, rotation_degrees=0, shift_pixels=3, scale=0)
        columns = (augment(images, moved, draw) + 1).sum(dim=(1, 2)).argmax(1)
        assert int(columns.min()) == 5
        assert int(columns.max()) == 11


class TestLevels:
    def test_of_few_values(self, small_public: Dataset) -> None:
        levels = levels_of(small_public)
        assert len(levels) == 17
        assert set(np.unique(small_public.images)) == set(levels)

    def test_of_many(self) -> None:
        images = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
        labels = np.zeros(4, np.int64)
        assert levels_of(Dataset(name="x", images=images, labels=labels, class_names=("a",))) == ()

    def test_on_request_only(self, small_public: Dataset) -> None:
        plain = train(small_public, msgspec.structs.replace(SMALL, steps=1, quantise=False))
        assert plain.card.levels == ()


class TestCheckpoints:
    def test_going_on_gives_the_same_weights(self, small_public: Dataset, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.safetensors"
        chosen = msgspec.structs.replace(SMALL, steps=7)
        whole = train(small_public, chosen)

        class StoppedError(Exception):
            pass

        def stop(done: TrainingProgress) -> None:
            if done.step == 5:
                raise StoppedError

        with pytest.raises(StoppedError):
            train(small_public, chosen, stop, checkpoint=path, every=2)
        steps: list[int] = []
        after = train(
            small_public, chosen, lambda p: steps.append(p.step), checkpoint=path, every=2
        )
        assert steps == [5, 6, 7], "from the checkpoint of step 4"
        for name, tensor in whole.unet.state_dict().items():
            assert torch.equal(after.unet.state_dict()[name], tensor), name
        assert after.card.loss == whole.card.loss

    def test_of_another_training(self, small_public: Dataset, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.safetensors"
        chosen = msgspec.structs.replace(SMALL, steps=3)
        train(small_public, chosen, checkpoint=path, every=2)
        other = msgspec.structs.replace(chosen, learning_rate=2e-3)
        with pytest.raises(GeneratorError, match="other settings or other data"):
            train(small_public, other, checkpoint=path)
        path.write_bytes(b"junk")
        with pytest.raises(GeneratorError, match="cannot be read"):
            train(small_public, chosen, checkpoint=path)

    def test_previews_do_not_change_the_training(self, small_public: Dataset) -> None:
        chosen = msgspec.structs.replace(SMALL, steps=3)
        seen: dict[int, tuple[int, ...]] = {}
        looked = train(
            small_public,
            chosen,
            every=2,
            preview=lambda step, images: seen.update({step: images.shape}),
        )
        assert seen == {2: (100, 1, 8, 8), 3: (100, 1, 8, 8)}
        plain = train(small_public, chosen)
        for name, tensor in plain.unet.state_dict().items():
            assert torch.equal(looked.unet.state_dict()[name], tensor), name
