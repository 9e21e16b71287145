"""fimi.generator_node.generators.folder: what is saved is what is read, and damage is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from diffusers.models.unets.unet_2d import UNet2DModel

from fimi.generator_node.generators import folder as folders
from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.generators.card import CARD, read_card, shipped, shipped_for
from fimi.generator_node.generators.gan import WEIGHTS, GanGenerator, GanSettings
from fimi.generator_node.training.diffusion_training import DiffusionSettings, Trained
from fimi.learning.data.dataset import Split


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def read_all(folder: Path) -> None:
    card = read_card(folder)
    folders.read_unet(folder, card)
    folders.read_scheduler(folder)


class TestThereAndBack:
    def test_weights_and_card(self, tiny: Trained, tiny_folder: Path) -> None:
        card = read_card(tiny_folder)
        assert card.name == "tiny"
        assert card.training == json.loads(json.dumps(tiny.card.training))
        before = torch.random.get_rng_state()
        unet = folders.read_unet(tiny_folder, card)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert not unet.training
        for name, tensor in tiny.unet.state_dict().items():
            assert torch.equal(unet.state_dict()[name], tensor)

    def test_diffusers_reads_it_too(self, tiny: Trained, tiny_folder: Path) -> None:
        unet = UNet2DModel.from_pretrained(tiny_folder, subfolder="unet", use_safetensors=True)
        assert torch.equal(unet.conv_in.weight, tiny.unet.conv_in.weight)

    def test_saving_again_replaces(self, tiny: Trained, copy: Path) -> None:
        before = (copy / folders.UNET_WEIGHTS).read_bytes()
        tiny.save(copy)
        assert (copy / folders.UNET_WEIGHTS).read_bytes() == before
        assert not list(copy.rglob("*.part"))

    def test_a_save_that_fails_leaves_no_card(self, tiny: Trained, tmp_path: Path) -> None:
        (tmp_path / "unet").write_text("in the way")
        with pytest.raises(OSError, match="unet"):
            tiny.save(tmp_path)
        assert not (tmp_path / CARD).exists()


class TestDamage:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(GeneratorError, match=r"holds no generator\.json.*fimi generator train"):
            read_card(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", [folders.UNET_CONFIG, folders.UNET_WEIGHTS])
    def test_a_file_is_missing(self, copy: Path, name: str) -> None:
        (copy / name).unlink()
        with pytest.raises(GeneratorError, match=f"{name} cannot be read"):
            read_all(copy)

    def test_no_scheduler(self, copy: Path) -> None:
        (copy / folders.SCHEDULER_CONFIG).unlink()
        with pytest.raises(GeneratorError, match="cannot be read"):
            read_all(copy)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"surprise": 1}, "surprise"),
            ({"kind": "something-else"}, "something-else"),
            ({"data_digest": "short"}, "data_digest"),
            ({"levels": [0, 256]}, "levels"),
        ],
    )
    def test_the_card(self, copy: Path, changes: dict[str, object], says: str) -> None:
        edit(copy / CARD, **changes)
        with pytest.raises(GeneratorError, match=says):
            read_card(copy)

    def test_weights_of_another_generator(self, copy: Path) -> None:
        weights = bytearray((copy / folders.UNET_WEIGHTS).read_bytes())
        weights[-1] ^= 1
        (copy / folders.UNET_WEIGHTS).write_bytes(weights)
        with pytest.raises(GeneratorError, match=r"is not the file that generator\.json describes"):
            read_all(copy)

    def test_weights_that_do_not_fit_the_network(self, copy: Path) -> None:
        edit(copy / folders.UNET_CONFIG, block_out_channels=[12])
        with pytest.raises(GeneratorError, match="do not fit"):
            read_all(copy)

    def test_a_config_that_makes_no_network(self, copy: Path) -> None:
        edit(copy / folders.UNET_CONFIG, down_block_types=["NoSuchBlock"])
        with pytest.raises(GeneratorError, match=r"do not fit.*NoSuchBlock"):
            read_all(copy)

    def test_a_config_that_is_no_object(self, copy: Path) -> None:
        (copy / folders.UNET_CONFIG).write_text("[]")
        with pytest.raises(GeneratorError, match="does not hold a JSON object"):
            read_all(copy)

    def test_another_number_of_classes_than_promised(self, copy: Path) -> None:
        edit(copy / CARD, class_names=["a", "b"])
        with pytest.raises(GeneratorError, match=r"promises images .* of 2 classes"):
            read_all(copy)

    def test_a_scheduler_of_another_kind(self, copy: Path) -> None:
        edit(copy / folders.SCHEDULER_CONFIG, _class_name="DDPMScheduler")
        with pytest.raises(GeneratorError, match="names scheduler 'DDPMScheduler'"):
            read_all(copy)


class TestShipped:
    def test_small_enough_and_whole(self, parts: Split) -> None:
        diffusion, gan = shipped_for(parts.public), shipped_for(parts.public, "conditional-gan")
        assert {diffusion, gan} <= set(shipped())
        for folder in shipped():
            assert sum(path.stat().st_size for path in folder.rglob("*")) < 2_000_000
        read_all(diffusion)
        assert (gan / WEIGHTS).stat().st_size < 1_000_000
        GanGenerator.load(gan)

    def test_no_pickles(self) -> None:
        for folder in shipped():
            files = [path for path in folder.rglob("*") if path.is_file()]
            assert {path.suffix for path in files} <= {".json", ".onnx", ".safetensors"}
            for path in folder.rglob("*.safetensors"):
                safetensors.torch.load_file(path)

    def test_trained_with_all_steps_of_the_recipe(self) -> None:
        for folder in shipped():
            card = read_card(folder)
            recipe = DiffusionSettings if "diffusion" in card.kind else GanSettings
            assert card.training["steps"] == recipe().steps
            assert card.dataset == "digits/public"
            assert len(card.levels) == 17
