"""What the class names of data sets mean, for models that are asked in words.

A class name alone is often ambiguous: an apple may be a computer, a beetle a car, a ray light; and
"14" is a stop sign to those only who know the benchmark. :data:`MEANINGS` has the data sets of
:data:`fimi.learning.data.registry.DATASETS` whose names need it; a file of the user's own,
``class_meanings`` of the configuration, does the same for other data.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from fimi.generator_node.generators.base import GeneratorError
from fimi.learning.data.dataset import Dataset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_SIGNS = (
    "speed limit 20",
    "speed limit 30",
    "speed limit 50",
    "speed limit 60",
    "speed limit 70",
    "speed limit 80",
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no overtaking",
    "no overtaking by lorries",
    "priority at the next crossing",
    "priority road",
    "give way",
    "stop",
    "no vehicles",
    "no lorries",
    "no entry",
    "danger",
    "dangerous bend to the left",
    "dangerous bend to the right",
    "double bend",
    "uneven road",
    "slippery road",
    "road narrows on the right",
    "road works",
    "traffic lights ahead",
    "pedestrians",
    "children",
    "cyclists",
    "ice or snow",
    "wild animals",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "straight ahead only",
    "straight ahead or right",
    "straight ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by lorries",
)
"""The signs of GTSRB in the order of its class numbers, 0 to 42."""

_DIGITS = {
    str(digit): f"the handwritten digit {word}, white on black"
    for digit, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    )
}

MEANINGS: dict[str, Mapping[str, str]] = {
    "digits": _DIGITS,
    "mnist": _DIGITS,
    "cifar-10": {
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
    "cifar-100": {
        "apple": "an apple, the fruit",
        "aquarium_fish": "an aquarium fish, such as a goldfish",
        "baby": "a baby, the small child",
        "bear": "a bear, the animal",
        "beaver": "a beaver, the animal",
        "bed": "a bed, the furniture",
        "bee": "a bee, the insect",
        "beetle": "a beetle, the insect",
        "bicycle": "a bicycle",
        "bottle": "a bottle",
        "bowl": "an empty bowl, tableware",
        "boy": "a boy",
        "bridge": "a bridge over a river",
        "bus": "a bus on a road",
        "butterfly": "a butterfly, the insect",
        "camel": "a camel, the animal",
        "can": "a tin can",
        "castle": "a castle, the building",
        "caterpillar": "a caterpillar, the larva of a butterfly",
        "cattle": "cattle, cows on a meadow",
        "chair": "a chair, the furniture",
        "chimpanzee": "a chimpanzee",
        "clock": "a clock that shows the time",
        "cloud": "a cloud in the sky",
        "cockroach": "a cockroach, the insect",
        "couch": "a couch, a sofa",
        "crab": "a crab, the sea animal",
        "crocodile": "a crocodile",
        "cup": "a cup, tableware",
        "dinosaur": "a dinosaur",
        "dolphin": "a dolphin in the sea",
        "elephant": "an elephant",
        "flatfish": "a flatfish, such as a flounder",
        "forest": "a forest, many trees",
        "fox": "a fox, the animal",
        "girl": "a girl",
        "hamster": "a hamster, the small animal",
        "house": "a house, the building",
        "kangaroo": "a kangaroo",
        "keyboard": "a computer keyboard",
        "lamp": "a lamp, a light in a room",
        "lawn_mower": "a lawn mower, the machine",
        "leopard": "a leopard, the big cat",
        "lion": "a lion, the big cat",
        "lizard": "a lizard, the reptile",
        "lobster": "a lobster, the sea animal",
        "man": "a man",
        "maple_tree": "a maple tree",
        "motorcycle": "a motorcycle",
        "mountain": "a mountain",
        "mouse": "a mouse, the small animal",
        "mushroom": "a mushroom in a wood",
        "oak_tree": "an oak tree",
        "orange": "an orange, the fruit",
        "orchid": "an orchid, the flower",
        "otter": "an otter, the animal",
        "palm_tree": "a palm tree",
        "pear": "a pear, the fruit",
        "pickup_truck": "a pickup truck, the car with an open bed",
        "pine_tree": "a pine tree",
        "plain": "a plain, flat grassland",
        "plate": "a dinner plate, tableware",
        "poppy": "a poppy, the red flower",
        "porcupine": "a porcupine, the animal",
        "possum": "a possum, the animal",
        "rabbit": "a rabbit, the animal",
        "raccoon": "a raccoon, the animal",
        "ray": "a ray, the flat fish",
        "road": "a road through the country",
        "rocket": "a space rocket",
        "rose": "a rose, the flower",
        "sea": "the sea, open water to the horizon",
        "seal": "a seal, the sea animal",
        "shark": "a shark, the fish",
        "shrew": "a shrew, the small animal with a pointed snout",
        "skunk": "a skunk, the animal",
        "skyscraper": "a skyscraper, the high building",
        "snail": "a snail, the animal",
        "snake": "a snake, the reptile",
        "spider": "a spider, the animal",
        "squirrel": "a squirrel, the animal",
        "streetcar": "a streetcar, a tram",
        "sunflower": "a sunflower",
        "sweet_pepper": "a sweet pepper, the vegetable",
        "table": "a table, the furniture",
        "tank": "a tank, the military vehicle",
        "telephone": "a telephone, the device",
        "television": "a television set",
        "tiger": "a tiger, the big cat",
        "tractor": "a tractor, the farm vehicle",
        "train": "a railway train",
        "trout": "a trout, the fish",
        "tulip": "a tulip, the flower",
        "turtle": "a turtle, the animal",
        "wardrobe": "a wardrobe, the furniture",
        "whale": "a whale in the sea",
        "willow_tree": "a willow tree",
        "wolf": "a wolf, the animal",
        "woman": "a woman",
        "worm": "a worm, the animal",
    },
    "gtsrb": {
        f"{number:02d}": f'the German road sign "{sign}"' for number, sign in enumerate(_SIGNS)
    },
}
"""Data set to class name to its meaning."""


def meanings_of(dataset: Dataset, table: str = "") -> tuple[str, ...]:
    """What the classes of a data set mean, one phrase for each.

    A name that has no meaning in the table is used as it is, underscores as spaces.

    Args:
        dataset: its classes; the table for it is that of its name, ``"digits"`` for
            ``"digits/public"``.
        table: another key of :data:`MEANINGS`, or a TOML file with lines ``name = "meaning"``.

    Raises:
        GeneratorError: the file cannot be used, it has names that are no classes or no name of one,
            or a name without a meaning has no letter, such as ``"14"``.
    """
    known: Mapping[str, str]
    if table and table not in MEANINGS:
        known = _read(Path(table))
        if strange := sorted(known.keys() - set(dataset.class_names)):
            raise GeneratorError(
                f"generator.class_meanings {table}: {', '.join(strange[:8])} is no class of "
                f"{dataset.name}, which has {', '.join(dataset.class_names[:8])}"
                f"{', …' if dataset.classes > 8 else ''}",
                code="G004",
            )
    else:
        known = MEANINGS.get(table or dataset.name.split("/")[0], {})
        if table and not known.keys() & set(dataset.class_names):
            raise GeneratorError(
                f"generator.class_meanings {table} has none of the classes of {dataset.name}, "
                f"{', '.join(dataset.class_names[:8])}{', …' if dataset.classes > 8 else ''}",
                code="G004",
            )
    dumb = [
        name
        for name in dataset.class_names
        if name not in known and not any(letter.isalpha() for letter in name)
    ]
    if dumb:
        raise GeneratorError(
            f"class {', '.join(dumb[:8])}{', …' if len(dumb) > 8 else ''} of {dataset.name} says "
            f'nothing to a text-to-image model, which would draw "a photo of {dumb[0]}"; name a '
            f'file with lines {dumb[0]} = "a stop sign", or one of {", ".join(MEANINGS)}, as '
            "generator.class_meanings",
            code="G004",
        )
    return tuple(known.get(name, name.replace("_", " ")) for name in dataset.class_names)


def _read(path: Path) -> dict[str, str]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GeneratorError(
            f"generator.class_meanings {path} cannot be read: {error}; it is one of "
            f'{", ".join(MEANINGS)}, or a TOML file with lines name = "meaning"',
            code="G004",
        ) from error
    if wrong := [name for name, text in found.items() if not isinstance(text, str)]:
        raise GeneratorError(
            f"generator.class_meanings {path}: {wrong[0]} must be a text", code="G004"
        )
    return {name: str(text) for name, text in found.items()}
