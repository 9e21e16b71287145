"""Parts of the user's own: found, or refused in the words of their kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from fimi.coordinator.strategies import STRATEGIES, StrategyError
from fimi.errors import FimiError, InputError
from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.generators.own import factory_of
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.data.dataset import DatasetError
from fimi.learning.data.registry import load
from fimi.learning.networks.models import ModelError, build
from fimi.own_parts import OwnPart

PART = OwnPart(what="thing", holds="the thing", error=partial(InputError, code="U001"))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's own on Python's path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_what_is_there_is_found(mine: Path) -> None:
    (mine / "my_part.py").write_text("def made(): return 7\n")
    assert PART.find("my_part:made")() == 7
    number = OwnPart(what="n", holds="it", error=InputError, wanted=int)
    (mine / "my_number.py").write_text("seven = 7\n")
    assert number.find("my_number:seven") == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "thing 'broken:made': No module named 'broken'; the module must be importable here"),
        ("made = 7", "thing 'broken:made' is a int, not a function"),
        ("other = 7", "module 'broken' has no attribute 'made'; the module must be importable"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("def made(:", r"importing broken raised SyntaxError: .* \(.*\)"),
        ("x = 1\n1 / 0", r"raised ZeroDivisionError: division by zero \(.*broken\.py:2\)"),
        ("made = nothing", r"raised NameError: name 'nothing' is not defined \(.*broken\.py:1\)"),
    ],
)
def test_what_is_wrong_is_said(mine: Path, text: str | None, said: str) -> None:
    if text is not None:
        (mine / "broken.py").write_text(text + "\n")
    with pytest.raises(InputError, match=said) as caught:
        PART.find("broken:made")
    assert caught.value.code == "U001"


@pytest.mark.parametrize(
    ("error", "code", "find"),
    [
        (StrategyError, "C011", lambda: STRATEGIES["broken:made"]),
        (GeneratorError, "G006", lambda: factory_of("broken:made")),
        (ModelError, "C007", lambda: build("broken:made", 3, (1, 8, 8), seed=0)),
        (DatasetError, "D001", lambda: load("broken:made", DatasetOptions())),
    ],
)
def test_every_room_says_it_in_its_own_class(
    mine: Path, error: type[FimiError], code: str, find: Callable[[], object]
) -> None:
    (mine / "broken.py").write_text("1 / 0\n")
    with pytest.raises(error, match="'broken:made': importing broken raised Zero") as caught:
        find()
    assert caught.value.code == code
