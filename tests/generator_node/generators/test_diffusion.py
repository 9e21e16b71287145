"""fimi.generator_node.generators.diffusion: the contract of generators, guidance, and the weights
that ship."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from contract import GeneratorContract

from fimi.generator_node.generators import folder as folders
from fimi.generator_node.generators.base import Generator, GeneratorError, WrongDataError
from fimi.generator_node.generators.card import CARD, GRAPH, read_card, shipped_for
from fimi.generator_node.generators.diffusion import DiffusionGenerator
from fimi.generator_node.generators.onnx_diffusion import OnnxDiffusionGenerator
from fimi.generator_node.generators.open import load, open_generator
from fimi.generator_node.generators.solver import SolverName
from fimi.generator_node.service.gate import read_judge
from fimi.generator_node.training.diffusion_training import Trained
from fimi.generator_node.training.network import sampling_solver
from fimi.learning.data.dataset import Dataset, Split, load_digits, split


class TestTiny(GeneratorContract):
    @pytest.fixture
    def generator(self, tiny_generator: DiffusionGenerator) -> Generator:
        return tiny_generator


class TestOnnx(GeneratorContract):
    @pytest.fixture
    def generator(self, tiny_folder: Path) -> Generator:
        return OnnxDiffusionGenerator.load(tiny_folder, steps=2)


class TestOnnxGuidedOnThreads(GeneratorContract):
    @pytest.fixture
    def generator(self, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Generator:
        monkeypatch.setattr(OnnxDiffusionGenerator, "part", 5)
        return OnnxDiffusionGenerator.load(
            tiny_folder, steps=3, guidance=2.0, solver="ddim", threads=2
        )


class TestInParts(GeneratorContract):
    @pytest.fixture
    def generator(
        self, tiny_generator: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch
    ) -> Generator:
        monkeypatch.setattr(DiffusionGenerator, "part", 5)
        return tiny_generator


class TestEngines:
    """PyTorch with diffusers' schedulers and ONNX Runtime with ours draw the same images."""

    @pytest.mark.parametrize("solver", ["dpm++", "ddim"])
    @pytest.mark.parametrize("guidance", [1.0, 2.0])
    def test_they_agree(self, parts: Split, solver: SolverName, guidance: float) -> None:
        labels = np.arange(40, dtype=np.int64) % 10
        seeds = np.arange(40, dtype=np.uint64)
        one, other = (
            open_generator(
                parts.public, steps=8, guidance=guidance, solver=solver, engine=engine
            ).generate(labels, seeds)
            for engine in ("torch", "onnx")
        )
        # Snapped to 17 levels, a rounding error may move a pixel by one level, hardly ever.
        assert (one != other).mean() < 2e-3

    def test_a_folder_without_a_graph(self, tiny_folder: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / "old"))
        card = json.loads((folder / CARD).read_text())
        del card["graph_digest"]
        (folder / CARD).write_text(json.dumps(card))
        assert isinstance(load(folder), DiffusionGenerator)
        with pytest.raises(GeneratorError, match=r"holds no unet/model\.onnx"):
            load(folder, engine="onnx")

    def test_damage(self, tiny_folder: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / "damaged"))
        (folder / GRAPH).write_bytes(b"something else")
        with pytest.raises(GeneratorError, match=r"model\.onnx is not the file"):
            load(folder)
        (folder / GRAPH).unlink()
        with pytest.raises(GeneratorError, match="cannot be read"):
            load(folder)
        with pytest.raises(GeneratorError, match="cannot be loaded"):
            OnnxDiffusionGenerator(b"no graph", read_card(folder))

    def test_a_graph_for_other_images(self, tiny_folder: Path) -> None:
        card = msgspec.structs.replace(read_card(tiny_folder), image_shape=(3, 8, 8))
        with pytest.raises(GeneratorError, match=r"makes images \(1, 8, 8\).*\(3, 8, 8\)"):
            OnnxDiffusionGenerator((tiny_folder / GRAPH).read_bytes(), card)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_no_cuda_device(self, parts: Split) -> None:
        with pytest.raises(GeneratorError, match="no CUDA device"):
            open_generator(parts.public, engine="cuda")


class TestGuided(GeneratorContract):
    @pytest.fixture
    def generator(self, tiny_folder: Path) -> Generator:
        return DiffusionGenerator.load(tiny_folder, steps=2, guidance=2.5)


@pytest.fixture(scope="module")
def shipped(parts: Split) -> Generator:
    return open_generator(parts.public)


class TestShipped(GeneratorContract):
    @pytest.fixture
    def generator(self, shipped: Generator) -> Generator:
        return shipped

    def test_the_digits_can_be_recognised(self, generator: Generator, parts: Split) -> None:
        """By the shipped judge, which was trained on real images; it knows 94 % of real others."""
        labels = np.repeat(np.arange(10, dtype=np.int64), 20)
        images = generator.generate(labels, np.arange(200, dtype=np.uint64) + np.uint64(10**6))
        probabilities, _ = read_judge(shipped_for(parts.public)).look(images)
        assert (probabilities.argmax(1) == labels).mean() > 0.8
        assert len({image.tobytes() for image in images}) == 200

    def test_only_the_grey_levels_of_the_data(self, generator: Generator, parts: Split) -> None:
        images = generator.generate(*self.order(generator, 20))
        assert set(np.unique(images)) <= set(np.unique(parts.public.images))

    def test_threads_and_name(self, parts: Split, generator: Generator) -> None:
        assert generator.name == "digits-writers (dpm++, 20 steps, guidance 1, onnxruntime)"
        before = torch.get_num_threads()
        few = open_generator(parts.public, steps=1, threads=2, engine="torch")
        few.generate(*self.order(few, 1))
        assert torch.get_num_threads() == before


class TestOpenGenerator:
    def test_the_default_split_is_served_whatever_the_seed(self) -> None:
        for seed in (0, 1, 99):
            assert shipped_for(split(load_digits(), seed=seed).public).name == "digits-writers"

    def test_the_random_split_is_with_its_default_seed(self) -> None:
        public = split(load_digits(), kind="random", seed=0).public
        assert shipped_for(public).name == "digits-random"

    def test_another_split_is_not(self) -> None:
        public = split(load_digits(), kind="random", seed=1).public
        with pytest.raises(WrongDataError, match="fimi generator train") as caught:
            open_generator(public)
        assert public.digest()[:12] in str(caught.value)

    def test_nor_a_larger_public_part(self) -> None:
        with pytest.raises(
            WrongDataError, match="may have seen validation, private or test images"
        ):
            open_generator(split(load_digits(), public_fraction=0.5).public)

    def test_weights_of_ones_own(self, tiny_folder: Path, small_public: Dataset) -> None:
        generator = open_generator(small_public, str(tiny_folder), steps=3, guidance=2)
        assert generator.name == "tiny (dpm++, 3 steps, guidance 2, onnxruntime)"

    def test_weights_that_have_seen_other_data(self, tiny_folder: Path, parts: Split) -> None:
        with pytest.raises(WrongDataError, match="was trained on digits/few"):
            open_generator(parts.public, str(tiny_folder))

    def test_weights_that_have_seen_the_validation_images_too(
        self, tiny_folder: Path, parts: Split, tmp_path: Path
    ) -> None:
        """As generators did that were trained before there was a validation part."""
        digits = load_digits()
        all_public = digits.subset(np.arange(719), "digits/public")
        seen = {image.tobytes() for image in all_public.images}
        assert {image.tobytes() for image in parts.validation.images} <= seen
        older = tmp_path / "older"
        shutil.copytree(tiny_folder, older)
        card = json.loads((older / CARD).read_text())
        (older / CARD).write_text(json.dumps(card | {"data_digest": all_public.digest()}))
        assert open_generator(all_public, str(older), steps=2).name.startswith("tiny")
        with pytest.raises(WrongDataError, match="may have seen validation, private or test"):
            open_generator(parts.public, str(older))

    def test_no_such_folder(self, parts: Split, tmp_path: Path) -> None:
        with pytest.raises(GeneratorError, match="nowhere holds no"):
            open_generator(parts.public, str(tmp_path / "nowhere"))

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"steps": 0}, "steps is 0"),
            ({"steps": 1001}, "steps is 1001"),
            ({"guidance": -0.5}, "guidance is -0.5"),
            ({"guidance": float("nan")}, "guidance is nan"),
            ({"threads": 0}, "threads is 0"),
        ],
    )
    def test_out_of_range(
        self, tiny_folder: Path, small_public: Dataset, wrong: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(ValueError, match=says):
            open_generator(small_public, str(tiny_folder), **wrong)


class TestGuidance:
    def draw(self, folder: Path, labels: list[int], **options: float) -> np.ndarray:
        generator = DiffusionGenerator.load(folder, steps=3, **options)  # type: ignore[arg-type]
        return generator.generate(np.array(labels), np.full(len(labels), 5, np.uint64))

    def test_zero_ignores_the_class(self, tiny_folder: Path) -> None:
        images = self.draw(tiny_folder, [0, 3, 9], guidance=0.0)
        assert np.array_equal(images[0], images[1])
        assert np.array_equal(images[0], images[2])

    def test_one_is_the_limit_of_guidance_near_one(self, tiny_folder: Path) -> None:
        labels = [0, 1, 2, 3]
        plain = self.draw(tiny_folder, labels)
        near = self.draw(tiny_folder, labels, guidance=1 + 1e-6)
        assert (plain == near).mean() > 0.99
        assert not np.array_equal(plain, self.draw(tiny_folder, labels, guidance=8.0))


class TestPixels:
    def card(self, tiny: Trained, levels: tuple[int, ...]) -> DiffusionGenerator:
        card = msgspec.structs.replace(tiny.card, levels=levels)
        return DiffusionGenerator(tiny.unet, card, sampling_solver().config)

    def test_from_minus_one_to_one(self, tiny: Trained) -> None:
        values = np.array([-3.0, -1.0, 0.0, 1.0, 9.0], np.float32)
        assert self.card(tiny, ())._pixels(values).tolist() == [0, 0, 128, 255, 255]

    def test_snapped_to_the_nearest_level(self, tiny: Trained) -> None:
        values = np.array([0.0, 15.0, 40.0, 90.0, 254.0], np.float32) / np.float32(127.5) - 1
        assert self.card(tiny, (0, 30, 200))._pixels(values).tolist() == [0, 0, 30, 30, 200]

    def test_damaged_weights_are_noticed(self, tiny_folder: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(tiny_folder, tmp_path / "nan"))
        card = read_card(folder)
        unet = folders.read_unet(folder, card)
        unet.conv_out.bias.fill_(float("nan"))
        generator = DiffusionGenerator(unet, card, folders.read_scheduler(folder), steps=1)
        with pytest.raises(GeneratorError, match="not finite"):
            generator.generate(np.array([0]), np.array([0], np.uint64))
