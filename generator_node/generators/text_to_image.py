"""Text-to-image models as generators, through diffusers' AutoPipelineForText2Image.

Any model that this class can load can be used, by id or from a local folder. The default is Stable
Diffusion v1-5 with 20 steps and guidance 7, as in GenFL. Few-step models need other settings: 1 to
4 steps and guidance 0 for turbo models, 2 to 8 steps and guidance of at most 2 for consistency
models. An image is made at the model's size, cropped to the middle, and scaled down with
antialiasing to the size of the data set.

Images that a model's safety checker makes black are drawn again a few times. Images that are still
black are returned as they are; the service refuses images of one colour.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta, Struct
from PIL import Image as Pictures

from fimi.generator_node.generators.base import (
    Generator,
    GeneratorError,
    Image,
    Provenance,
    Seeds,
    out_of_memory,
)
from fimi.generator_node.generators.card import NO_DIGEST, noise_of
from fimi.generator_node.generators.class_meanings import meanings_of
from fimi.generator_node.generators.prompts import NEGATIVE, TEMPLATES, prompts
from fimi.generator_node.service.seeds import redraw_seed
from fimi.generator_node.training.network import library_versions, torch_threads
from fimi.learning.data.dataset import Dataset, Images, Labels

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"

log = logging.getLogger(__name__)


class TextSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a text-to-image model.

    Attributes:
        model: id, or a local folder, for which no other place is searched.
        steps: denoising steps.
        guidance: weight of the guidance by the prompt.
        size: height and width of the images before scaling, pixels; 0: the model's default.
        batch_size: images made together; halved while they do not fit into memory.
        dtype: precision of the computation; ``"auto"``: half on CUDA, single elsewhere.
        redraws: how often an image that the safety checker made black is drawn again.
        templates: templates of the prompts.
        class_meanings: what classes mean; see
            :func:`fimi.generator_node.generators.class_meanings.meanings_of`.
        negative: negative prompt; ignored by models without guidance.
        download: whether to fetch a model that is not on this machine.
    """

    model: str = DEFAULT_MODEL
    steps: Annotated[int, Meta(ge=1, le=1000)] = 20
    guidance: Annotated[float, Meta(ge=0, le=50)] = 7.0
    size: Annotated[int, Meta(ge=0, le=4096)] = 0
    batch_size: Annotated[int, Meta(ge=1)] = 8
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    redraws: Annotated[int, Meta(ge=0, le=100)] = 3
    templates: tuple[str, ...] = TEMPLATES
    class_meanings: str = ""
    negative: str = NEGATIVE
    download: bool = True


class TextToImageGenerator(Generator):
    """Draws images from text with a pipeline of diffusers, which is on its device.

    The data set ``like`` gives class names and image size; its images are not used. ``digest`` is
    that of the model's files.
    """

    def __init__(
        self,
        pipeline: Any,
        like: Dataset,
        settings: TextSettings,
        *,
        digest: str = NO_DIGEST,
        threads: int = 1,
    ) -> None:
        if like.image_shape[0] not in (1, 3):
            raise GeneratorError(
                f"{like.name} has images of {like.image_shape[0]} channels; a text-to-image model "
                "makes colour or grey ones, 3 or 1",
                code="G004",
            )
        super().__init__(like.classes, like.image_shape)
        self._pipeline = pipeline
        self._dataset = like.name
        self._meanings = meanings_of(like, settings.class_meanings)
        self._settings = settings
        self._digest = digest
        self._threads = threads
        self._batch_size = settings.batch_size

    @classmethod
    def load(
        cls,
        like: Dataset,
        settings: TextSettings | None = None,
        *,
        device: str = "cpu",
        threads: int = 1,
    ) -> TextToImageGenerator:
        """Load a model.

        Raises:
            GeneratorError: there is no such model, or its files are missing, damaged or do not fit.
        """
        from diffusers import AutoPipelineForText2Image

        settings = settings or TextSettings()
        local = Path(settings.model).is_dir()
        names = {"auto": "float16" if device.startswith("cuda") else "float32"}
        dtype = getattr(torch, names.get(settings.dtype, settings.dtype))
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                settings.model,
                local_files_only=local or not settings.download,
                use_safetensors=True,
                torch_dtype=dtype,
            )
        except Exception as error:  # the libraries raise errors of any type for a bad folder
            said = str(error).strip()
            reason = said.splitlines()[0].rstrip(".") if said else type(error).__name__
            raise GeneratorError(
                f"text-to-image model {settings.model!r} cannot be loaded: {reason}; name a folder "
                "that a diffusers pipeline was saved to, or a model id that can be reached from "
                "here, as generator.text_model",
                code="G004",
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        digest = folder_digest(Path(settings.model)) if local else NO_DIGEST
        return cls(pipeline.to(device), like, settings, digest=digest, threads=threads)

    @property
    def name(self) -> str:
        """Model, steps and guidance as text for people."""
        chosen = self._settings
        model = Path(chosen.model).name if Path(chosen.model).is_dir() else chosen.model
        return f"{model} ({chosen.steps} steps, guidance {chosen.guidance:g})"

    @property
    def provenance(self) -> Provenance:
        """The origin of its images: a model that was not trained on this data set's files."""
        chosen = self._settings
        how = msgspec.json.encode(
            [chosen.templates, self._meanings, chosen.negative, chosen.size, chosen.dtype]
        )
        return Provenance(
            generator=self.name,
            dataset=f"text: {self._dataset}",
            data_digest=hashlib.sha256(how).hexdigest(),
            weights_digest=self._digest,
            libraries=library_versions(),
        )

    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        images = np.zeros((len(class_ids), *self.image_shape), np.uint8)
        waiting = np.arange(len(class_ids))
        with torch_threads(self._threads), torch.inference_mode():
            for attempt in range(self._settings.redraws + 1):
                if not len(waiting):
                    break
                again = np.array([redraw_seed(int(s), attempt) for s in seeds[waiting]], np.uint64)
                images[waiting], black = self._draw(class_ids[waiting], again)
                waiting = waiting[black]
        if len(waiting):
            log.warning("%d of %d images stayed black", len(waiting), len(images))
        return images

    def _draw(self, class_ids: Labels, seeds: Seeds) -> tuple[Images, Any]:
        """Images, and which of them are black."""
        images = np.zeros((len(class_ids), *self.image_shape), np.uint8)
        black = np.zeros(len(class_ids), bool)
        start = 0
        while start < len(class_ids):
            part = slice(start, start + self._batch_size)
            try:
                images[part], black[part] = self._batch(class_ids[part], seeds[part])
            except Exception as error:
                if self._batch_size == 1 or not out_of_memory(error):
                    raise
                self._batch_size = -(-self._batch_size // 2)
                log.warning("out of memory; %d images at a time from now on", self._batch_size)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            else:
                start += self._batch_size
        return images, black

    def _batch(self, class_ids: Labels, seeds: Seeds) -> tuple[Images, Any]:
        chosen = self._settings
        texts = prompts(self._meanings, class_ids, seeds, chosen.templates)
        options: dict[str, Any] = {
            "num_inference_steps": chosen.steps,
            "guidance_scale": chosen.guidance,
            # For random numbers during the steps; this generator uses only 32 bits of a seed.
            "generator": [torch.Generator("cpu").manual_seed(int(s) % 2**32) for s in seeds],
            "output_type": "np",
        }
        if chosen.guidance > 1 and chosen.negative:
            options["negative_prompt"] = [chosen.negative] * len(texts)
        if chosen.size:
            options["height"] = options["width"] = chosen.size
        if (latents := self._noise(seeds)) is not None:
            options["latents"] = latents
        result = self._pipeline(texts, **options)
        pictures = (np.nan_to_num(np.asarray(result.images, np.float32)) * 255).round()
        made = np.stack([fit(picture, self.image_shape) for picture in pictures.astype(np.uint8)])
        flagged = getattr(result, "nsfw_content_detected", None) or [False] * len(texts)
        return made, np.array(flagged, bool) | (pictures.reshape(len(texts), -1).max(1) == 0)

    def _noise(self, seeds: Seeds) -> torch.Tensor | None:
        """The noise before the first step, from all bits of the seeds; for U-Net models."""
        pipeline = self._pipeline
        unet, scale = getattr(pipeline, "unet", None), getattr(pipeline, "vae_scale_factor", 0)
        if unet is None or not scale:
            return None
        side = self._settings.size // scale if self._settings.size else unet.config.sample_size
        shape = (unet.config.in_channels, side, side)
        return torch.from_numpy(noise_of(seeds, shape)).to(pipeline.device, unet.dtype)


def fit(picture: Image, image_shape: tuple[int, int, int]) -> Image:
    """Crop a picture (H, W, 3) to the middle and scale it down with antialiasing.

    Returns:
        Image of shape ``image_shape``; with one channel it is grey.
    """
    channels, height, width = image_shape
    high, wide = picture.shape[:2]
    scale = min(high / height, wide / width)
    crop_h, crop_w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (high - crop_h) // 2, (wide - crop_w) // 2
    image = Pictures.fromarray(picture).crop((left, top, left + crop_w, top + crop_h))
    image = image.convert("L" if channels == 1 else "RGB")
    image = image.resize((width, height), Pictures.Resampling.LANCZOS)
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and sizes of a pipeline's files and the text of the small ones."""
    hasher = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        hasher.update(json.dumps([path.relative_to(folder).as_posix(), size]).encode())
        if size < 1 << 20:
            hasher.update(path.read_bytes())
    return hasher.hexdigest()
