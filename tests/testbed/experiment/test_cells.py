"""Cells: names, shared runs, and what is known of a run that is there."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from fimi.record.record import RunInfo
from fimi.record.store import RunStore
from fimi.report.comparison.tuning import TriedSetting, TuningChoice
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.experiment.cells import (
    Cell,
    cells,
    digest_of,
    distinct,
    preparations,
    state,
    toml,
)
from fimi.testbed.experiment.definition import Experiment, GeneratorPreparation
from fimi.testbed.experiment.file import read_experiment

TEXT = """
strategies = ["tfl", "fimi"]
seeds = [0, 3]
[grid]
data.alpha = [0.1, 0.4]
plan.error_max = [0.07, 0.08]
[overrides.tfl]
plan.error_max = 0.08
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    path = tmp_path / "e.toml"
    path.write_text(TEXT)
    return replace(read_experiment(path), directory=tmp_path)


def stored(cell: Cell, status: str, **changes: object) -> None:
    """A run store that says it was made with the cell's configuration."""
    cell.folder.mkdir(parents=True)
    store = RunStore(cell.folder / "run.sqlite")
    config = configuration.values(cell.config) | changes
    store.describe(RunInfo(run=cell.name, status=status, config=config, wall_s=12.0))  # type: ignore[arg-type]
    store.close()


def test_there_is_one_for_everything(experiment: Experiment) -> None:
    found = cells(experiment)
    assert len(found) == 2 * 2 * 2 * 2
    assert {(c.config.data.alpha, c.config.run.seed) for c in found} == {
        (alpha, seed) for alpha in (0.1, 0.4) for seed in (0, 3)
    }


def test_the_same_configuration_is_run_once(experiment: Experiment) -> None:
    runs = distinct(cells(experiment))
    assert [c.label for c in runs].count("tfl") == 4
    assert [c.label for c in runs].count("fimi") == 8
    assert len({c.digest for c in runs}) == len(runs)
    # what an override decides is no part of the name
    assert {c.name for c in runs if c.label == "tfl"} == {
        f"alpha-{alpha}-tfl-seed{seed}" for alpha in (0.1, 0.4) for seed in (0, 3)
    }


def test_names_are_folders_that_a_run_accepts(experiment: Experiment) -> None:
    grid = {"fleet.boards": (["raspberry-pi-4", "mini-pc"] * 5, ["raspberry-pi-5"])}
    for cell in cells(replace(experiment, grid=grid)):
        assert msgspec.convert(cell.config, type(cell.config)) == cell.config
        assert len(cell.name) <= 64
        assert "/" not in cell.name


def test_a_cell_as_a_file_is_the_same_configuration(experiment: Experiment, tmp_path: Path) -> None:
    cell = cells(experiment)[0]
    file = tmp_path / "cell.toml"
    file.write_text(toml(cell.config))
    assert configuration.load(file).config == cell.config


def test_where_a_run_is_does_not_decide_what_it_gives(experiment: Experiment) -> None:
    here = cells(experiment)[0].config
    there = cells(replace(experiment, directory=Path("elsewhere")))[0].config
    assert here != there
    assert digest_of(here) == digest_of(there)


class TestState:
    def test_nothing_there(self, experiment: Experiment) -> None:
        assert state(cells(experiment)[0]).progress == "absent"

    def test_finished(self, experiment: Experiment) -> None:
        cell = cells(experiment)[0]
        stored(cell, "completed")
        assert state(cell).progress == "finished"
        assert state(cell).wall_s == 12.0

    @pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
    def test_not_finished(self, experiment: Experiment, status: str) -> None:
        cell = cells(experiment)[0]
        stored(cell, status)
        assert state(cell).progress == "unfinished"

    def test_no_store(self, experiment: Experiment) -> None:
        cell = cells(experiment)[0]
        cell.folder.mkdir(parents=True)
        assert state(cell).progress == "unfinished"

    def test_another_configuration_is_stale_and_says_what_changed(
        self, experiment: Experiment
    ) -> None:
        cell = cells(experiment)[0]
        stored(cell, "completed", **{"training.learning_rate": 0.7})
        found = state(cell)
        assert found.progress == "stale"
        assert found.changed == ("training.learning_rate was 0.7, is 0.2",)

    def test_who_else_is_told_of_it_changes_nothing(self, experiment: Experiment) -> None:
        cell = cells(experiment)[0]
        told = {"trackers.mlflow": "sqlite:///x.db", "otlp.interval_s": 5.0, "carbon.region": "AT"}
        stored(cell, "completed", **told)
        assert state(cell).progress == "finished"

    def test_a_key_that_is_newer_than_the_run_had_its_default(self, experiment: Experiment) -> None:
        cell = cells(experiment)[0]
        cell.folder.mkdir(parents=True)
        values = configuration.values(cell.config)
        del values["data.split_seed"]
        store = RunStore(cell.folder / "run.sqlite")
        store.describe(RunInfo(run=cell.name, status="completed", config=values))
        store.close()
        assert state(cell).progress == "finished"


class TestGenerators:
    def with_generator(self, experiment: Experiment, **recipe: object) -> Experiment:
        return replace(
            experiment,
            base={"generator.weights": "@small", "data.split": "random"},
            generators=(GeneratorPreparation(name="small", **recipe),),  # type: ignore[arg-type]
        )

    def test_each_public_part_has_its_own(self, experiment: Experiment) -> None:
        asked = self.with_generator(experiment)
        found = cells(asked)
        made = preparations(asked, found)
        assert len(made) == 2  # one for each seed, which draws the public part
        assert {str(p.folder) for p in made} == {c.config.generator.weights for c in found}

    def test_a_split_seed_lets_seeds_share(self, experiment: Experiment) -> None:
        asked = self.with_generator(experiment)
        asked = replace(asked, base=asked.base | {"data.split_seed": 0})
        assert len(preparations(asked, cells(asked))) == 1

    @pytest.mark.parametrize(
        ("key", "values"), [("data.limit", (400, 500)), ("data.validation_fraction", (0.2, 0.3))]
    )
    def test_what_else_decides_the_public_part(
        self, experiment: Experiment, key: str, values: tuple[float, float]
    ) -> None:
        asked = self.with_generator(experiment)
        asked = replace(asked, base=asked.base | {"data.split_seed": 0}, grid={key: values})
        assert len(preparations(asked, cells(asked))) == 2

    def test_another_recipe_is_another_folder(self, experiment: Experiment) -> None:
        few = cells(self.with_generator(experiment, steps=10))[0]
        many = cells(self.with_generator(experiment, steps=20))[0]
        assert few.config.generator.weights != many.config.generator.weights

    def test_one_folder_cannot_serve_two_public_parts(self, experiment: Experiment) -> None:
        asked = self.with_generator(experiment, folder="weights/mine")
        with pytest.raises(ConfigError, match="split_seed"):
            preparations(asked, cells(asked))


class TestTuning:
    @pytest.fixture
    def tuned(self, tmp_path: Path) -> Experiment:
        path = tmp_path / "e.toml"
        tune = "[tune]\nseeds = [100, 101]\n[tune.grid]\ntraining.learning_rate = [0.2, 0.3]\n"
        path.write_text(TEXT + "training.learning_rate = 0.4\n" + tune)
        return replace(read_experiment(path), directory=tmp_path)

    def test_every_strategy_has_the_same_budget(self, tuned: Experiment) -> None:
        found = [c for c in cells(tuned) if c.part == "tuning"]
        for point in ({**c.point} for c in found):
            of = [[c for c in found if c.label == s and c.point == point] for s in ("tfl", "fimi")]
            assert [len(each) for each in of] == [2 * 2] * 2
        assert {c.seed for c in found} == {100, 101}

    def test_epochs_are_tuned_only_where_no_plan_chooses_them(self, tuned: Experiment) -> None:
        assert tuned.tune is not None
        aimed = {"plan.target_accuracy": 0.9}
        asked = replace(
            tuned,
            overrides={"fimi": aimed},
            tune=replace(tuned.tune, grid={"training.epochs": (2,)}),
        )
        with pytest.raises(ConfigError, match=r"\[overrides\.fimi\]"):
            cells(asked)
        cells(replace(asked, overrides={"fimi": aimed | {"plan.choose_epochs": False}}))
        cells(replace(asked, overrides={"tfl": aimed}))

    def test_a_setting_wins_over_the_overrides(self, tuned: Experiment) -> None:
        rates = {
            part: {c.config.training.learning_rate for c in cells(tuned) if c.part == part}
            for part in ("configured", "tuning")
        }
        assert rates == {"configured": {0.2, 0.4}, "tuning": {0.2, 0.3}}
        assert all(
            c.settings == {"training.learning_rate": c.config.training.learning_rate}
            for c in cells(tuned)
        )

    def test_nothing_is_tuned_before_it_is_chosen(self, tuned: Experiment) -> None:
        assert {c.part for c in cells(tuned)} == {"configured", "tuning"}

    def choice(self, label: str, rate: float) -> TuningChoice:
        tried = TriedSetting(
            settings={"training.learning_rate": rate}, reached=1, joules=1.0, accuracy=0.5
        )
        point = {"data.alpha": 0.1, "plan.error_max": 0.07}
        return TuningChoice(point=point, label=label, tried=(tried,), seeds=2)

    def test_what_was_chosen_is_run_on_the_reported_seeds(self, tuned: Experiment) -> None:
        found = cells(tuned, [self.choice("tfl", 0.3)])
        made = [c for c in found if c.part == "tuned"]
        assert [(c.label, c.seed, c.config.training.learning_rate) for c in made] == [
            ("tfl", 0, 0.3),
            ("tfl", 3, 0.3),
        ]

    def test_as_configured_is_not_run_twice(self, tuned: Experiment) -> None:
        before, after = cells(tuned), cells(tuned, [self.choice("fimi", 0.2)])
        assert len(after) == len(before) + 2
        assert {c.name for c in distinct(after)} == {c.name for c in distinct(before)}

    def test_names_are_those_of_one_run_each(self, tuned: Experiment) -> None:
        found = cells(tuned, [self.choice("tfl", 0.3)])
        assert len({c.name for c in found}) == len({c.digest for c in found})

    def test_a_run_that_failed_says_so(self, tuned: Experiment) -> None:
        failed, stopped = cells(tuned)[:2]
        stored(failed, "failed")
        stored(stopped, "interrupted")
        assert (state(failed).failed, state(stopped).failed) == (True, False)
