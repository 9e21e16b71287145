"""What changes nothing is said: once somebody has set it, and only where nothing looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fimi.testbed.cli import main
from fimi.testbed.commands.federation import begin
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.effects import EFFECTS, idle, idle_in_all
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.tools.check import idle_words

IDLE: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    ({"transfer.top_k_share": 0.2}, "transfer.update_coding", ("top-k",)),
    ({"transfer.error_feedback": False}, "transfer.update_coding", ("top-k",)),
    ({"transfer.rounding": "stochastic"}, "transfer.update_coding", ("int8",)),
    ({"rounds.late_exponent": 1.0}, "rounds.late_updates", ("add",)),
    ({"rounds.late_rounds": 2}, "rounds.late_updates", ("add",)),
    ({"rounds.round_quorum_grace_s": 4.0}, "rounds.round_quorum", (0.5,)),
    ({"rounds.trimmed_share": 0.2}, "rounds.aggregation", ("trimmed-mean",)),
    ({"rounds.byzantine": 2}, "rounds.aggregation", ("krum",)),
    ({"rounds.krum_kept": 2}, "rounds.aggregation", ("krum",)),
    ({"strategy.client_weights": "quality"}, "rounds.aggregation", ("mean",)),
    ({"strategy.client_weights": "quality", "rounds.krum_kept": 0}, "rounds.aggregation",
     ("mean", "krum")),
    ({"rounds.clip_to": 2.0}, "rounds.clip_factor", (30.0,)),
]  # fmt: skip
"""Keys that are set, what decides about the first, and with which values that has an effect."""
VALUES: dict[str, tuple[Any, ...]] = {
    "transfer.update_coding": ("fp32", "fp16", "int8", "top-k"),
    "rounds.late_updates": ("drop", "add"),
    "rounds.aggregation": ("mean", "median", "trimmed-mean", "krum"),
    "rounds.clip_factor": (0.0, 30.0),
    "rounds.round_quorum": (0.0, 0.5),
}


def scenario(values: Mapping[str, Any]) -> Scenario:
    return configuration.load(None, {key: (value, "--here") for key, value in values.items()})


def test_there_is_an_example_for_every_key() -> None:
    assert {key for effect in EFFECTS for key in effect.keys} == {next(iter(e[0])) for e in IDLE}


@pytest.mark.parametrize(("given_", "decides", "used"), IDLE, ids=[str(e[0]) for e in IDLE])
def test_a_value_is_idle_where_it_is_not_looked_at(
    given_: dict[str, Any], decides: str, used: tuple[Any, ...]
) -> None:
    key, value = next(iter(given_.items()))
    for choice in VALUES[decides]:
        found = scenario({**given_, decides: choice})
        said = idle(found.config, found.origins).get(key)
        assert (said is None) == (choice in used), choice
        if said is not None:
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            assert said.startswith(f"{key} {shown} (--here) has no effect")
            assert f"{decides} " in said
            assert "{" not in said


@given(st.sampled_from(IDLE), st.data())
def test_defaults_are_never_idle(example: Any, data: st.DataObject) -> None:
    """What nobody has set is not spoken of, whatever decides."""
    given_, decides, _ = example
    chosen = scenario({decides: data.draw(st.sampled_from(VALUES[decides]))})
    assert not idle(chosen.config, chosen.origins)
    default = {key: value for key, value in configuration.values(Config()).items() if key in given_}
    repeated = scenario(default)
    assert not idle(repeated.config, repeated.origins)


@given(st.lists(st.sampled_from(VALUES["rounds.aggregation"]), min_size=1, max_size=5))
def test_in_a_study_it_is_idle_only_where_it_is_in_all(rules: list[str]) -> None:
    several = [scenario({"rounds.aggregation": rule, "rounds.krum_kept": 2}) for rule in rules]
    assert ("rounds.krum_kept" in idle_in_all(several)) == ("krum" not in rules)


def test_what_is_set_in_some_runs_only_is_judged_by_those() -> None:
    unset, without = scenario({"rounds.aggregation": "krum"}), scenario({"rounds.krum_kept": 2})
    assert list(idle_in_all([unset, without])) == ["rounds.krum_kept"]
    assert not idle_in_all([unset])


def test_it_is_said_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By ``fimi check``, and when a run begins."""
    file = tmp_path / "fimi.toml"
    file.write_text("[rounds]\nkrum_kept = 3\nlate_rounds = 2\n[run]\nstrategy = 'tfl'\n")
    begun, _ = begin("dry-run", file, (), {"resume": None, "accept_changes": False})
    assert begun.config.rounds.krum_kept == 3
    late = f"rounds.late_rounds 2 ({file}) has no effect with rounds.late_updates 'drop' (default)"
    krum = f"rounds.krum_kept 3 ({file}) has no effect with rounds.aggregation 'mean' (default)"
    said = [record.getMessage().split(";")[0] for record in caplog.records]
    assert said == [late, krum]
    rows = [(name, words.split(";")[0]) for name, words in idle_words(begun)]
    assert rows == [("unused", late), ("", krum)]


@pytest.mark.parametrize("varied", [True, False])
def test_an_experiment_that_varies_what_decides_is_silent(tmp_path: Path, varied: bool) -> None:
    file = tmp_path / "e.toml"
    rules = '["mean", "median", "krum"]' if varied else '["mean", "median"]'
    file.write_text(
        'strategies = ["tfl"]\nseeds = [0]\n[base]\nrounds.krum_kept = 2\n'
        f'strategy.client_weights = "quality"\n[grid]\nrounds.aggregation = {rules}\n'
    )
    given_ = ["experiment", str(file), "--list", "--directory", str(tmp_path)]
    done = CliRunner().invoke(main, given_)
    assert done.exit_code == 0, done.output
    assert ("in every run rounds.krum_kept 2" in done.stderr) != varied
    assert "client_weights" not in done.stderr, "it has an effect on the mean"
