"""fimi.testbed.processes.generator_node: which generator and which gate a configuration means."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from fimi.generator_node.generators.base import FiniteGenerator, GeneratorError
from fimi.generator_node.generators.card import find_for
from fimi.generator_node.generators.gan import GanGenerator
from fimi.generator_node.generators.onnx_diffusion import OnnxDiffusionGenerator
from fimi.generator_node.generators.text_to_image import TextSettings
from fimi.learning.data.dataset import Dataset
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config, DataConfig, GeneratorConfig
from fimi.testbed.processes.generator_node import check, open_configured, open_gate, text_settings


@pytest.fixture(scope="module")
def public() -> Dataset:
    return Scenario(config=Config()).split.public


def configured(**chosen: object) -> Config:
    return Config(generator=GeneratorConfig(**chosen))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "what"), [("trained", OnnxDiffusionGenerator), ("gan", GanGenerator)]
)
def test_without_weights_the_shipped_one(kind: str, what: type, public: Dataset) -> None:
    config = configured(kind=kind)
    check(Scenario(config=config))
    assert isinstance(open_configured(config, public), what)
    assert open_gate(config, public) is not None


def test_trained_takes_a_gan_too_but_gan_no_diffusion_model(public: Dataset) -> None:
    gan = str(find_for(public, kind="conditional-gan"))
    assert isinstance(open_configured(configured(weights=gan), public), GanGenerator)
    wrong = configured(kind="gan", weights=str(find_for(public)))
    for use in (check, lambda scenario: open_gate(scenario.config, public)):
        with pytest.raises(GeneratorError, match=r"not a conditional-gan; name another folder"):
            use(Scenario(config=wrong))


def test_public_samples_are_not_judged(public: Dataset) -> None:
    config = configured(kind="public", gate=True)
    check(Scenario(config=config))
    assert isinstance(open_configured(config, public), FiniteGenerator)
    assert open_gate(config, public) is None


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(GeneratorError, match=r"holds no generator\.json"):
        check(Scenario(config=configured(kind="gan", weights=str(tmp_path))))


def test_data_that_no_shipped_gan_knows() -> None:
    config = Config(data=DataConfig(public_fraction=0.3), generator=GeneratorConfig(kind="gan"))
    with pytest.raises(GeneratorError, match="no conditional-gan that ships with fimi"):
        check(Scenario(config=config))


class TestText:
    def test_the_configuration_has_the_same_defaults(self) -> None:
        assert text_settings(configured(kind="text")) == TextSettings()

    def test_every_key_arrives(self) -> None:
        chosen = text_settings(
            configured(
                kind="text",
                steps=2,
                text_model="a/b",
                text_guidance=0.0,
                text_templates=("{} at night",),
                class_meanings="cifar-10",
                text_negative="fog",
                text_size=64,
                text_batch_size=3,
                text_dtype="bfloat16",
            )
        )
        assert chosen == TextSettings(
            model="a/b",
            steps=2,
            guidance=0.0,
            templates=("{} at night",),
            class_meanings="cifar-10",
            negative="fog",
            size=64,
            batch_size=3,
            dtype="bfloat16",
        )

    def test_names_that_say_nothing_are_noticed_before_anything_starts(
        self, tmp_path: Path
    ) -> None:
        for number in range(2):
            (tmp_path / str(number)).mkdir()
            for shade in range(30):
                pixels = np.full((8, 8), 8 * shade + number, np.uint8)
                Image.fromarray(pixels).save(tmp_path / str(number) / f"{shade}.png")
        data = DataConfig(dataset="image-folder", root=str(tmp_path))
        table = tmp_path / "meanings.toml"
        table.write_text('0 = "an empty bus"\n1 = "a full bus"\n')
        known = GeneratorConfig(kind="text", class_meanings=str(table))
        check(Scenario(config=Config(data=data, generator=known)))
        with pytest.raises(GeneratorError, match="class 0, 1 of image-folder/public says nothing"):
            check(Scenario(config=Config(data=data, generator=GeneratorConfig(kind="text"))))

    @pytest.mark.parametrize("templates", [["a photo"], []])
    def test_a_template_has_a_place_for_the_class(self, templates: list[str]) -> None:
        with pytest.raises(msgspec.ValidationError, match=r"text_templates"):
            msgspec.convert({"generator": {"text_templates": templates}}, Config)
