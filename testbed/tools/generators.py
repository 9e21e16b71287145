"""Training generators and measuring them, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.files import write_whole
from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.generators.card import CARD
from fimi.generator_node.service.service import BatchService
from fimi.learning.data import data_file
from fimi.learning.data.batches import decode
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.data.dataset import Dataset, DatasetError, Images
from fimi.learning.data.folder import read_classes
from fimi.messaging.messages.synthesis import SyntheticRequest
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import ConfigError, DataConfig
from fimi.testbed.processes.generator_node import open_configured, open_gate
from fimi.testbed.processes.torch_cache import torch_cache

CHECKPOINT = "checkpoint.safetensors"
LEAST_TESTS = 4
"""Smallest number of real images of a class for a comparison."""


class GeneratorRecipe(Struct, frozen=True, kw_only=True):
    """Settings of the training of a generator.

    Attributes:
        model: diffusion model or GAN.
        steps: optimiser steps; ``None``: the model's default.
        batch_size: images per step; ``None``: the model's default.
        channels: channels of a diffusion network's levels; empty: by the size of images.
        device: ``"cpu"`` or a CUDA device.
        every: steps between checkpoints and sheets.
        threads: PyTorch's threads.
    """

    model: Literal["diffusion", "gan"] = "diffusion"
    steps: int | None = None
    batch_size: int | None = None
    channels: tuple[int, ...] = ()
    device: str = "cpu"
    every: int = 500
    threads: int = 1


def parse_channels(text: str | None) -> tuple[int, ...]:
    """``"64,128"`` as numbers.

    Raises:
        ConfigError: they are not positive numbers.
    """
    try:
        found = tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        found = (0,)
    if any(number < 1 for number in found):
        raise ConfigError(
            f"--channels {text}: write whole numbers, for example 64,128,128", code="U001"
        )
    return found


def train(
    scenario: Scenario,
    data: Path | None,
    out: Path,
    recipe: GeneratorRecipe,
    *,
    say: Callable[[str], None],
) -> None:
    """Train a generator and save it.

    Args:
        scenario: gives the public part.
        data: public images to use instead.
        out: folder to write; must not contain a generator yet.
        recipe: settings of the training.
        say: called with lines of progress.

    Raises:
        ConfigError: the settings contradict each other or do not fit the images.
        GeneratorError: the folder contains a generator, or the training diverged.
        OSError: it cannot be written.
    """
    config = scenario.config
    if recipe.model == "gan" and recipe.channels:
        raise ConfigError(
            "--channels is of a diffusion network; leave it out for a GAN", code="U001"
        )
    on_gpu = recipe.device.startswith("cuda")
    if not on_gpu and recipe.device != "cpu":
        raise ConfigError(
            f"--device {recipe.device}: there are cpu and cuda (cuda:1, …)", code="U001"
        )
    if (out / CARD).exists():
        raise GeneratorError(f"{out} holds a generator; choose another --out")
    if data:
        public = read_images(data, config.data)
        name = public.name.replace("/", "-")
    else:
        split = scenario.split
        public = split.public
        name = f"{config.data.dataset.replace(':', '-')}-{split.kind}"
    with torch_cache():
        from fimi.generator_node.generators.open import require_cuda
        from fimi.generator_node.training.loop import TrainingProgress
        from fimi.generator_node.training.quality import contact_sheet
    if on_gpu:
        require_cuda(recipe.device, instead="--device cpu")
    out.mkdir(parents=True, exist_ok=True)
    say(f"training on {len(public)} images of {public.name}")
    if (out / CHECKPOINT).exists():
        say(f"going on from {out / CHECKPOINT}")

    def progress(done: TrainingProgress) -> None:
        left_s = done.seconds * (done.steps - done.step) / max(done.step, 1)
        say(
            f"step {done.step}/{done.steps}  loss {done.loss:.4f}  {done.seconds:.0f} s, "
            f"{left_s:.0f} s left"
        )
        if done.step == done.steps:
            say("now samples, and the classifier that judges images (generator.gate)")

    def preview(step: int, images: Images) -> None:
        contact_sheet(images, columns=10).save(out / f"samples-{step:06d}.png")

    common: dict[str, Any] = {
        "threads": recipe.threads,
        "device": recipe.device,
        "checkpoint": out / CHECKPOINT,
        "every": recipe.every,
        "preview": preview,
    }
    try:
        if recipe.model == "gan":
            from fimi.generator_node.generators.gan import GanSettings
            from fimi.generator_node.training.gan_training import train_gan

            card = train_gan(
                public,
                GanSettings(
                    steps=recipe.steps or GanSettings().steps,
                    seed=config.run.seed,
                    batch_size=recipe.batch_size or GanSettings().batch_size,
                ),
                progress,
                name=f"{name}-gan",
                **common,
            ).save(out)
        else:
            from fimi.generator_node.training.diffusion_training import DiffusionSettings
            from fimi.generator_node.training.diffusion_training import train as fit
            from fimi.generator_node.training.network import network_for

            card = fit(
                public,
                DiffusionSettings(
                    steps=recipe.steps or DiffusionSettings().steps,
                    seed=config.run.seed,
                    batch_size=recipe.batch_size or DiffusionSettings().batch_size,
                    network=network_for(public.image_shape, recipe.channels),
                ),
                progress,
                name=name,
                **common,
            ).save(out)
        (out / CHECKPOINT).unlink(missing_ok=True)
    except ValueError as error:
        raise ConfigError(str(error), code="G001") from error
    except FloatingPointError as error:
        raise GeneratorError(str(error)) from error
    say(f"{out}: loss {card.loss}, {card.seconds:.0f} s; use it with generator.weights = '{out}'")


def evaluate(
    scenario: Scenario,
    data: Path | None,
    test: Path | None,
    out: Path | None,
    *,
    per_class: int,
    classifiers: int,
    threads: int,
    say: Callable[[str], None],
) -> None:
    """Measure the configured generator, quality gate included.

    Args:
        scenario: gives generator, gate and data.
        data: public images to use instead of the configured ones.
        test: real images to test on instead of the configured validation part.
        out: folder for ``evaluation.json`` and a sheet of samples per class; ``None``: none.
        per_class: number of images of every class.
        classifiers: number of classifiers per class accuracy score.
        threads: PyTorch's threads.
        say: called with lines of the result.

    Raises:
        ConfigError: there are no images to test on.
        GeneratorError: the generator or the data cannot be used.
    """
    if data and not test:
        raise ConfigError(
            "--data needs --test: real images that the generator has not seen", code="U001"
        )
    config, parts = scenario.config, scenario.split
    public = read_images(data, config.data) if data else parts.public
    tests = [read_images(test, config.data)] if test else [parts.validation]
    for each in tests:
        require_alike(public, each)
    generator = open_configured(config, public)
    gate = open_gate(config, public)
    service = BatchService(generator, gate=gate, trial=False, images_max=per_class * public.classes)
    made = service.make(
        SyntheticRequest(
            run="evaluation",
            device="evaluation",
            counts=(per_class,) * public.classes,
            seed=config.run.seed,
        )
    )
    if sum(made.delivered) < 2:
        raise GeneratorError(f"{generator.name}: {sum(made.delivered)} images; {made.error}")
    batch = decode(made.data, classes=public.classes)
    generated = Dataset(
        name="generated",
        images=batch.images,
        labels=batch.labels,
        class_names=public.class_names,
    )
    with torch_cache():
        from fimi.generator_node.training import evaluation
        from fimi.generator_node.training.judge import train_judge
    judge = gate.judged_by if gate else None
    if judge is None:
        from fimi.generator_node.service.gate import Judge

        judge = Judge(train_judge(public, threads=threads))
    found = evaluation.evaluate(
        generator.name,
        generated,
        public,
        tests,
        judge,
        classifiers=classifiers,
        seed=config.run.seed,
        threads=threads,
    )
    drawn = max(made.drawn, 1)
    refused = ", ".join(f"{n} {why}" for why, n in sorted(made.refused.items())) or "none"
    say(f"{found.generator}: {len(generated)} images of {made.drawn} drawn, refused: {refused}")
    if made.error:
        say(made.error)
    say(f"{1000 * made.seconds / drawn:.2f} ms per image drawn")
    for score in found.scores:
        say(
            f"class accuracy score  {score.trained_on} ({score.images}) on {score.tested_on}: "
            f"{score.mean:.4f} ± {score.deviation:.4f}"
        )
    if found.worth is None:
        say("worth of a generated image: these scores do not tell; take more classifiers")
    else:
        say(
            f"a generated image is worth {found.worth} (plan.synthetic_value; fewer images, "
            "another value)"
        )
    for like in found.likeness:
        say(
            f"{like.name}: purity {like.purity:.3f}, Fréchet {like.frechet:.1f}, density "
            f"{like.density:.2f}, coverage {like.coverage:.2f}, diversity {like.diversity:.2f}, "
            f"near-copies {like.near_copies:.2%}, nearest {like.nearest:.3f}"
        )
    if out is not None:
        keep(out, msgspec.json.encode(found), generated)
        say(f"results and sheets: {out}")


def keep(out: Path, results: bytes, generated: Dataset) -> None:
    """Write ``evaluation.json`` and a sheet of up to 100 samples for each class that has any.

    Raises:
        OSError: they cannot be written.
    """
    with torch_cache():
        from fimi.generator_node.training.quality import contact_sheet
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "evaluation.json", msgspec.json.format(results, indent=2) + b"\n")
    for class_id, name in enumerate(generated.class_names):
        images = generated.images[generated.labels == class_id][:100]
        if len(images):
            sheet = contact_sheet(images, columns=10)
            sheet.save(out / f"class-{class_id:03d}-{_plain(name)}.png")


def read_images(path: Path, how: DataConfig) -> Dataset:
    """Images from a data file, or from a folder with one folder per class.

    Args:
        path: the file or the folder.
        how: size and mode to which the images of a folder are converted.

    Raises:
        GeneratorError: they cannot be read, or a class has no images.
    """
    options = DatasetOptions(image_size=how.image_size, image_mode=how.image_mode)
    try:
        found = read_classes(path, options) if path.is_dir() else data_file.load(path).dataset
    except (DatasetError, OSError) as error:
        raise GeneratorError(str(error)) from error
    counts = zip(found.class_names, found.label_counts(), strict=True)
    if empty := [name for name, count in counts if not count]:
        raise GeneratorError(
            f"{path} holds no image of {', '.join(empty)}; it must hold one of every class at least"
        )
    return found


def require_alike(public: Dataset, test: Dataset) -> None:
    """Refuse real images that a generator for ``public`` cannot be tested on.

    Raises:
        GeneratorError: they have other classes, another size, or too few images.
    """
    if public.class_names != test.class_names:
        raise GeneratorError(
            f"{test.name} has the classes {_some(test.class_names)}, {public.name} has "
            f"{_some(public.class_names)}; name real images of the same classes as --test"
        )
    if public.image_shape != test.image_shape:
        raise GeneratorError(
            f"{test.name} has images {test.image_shape} (channels, height, width), {public.name} "
            f"{public.image_shape}; set data.image_size and data.image_mode"
        )
    if (fewest := min(test.label_counts())) < LEAST_TESTS:
        raise GeneratorError(
            f"{test.name} has {fewest} images of its rarest class; test on at least {LEAST_TESTS} "
            "of each, and hundreds for figures that are steady"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
