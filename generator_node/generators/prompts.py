"""Prompts for text-to-image models: templates, into which a phrase for the class is put."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fimi.generator_node.generators.base import Seeds
from fimi.learning.data.dataset import Labels

TEMPLATES: tuple[str, ...] = (
    "a photo of {}",
    "a photo of {} in daylight",
    "a photo of {} in front of a plain background",
    "a photo of {} seen from the side",
    "a photo of {} seen from the front",
    "a photo of {}, far away, small in the picture",
    "a close-up photo of {}",
    "a snapshot of {} outdoors",
    "a snapshot of {} in bad light",
    "a sharp photograph of {}, centred",
)
"""``{}`` stands for the class. Different prompts make images more different."""

_PROMPT = 1 << 64  # the template is drawn from another stream than the image
NEGATIVE = "drawing, painting, cartoon, text, watermark, frame, collage, blurred, deformed"
"""The negative prompt: what images should not show."""


def prompts(
    meanings: Sequence[str],
    class_ids: Labels,
    seeds: Seeds,
    templates: tuple[str, ...] = TEMPLATES,
) -> list[str]:
    """A prompt for every image: a template chosen by the image's seed (N,), and its class (N,).

    ``meanings`` has one phrase for each class.
    """
    return [
        templates[
            np.random.Generator(np.random.Philox(key=int(seed) + _PROMPT)).integers(len(templates))
        ].format(meanings[class_id])
        for class_id, seed in zip(class_ids, seeds, strict=True)
    ]
