"""fimi.testbed.tools.generators: training what the command line asks for, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.generators.card import read_card
from fimi.generator_node.generators.open import load
from fimi.learning.data.data_file import save
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config, ConfigError, DataConfig
from fimi.testbed.tools.generators import (
    CHECKPOINT,
    GeneratorRecipe,
    evaluate,
    keep,
    parse_channels,
    read_images,
    require_alike,
    train,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Public images of two classes, 12×12, in colour."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(8):
            pixels = random.integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{index}.png")
    return tmp_path / "pets"


@pytest.mark.parametrize("model", ["diffusion", "gan"])
def test_any_images(folder: Path, tmp_path: Path, model: str) -> None:
    said: list[str] = []
    channels = (8,) if model == "diffusion" else ()
    recipe = GeneratorRecipe(model=model, steps=3, batch_size=4, channels=channels, every=2)  # type: ignore[arg-type]

    def stop(text: str) -> None:
        if text.startswith("step 3/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Scenario(config=Config()), folder, tmp_path / "out", recipe, say=stop)
    train(Scenario(config=Config()), folder, tmp_path / "out", recipe, say=said.append)
    assert said[1].startswith("going on from")
    assert not any(text.startswith("step 2/3") for text in said)
    card = read_card(tmp_path / "out")
    assert (card.class_names, card.image_shape) == (("cat", "dog"), (3, 12, 12))
    assert card.data_digest == read_images(folder, DataConfig()).digest()
    images = load(tmp_path / "out").generate(np.array([0, 1]), np.array([1, 2], np.uint64))
    assert images.shape == (2, 3, 12, 12)
    assert "generator.weights" in said[-1]
    sheets = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert sheets == {"samples-000002.png", "samples-000003.png"}
    assert not (tmp_path / "out" / CHECKPOINT).exists()
    with pytest.raises(GeneratorError, match="holds a generator; choose another --out"):
        train(Scenario(config=Config()), folder, tmp_path / "out", recipe, say=said.append)


def test_a_sheet_of_each_class(folder: Path, tmp_path: Path) -> None:
    keep(tmp_path / "out", b'{"a":1}', read_images(folder, DataConfig()))
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"evaluation.json", "class-000-cat.png", "class-001-dog.png"}
    sheet = np.asarray(Image.open(tmp_path / "out" / "class-001-dog.png"))[::4, ::4]
    first = np.asarray(Image.open(folder / "dog" / "0.png"))
    assert np.array_equal(sheet[1:13, 1:13], first)


class TestRefusals:
    def test_a_network_that_does_not_fit(self, folder: Path, tmp_path: Path) -> None:
        recipe = GeneratorRecipe(steps=1, channels=(8, 8, 8, 8))
        with pytest.raises(ConfigError, match=r"halve the image 3 times, which 12×12 pixels"):
            train(Scenario(config=Config()), folder, tmp_path / "out", recipe, say=print)

    def test_what_is_of_diffusion_only(self, folder: Path, tmp_path: Path) -> None:
        recipe = GeneratorRecipe(model="gan", steps=1, channels=(8,))
        with pytest.raises(ConfigError, match="--channels is of a diffusion network"):
            train(Scenario(config=Config()), folder, tmp_path / "out", recipe, say=print)

    def test_a_device_that_there_is_not(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="--device tpu: there are cpu and cuda"):
            train(
                Scenario(config=Config()),
                folder,
                tmp_path / "out",
                GeneratorRecipe(steps=1, device="tpu"),
                say=print,
            )

    def test_a_graphics_card_that_there_is_not(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = GeneratorRecipe(steps=1, device="cuda:2")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(GeneratorError, match=r"no CUDA device: .*take --device cpu"):
            train(Scenario(config=Config()), folder, tmp_path / "out", recipe, say=print)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(GeneratorError, match="no CUDA device cuda:2; there is cuda:0, cuda:1"):
            train(Scenario(config=Config()), folder, tmp_path / "out", recipe, say=print)
        assert not (tmp_path / "out").exists()

    def test_channels(self) -> None:
        assert parse_channels("8,16") == (8, 16)
        assert parse_channels(None) == ()
        for text in ("8,x", "0", "-1,2"):
            with pytest.raises(ConfigError, match="write whole numbers"):
                parse_channels(text)

    def test_images_that_are_none(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(GeneratorError, match="holds 0 class folders"):
            read_images(tmp_path / "empty", DataConfig())
        (folder / "cat" / "bad.png").write_text("no image")
        with pytest.raises(GeneratorError, match=r"1 of 17 images cannot be used: .*bad\.png"):
            read_images(folder, DataConfig())

    def test_images_of_two_sizes(self, folder: Path) -> None:
        Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(folder / "dog" / "z.png")
        with pytest.raises(GeneratorError, match=r"images of 2 sizes.*set data\.image_size"):
            read_images(folder, DataConfig())
        assert read_images(folder, DataConfig(image_size=8)).image_shape == (3, 8, 8)

    def test_a_class_without_images(self, folder: Path, tmp_path: Path) -> None:
        found = read_images(folder, DataConfig())
        save(found.subset(np.arange(8), "cats"), tmp_path / "cats.npz")
        with pytest.raises(GeneratorError, match=r"cats\.npz holds no image of dog"):
            read_images(tmp_path / "cats.npz", DataConfig())
        (folder / "eel").mkdir()
        with pytest.raises(GeneratorError, match="eel: no images of this class"):
            read_images(folder, DataConfig())

    def test_parts_are_no_classes(self, folder: Path) -> None:
        folder.rename(folder.with_name("train"))
        with pytest.raises(GeneratorError, match=r"holds parts, not classes; name one.*train$"):
            read_images(folder.parent, DataConfig())

    def test_public_images_are_no_test(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match="--data needs --test"):
            evaluate(
                Scenario(config=Config()),
                folder,
                None,
                None,
                per_class=2,
                classifiers=1,
                threads=1,
                say=print,
            )

    def test_other_classes_or_sizes_are_no_test(self, folder: Path) -> None:
        public = read_images(folder, DataConfig())
        require_alike(public, public)
        with pytest.raises(
            GeneratorError, match="1 images of its rarest class; test on at least 4"
        ):
            require_alike(public, public.subset(np.arange(7, 16), "few"))
        with pytest.raises(GeneratorError, match=r"images \(3, 8, 8\) .*set data\.image_size"):
            require_alike(public, read_images(folder, DataConfig(image_size=8)))
        (folder / "dog").rename(folder / "eel")
        with pytest.raises(GeneratorError, match="has the classes cat, eel, pets has cat, dog"):
            require_alike(public, read_images(folder, DataConfig()))
