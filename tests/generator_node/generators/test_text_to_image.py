"""fimi.generator_node.generators.text_to_image: a real pipeline with random weights, offline."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pipeline
from contract import GeneratorContract

from fimi.generator_node.generators.base import Generator, GeneratorError
from fimi.generator_node.generators.prompts import TEMPLATES, prompts
from fimi.generator_node.generators.text_to_image import TextSettings, TextToImageGenerator, fit
from fimi.learning.data.dataset import Dataset

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    tiny_pipeline.save(folder)
    return folder


@pytest.fixture(scope="module")
def animals() -> Dataset:
    images = np.zeros((0, 3, 6, 6), np.uint8)
    names = ("cat", "dog", "apple")
    labels = np.zeros(0, np.int64)
    return Dataset(name="cifar-100/public", images=images, labels=labels, class_names=names)


@pytest.fixture(scope="module")
def shared(folder: Path, animals: Dataset) -> TextToImageGenerator:
    settings = TextSettings(model=str(folder), steps=1, size=16, batch_size=5)
    return TextToImageGenerator.load(animals, settings)


class TestContract(GeneratorContract):
    @pytest.fixture
    def generator(self, shared: TextToImageGenerator) -> Generator:
        return shared


class Recording:
    """The pipeline, watched, and failing as real ones do."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: list[tuple[list[str], dict[str, Any]]] = []
        self.fits = 1000
        self.flagged: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.calls.append((texts, options))
        if len(texts) > self.fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        result = self.inner(texts, **options)
        call = len(self.calls) - 1
        if call in self.flagged:
            result.images[0] = 0
            result.nsfw_content_detected = [True] + [False] * (len(texts) - 1)
        return result


@pytest.fixture
def watched(shared: TextToImageGenerator, animals: Dataset) -> tuple[Recording, Any]:
    pipeline = Recording(shared._pipeline)
    settings = TextSettings(model="x", steps=1, size=16, batch_size=8, redraws=2)
    return pipeline, TextToImageGenerator(pipeline, animals, settings)


ORDER = (np.array([0, 1, 2, 0, 1, 2]), np.arange(6, dtype=np.uint64))


class TestCalls:
    def test_what_the_model_is_asked(self, watched: tuple[Recording, Any]) -> None:
        pipeline, generator = watched
        generator.generate(*ORDER)
        ((texts, options),) = pipeline.calls
        assert len(texts) == 6
        assert all("an apple, the fruit" in text for text in texts[2::3])
        assert options["num_inference_steps"] == 1
        assert options["guidance_scale"] == 7.0
        assert len(options["negative_prompt"]) == 6
        assert options["height"] == options["width"] == 16

    def test_other_names_are_other_images(self, watched: tuple[Recording, Any]) -> None:
        """Not those that a pool holds of a data set of the same name."""
        pipeline, generator = watched
        like = Dataset(
            name="cifar-100/public",
            images=np.zeros((0, 3, 6, 6), np.uint8),
            labels=np.zeros(0, np.int64),
            class_names=("cat", "dog", "pear"),
        )
        settings = TextSettings(model="x", steps=1, size=16, batch_size=8, redraws=2)
        other = TextToImageGenerator(pipeline, like, settings).provenance
        assert other.data_digest != generator.provenance.data_digest

    def test_batches_are_halved_until_they_fit(
        self, watched: tuple[Recording, Any], shared: TextToImageGenerator
    ) -> None:
        pipeline, generator = watched
        pipeline.fits = 2
        images = generator.generate(*ORDER)
        assert [len(texts) for texts, _ in pipeline.calls] == [6, 4, 2, 2, 2]
        assert np.array_equal(images, shared.generate(*ORDER))

    def test_not_even_one_fits(self, watched: tuple[Recording, Any]) -> None:
        pipeline, generator = watched
        pipeline.fits = 0
        with pytest.raises(RuntimeError, match="out of memory"):
            generator.generate(*ORDER)

    def test_black_images_are_drawn_again(
        self, watched: tuple[Recording, Any], shared: TextToImageGenerator
    ) -> None:
        pipeline, generator = watched
        pipeline.flagged = {0}
        images = generator.generate(*ORDER)
        assert [len(texts) for texts, _ in pipeline.calls] == [6, 1]
        plain = shared.generate(*ORDER)
        assert np.array_equal(images[1:], plain[1:])
        assert images[0].any()
        assert not np.array_equal(images[0], plain[0])

    def test_but_not_for_ever(self, watched: tuple[Recording, Any]) -> None:
        pipeline, generator = watched
        pipeline.flagged = {0, 1, 2, 3, 4}
        images = generator.generate(*ORDER)
        assert len(pipeline.calls) == 3
        assert not images[0].any()


class TestBadInput:
    def test_no_such_folder(self, animals: Dataset, tmp_path: Path) -> None:
        settings = TextSettings(model=str(tmp_path / "none"), download=False)
        with pytest.raises(GeneratorError, match=r"cannot be loaded.*generator\.text_model"):
            TextToImageGenerator.load(animals, settings)

    @pytest.mark.parametrize(
        "missing", ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "vae"]
    )
    def test_missing_files(
        self, folder: Path, animals: Dataset, tmp_path: Path, missing: str
    ) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        path = copy / missing
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        with pytest.raises(GeneratorError, match="cannot be loaded"):
            TextToImageGenerator.load(animals, TextSettings(model=str(copy)))

    def test_mismatched_files(self, folder: Path, animals: Dataset, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        config = copy / "unet" / "config.json"
        config.write_text(
            config.read_text().replace('"cross_attention_dim": 32', '"cross_attention_dim": 48')
        )
        with pytest.raises(GeneratorError, match="cannot be loaded"):
            TextToImageGenerator.load(animals, TextSettings(model=str(copy)))

    def test_channels(self, shared: TextToImageGenerator, animals: Dataset) -> None:
        five = Dataset(
            name="odd", images=np.zeros((0, 5, 6, 6), np.uint8), labels=animals.labels,
            class_names=("a",),
        )  # fmt: skip
        with pytest.raises(GeneratorError, match="images of 5 channels"):
            TextToImageGenerator(shared._pipeline, five, TextSettings())


class TestFit:
    def test_the_middle_is_kept(self) -> None:
        picture = np.zeros((20, 60, 3), np.uint8)
        picture[:, 20:40] = (200, 100, 50)
        small = fit(picture, (3, 4, 4))
        assert small.shape == (3, 4, 4)
        assert (small.transpose(1, 2, 0) == (200, 100, 50)).all()

    def test_antialiased(self) -> None:
        """A chequerboard of single pixels becomes grey, not black or white."""
        board = np.indices((64, 64)).sum(0) % 2 * 255
        picture = np.repeat(board[..., None], 3, 2).astype(np.uint8)
        assert np.abs(fit(picture, (1, 8, 8)).astype(int) - 127).max() < 12


class TestPrompts:
    def test_a_template_per_seed(self) -> None:
        seeds = np.arange(200, dtype=np.uint64)
        texts = prompts(("a cat",), np.zeros(200, np.int64), seeds)
        assert {t.replace("a cat", "{}") for t in texts} == set(TEMPLATES)
        assert texts == prompts(("a cat",), np.zeros(200, np.int64), seeds)
