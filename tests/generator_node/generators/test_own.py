"""A generator of the user's own is called as promised, and what it draws is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.generators.own import OwnGenerator
from fimi.learning.data.dataset import Dataset

PUBLIC = Dataset(
    name="squares",
    images=np.arange(2 * 3 * 4 * 5 * 2, dtype=np.uint8).reshape(4, 3, 4, 5),
    labels=np.array([0, 1, 0, 1], np.int64),
    class_names=("a", "b"),
)
MODULE = """
import numpy as np

seen = []

def noise(public):
    seen.append(public)
    def draw(label, random):
        return random.integers(0, 128, public.image_shape, np.uint8) + 100 * label
    return draw

def floats(public):
    return lambda label, random: random.random(public.image_shape)

def flat(public):
    return lambda label, random: np.zeros(public.image_shape[1:], np.uint8)

def nothing(public):
    return lambda label, random: None

def breaks(public):
    return lambda label, random: 1 // 0

def refuses(public):
    raise ValueError("I do not like these")

def gives_no_function(public):
    return 3

value = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The name of a function in a module that can be imported."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda function: f"{name}:{function}"


def test_an_image_depends_on_its_class_and_seed_alone(module: Callable[[str], str]) -> None:
    made = OwnGenerator(module("noise"), PUBLIC)
    classes = np.array([0, 1, 1, 0, 1])
    seeds = np.array([5, 6, 5, 2**64 - 1, 6], np.uint64)
    images = made.generate(classes, seeds)
    assert (images.shape, images.dtype) == ((5, 3, 4, 5), np.uint8)
    np.testing.assert_array_equal(images[1], images[4])
    np.testing.assert_array_equal(images[0] + np.uint8(100), images[2])
    again = OwnGenerator(module("noise"), PUBLIC)
    for index in (3, 1):
        alone = again.generate(classes[index : index + 1], seeds[index : index + 1])
        np.testing.assert_array_equal(alone[0], images[index])
    random = np.random.Generator(np.random.Philox(key=5))
    np.testing.assert_array_equal(images[0], random.integers(0, 128, (3, 4, 5), np.uint8))


def test_it_says_what_it_has_seen_and_what_it_is(module: Callable[[str], str]) -> None:
    made = OwnGenerator(module("noise"), PUBLIC)
    origin = made.provenance
    assert origin.data_digest == PUBLIC.digest()
    assert made.name in origin.generator and "squares" in made.name
    assert origin.weights_digest == OwnGenerator(module("floats"), PUBLIC).provenance.weights_digest


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("floats", "float64 (3, 4, 5)"),
        ("flat", "uint8 (4, 5)"),
        ("nothing", "drew NoneType"),
        ("breaks", "ZeroDivisionError"),
    ],
)
def test_what_is_no_image_is_refused(
    module: Callable[[str], str], function: str, said: str
) -> None:
    made = OwnGenerator(module(function), PUBLIC)
    with pytest.raises(GeneratorError) as caught:
        made.generate(np.array([1]), np.array([0], np.uint64))
    assert said in str(caught.value) and caught.value.code == "G006"
    assert "class 1" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("absent", "has no attribute"),
        ("value", "not a function"),
        ("refuses", "I do not like these"),
        ("gives_no_function", "gave a int"),
    ],
)
def test_what_is_no_generator_is_refused_before_it_draws(
    module: Callable[[str], str], function: str, said: str
) -> None:
    with pytest.raises(GeneratorError, match=said) as caught:
        OwnGenerator(module(function), PUBLIC)
    assert caught.value.code == "G006"


def test_a_module_that_is_not_there_is_said_with_what_to_do() -> None:
    with pytest.raises(GeneratorError, match="PYTHONPATH"):
        OwnGenerator("not_here_at_all:draw", PUBLIC)


def test_the_example_draws_images_that_look_like_their_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nearest class mean by NumPy, on images that the generator drew from half of the data."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))
    from own_parts import stripes  # type: ignore[import-not-found]

    whole: Any = stripes(None).train
    public = Dataset(
        name="half", images=whole.images[:1000], labels=whole.labels[:1000],
        class_names=whole.class_names,
    )  # fmt: skip
    made = OwnGenerator("own_parts:clouds", public)
    labels = np.arange(200) % 4
    drawn = made.generate(labels, np.arange(200, dtype=np.uint64)).reshape(200, -1) / 255.0
    rows = whole.images[1000:].reshape(1000, -1) / 255.0
    fits = []
    for label in range(4):
        of_class = rows[whole.labels[1000:] == label]
        covariance = np.cov(of_class, rowvar=False) + 1e-2 * np.eye(of_class.shape[1])
        off = drawn - of_class.mean(axis=0)
        distance = np.einsum("ij,ij->i", off @ np.linalg.inv(covariance), off)
        fits.append(distance + np.linalg.slogdet(covariance)[1])
    assert np.mean(np.argmin(fits, axis=0) == labels) > 0.8  # by chance: 0.25
