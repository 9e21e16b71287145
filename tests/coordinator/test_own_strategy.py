"""A strategy of the user's own is taken by ``module:NAME``, and one that cannot be is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fimi.coordinator.strategies import STRATEGIES, StrategyError
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.experiment.file import read_experiment

MODULE = """
from fimi.coordinator.strategies import Strategy

EVEN = Strategy(name="fimi", title="Even", data="even", planned_resources=False)
GAN = Strategy(name="x", title="Mine", data="filled", images="gan")
NOBODY = Strategy(name="x", title="x", data="none")
TWICE = Strategy(name="x", title="x", data="filled", server="continue")
ALONE = Strategy(name="x", title="x", server="alone")
BOTH = Strategy(name="x", title="x", data="unlabelled", server="mix")
MISSPELT = Strategy(name="x", title="x", data="fild")
NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The name of a strategy in a module that can be imported."""
    module = f"strategies_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name: f"{module}:{name}"


def test_it_is_looked_up_under_its_whole_name_and_beside_the_others(
    own: Callable[[str], str],
) -> None:
    before = list(STRATEGIES)
    found = STRATEGIES[own("EVEN")]
    assert (found.name, found.title) == (own("EVEN"), "Even")
    assert found.plans_data and found.needs_images and not found.planned_resources
    assert STRATEGIES["fimi"].planned_resources
    assert list(STRATEGIES) == before
    with pytest.raises(KeyError):
        STRATEGIES["nobody"]


def test_the_configuration_takes_it_with_what_follows_from_it(own: Callable[[str], str]) -> None:
    scenario = configuration.load(None, {"run.strategy": (own("GAN"), "--strategy")})
    assert scenario.config.run.strategy == own("GAN")
    assert scenario.config.generator.kind == "gan"
    with pytest.raises(ConfigError, match="did you mean 'fimi'"):
        configuration.load(None, {"run.strategy": ("fimii", "--strategy")})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NOBODY", "a server that trains alone"),
        ("TWICE", "keep local data"),
        ("ALONE", "take no part"),
        ("BOTH", "only averages"),
        ("MISSPELT", "Invalid enum value"),
        ("NUMBER", "is a int, not a"),
        ("ABSENT", "has no attribute"),
    ],
)
def test_one_that_cannot_be_is_refused_with_the_reason(
    own: Callable[[str], str], name: str, said: str
) -> None:
    with pytest.raises(StrategyError, match=said) as caught:
        configuration.load(None, {"run.strategy": (own(name), "--strategy")})
    assert caught.value.code == "C011"
    assert caught.value.exit_code == 2


def test_a_module_that_is_not_there_is_said_with_what_to_do() -> None:
    assert "not_here_at_all" not in sys.modules
    with pytest.raises(StrategyError, match="PYTHONPATH"):
        configuration.load(None, {"run.strategy": ("not_here_at_all:MINE", "--strategy")})


def test_an_experiment_names_it_by_a_label(own: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        f'strategies = ["tfl", "mine"]\n[overrides.mine]\nrun.strategy = "{own("EVEN")}"\n',
        encoding="utf-8",
    )
    experiment = read_experiment(path)
    assert experiment.overrides["mine"]["run.strategy"] == own("EVEN")
