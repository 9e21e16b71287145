"""Prompts for text-to-image models: templates, and class names with their meaning.

A class name alone is often ambiguous: an apple may be a computer, a beetle a car, a ray light. For
each data set :data:`MEANINGS` says what its names mean. Other names are used as they are, with
underscores replaced by spaces.
"""

from __future__ import annotations

from collections.abc import Mapping

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

MEANINGS: dict[str, Mapping[str, str]] = {
    "digits": {
        str(digit): f"the handwritten digit {word}, white on black"
        for digit, word in enumerate(
            ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
        )
    },
    "cifar10": {
        "airplane": "an airplane",
        "automobile": "an automobile, a passenger car on a road",
        "bird": "a bird",
        "cat": "a cat, the pet",
        "deer": "a deer",
        "dog": "a dog",
        "frog": "a frog",
        "horse": "a horse",
        "ship": "a ship on water",
        "truck": "a truck, a lorry on a road",
    },
    "cifar100": {
        "apple": "an apple, the fruit",
        "beetle": "a beetle, the insect",
        "bowl": "an empty bowl, tableware",
        "bridge": "a bridge over a river",
        "can": "a tin can",
        "crab": "a crab, the sea animal",
        "cup": "a cup, tableware",
        "keyboard": "a computer keyboard",
        "lamp": "a lamp, a light in a room",
        "mouse": "a mouse, the small animal",
        "mushroom": "a mushroom in a wood",
        "orange": "an orange, the fruit",
        "pear": "a pear, the fruit",
        "plain": "a plain, flat grassland",
        "plate": "a dinner plate, tableware",
        "ray": "a ray, the flat fish",
        "rocket": "a space rocket",
        "rose": "a rose, the flower",
        "seal": "a seal, the sea animal",
        "snail": "a snail, the animal",
        "spider": "a spider, the animal",
        "streetcar": "a streetcar, a tram",
        "table": "a table, the furniture",
        "tank": "a tank, the military vehicle",
        "telephone": "a telephone, the device",
        "train": "a railway train",
        "trout": "a trout, the fish",
        "turtle": "a turtle, the animal",
        "wardrobe": "a wardrobe, the furniture",
        "whale": "a whale in the sea",
    },
}
"""Data set to class name to its meaning."""


def meaning(dataset: str, class_name: str) -> str:
    """What a class name of a data set means; ``dataset`` may name a part, ``"digits/public"``."""
    known = MEANINGS.get(dataset.split("/")[0], {})
    return known.get(class_name, class_name.replace("_", " "))


def prompts(
    dataset: str,
    class_names: tuple[str, ...],
    class_ids: Labels,
    seeds: Seeds,
    templates: tuple[str, ...] = TEMPLATES,
) -> list[str]:
    """A prompt for every image: a template chosen by the image's seed (N,), and its class (N,)."""
    return [
        templates[
            np.random.Generator(np.random.Philox(key=int(seed) + _PROMPT)).integers(len(templates))
        ].format(meaning(dataset, class_names[class_id]))
        for class_id, seed in zip(class_ids, seeds, strict=True)
    ]
