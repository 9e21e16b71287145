"""Experiment files: what they say, and what is refused with a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fimi.report.comparison.runs import AccuracyTarget
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.experiment.cells import cells
from fimi.testbed.experiment.definition import SlurmRequest
from fimi.testbed.experiment.file import read_experiment

READY = sorted((Path(__file__).parents[3] / "examples" / "experiments").glob("*.toml"))
GOOD = 'strategies = ["tfl", "fimi"]\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str) -> Path:
        path = tmp_path / "small try.toml"
        path.write_text(text)
        return path

    return write_file


Write = Callable[[str], Path]


class TestWhatItSays:
    def test_the_shortest_one(self, write: Write) -> None:
        found = read_experiment(write(GOOD))
        assert found.name == "small-try"
        assert found.seeds == (0, 1, 2, 3, 4)
        assert (found.baseline, found.target) == ("tfl", AccuracyTarget(of="tfl", which="final"))
        assert found.jobs == 0

    def test_keys_may_be_tables_or_dotted(self, write: Write) -> None:
        one = read_experiment(write(GOOD + "[base.rounds]\ncount = 3\n[grid]\ndata.alpha = [1.0]"))
        two = read_experiment(write(GOOD + '[base]\n"rounds.count" = 3\n[grid.data]\nalpha=[1.0]'))
        assert one.base == two.base == {"rounds.count": 3}
        assert one.grid == two.grid == {"data.alpha": (1.0,)}

    def test_a_base_file_stands_beside_the_experiment(self, write: Write) -> None:
        path = write(GOOD + '[base]\nfile = "fimi.toml"\nrounds.count = 4\n')
        (path.parent / "fimi.toml").write_text("[rounds]\ncount = 9\n[fleet]\ndevices = 3\n")
        config = cells(read_experiment(path))[0].config
        assert (config.rounds.count, config.fleet.devices) == (4, 3)

    def test_a_label_may_stand_for_a_strategy(self, write: Write) -> None:
        text = 'strategies = ["tfl", "tfl-slow"]\n[overrides.tfl-slow]\nrun.strategy = "tfl"\n'
        found = cells(read_experiment(write(text + "training.learning_rate = 0.01\n")))
        assert {(c.label, c.config.run.strategy) for c in found} == {
            ("tfl", "tfl"),
            ("tfl-slow", "tfl"),
        }

    @pytest.mark.parametrize(
        ("said", "target"),
        [
            ("0.9", AccuracyTarget(value=0.9)),
            ('"tfl-best"', AccuracyTarget(of="tfl", which="best")),
            ('"fimi-final"', AccuracyTarget(of="fimi", which="final")),
        ],
    )
    def test_targets(self, write: Write, said: str, target: AccuracyTarget) -> None:
        assert read_experiment(write(f"{GOOD}target = {said}\n")).target == target


TUNE = "[tune]\nseeds = [100, 101]\n[tune.grid]\ntraining.learning_rate = [0.2, 0.3]\n"


class TestSlurm:
    def test_left_out_it_asks_for_an_hour_and_a_core(self, write: Write) -> None:
        found = read_experiment(write(GOOD)).slurm
        assert (found.time_min, found.cpus, found.parallel) == (60, 1, 0)
        assert (found.partition, found.account, found.memory_gb, found.extra) == ("", "", 0, {})

    def test_all_of_it(self, write: Write) -> None:
        text = "partition = 'cpu'\naccount = 'me'\ntime_min = 5\ncpus = 2\nmemory_gb = 1.5\n"
        extra = "parallel = 3\nextra = {qos = 'low', nice = 100, exclusive = true}\n"
        assert read_experiment(write(f"{GOOD}[slurm]\n{text}{extra}")).slurm == SlurmRequest(
            partition="cpu",
            account="me",
            time_min=5,
            cpus=2,
            memory_gb=1.5,
            parallel=3,
            extra={"qos": "low", "nice": 100, "exclusive": True},
        )


class TestTuning:
    def test_every_combination_on_seeds_apart(self, write: Write) -> None:
        found = read_experiment(write(GOOD + TUNE + "training.epochs = [1, 5]\n")).tune
        assert found is not None
        assert found.seeds == (100, 101)
        assert found.settings == [
            {"training.learning_rate": rate, "training.epochs": epochs}
            for rate in (0.2, 0.3)
            for epochs in (1, 5)
        ]

    def test_targets_are_those_of_validation_unless_said_otherwise(self, write: Write) -> None:
        assert read_experiment(write(GOOD)).target.on == "validation"
        assert read_experiment(write(GOOD + 'target_on = "test"')).target.on == "test"


class TestEqualCompute:
    def test_every_strategy_trains_as_many_steps(self, write: Write) -> None:
        found = cells(read_experiment(write(GOOD + "equal_compute = 45\n" + TUNE)))
        assert {c.config.training.steps for c in found} == {45}
        assert {c.label for c in found} == {"tfl", "fimi"}

    @pytest.mark.parametrize(
        "text",
        [
            "[base]\ntraining.epochs = 2",
            "[overrides.fimi]\ntraining.steps = 9",
            TUNE + "training.epochs = [1, 2]",
        ],
    )
    def test_nothing_else_decides_how_much(self, write: Write, text: str) -> None:
        with pytest.raises(ConfigError, match=r"no effect beside equal_compute = 45"):
            read_experiment(write(f"{GOOD}equal_compute = 45\n{text}\n"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "place", "remedy"),
        [
            ("seeds = 3", "strategies", 'strategies = ["tfl", "fimi"]'),
            (GOOD + "sedes = 3", "'sedes'", "'seeds'"),
            (GOOD + "[plan]\ndeadline_s = 3", "'plan'", "[base.plan]"),
            (GOOD + "seeds = [1, 1]", "seeds", "once"),
            (GOOD + 'baseline = "gnfl"', "baseline", "tfl, fimi"),
            (GOOD + "target = 90.0", "target", "0.9"),
            (GOOD + 'target = "hdc-best"', "target", "tfl-best"),
            (GOOD + "[grid]\ndata.alpha = 0.1", "[grid]", "data.alpha = [0.1]"),
            (GOOD + "[grid]\ndata.alpha = [0.1, 0.1]", "[grid]", "once"),
            (GOOD + "[grid]\ndata.alhpa = [0.1]", "[grid]", "'alpha'"),
            (GOOD + "[grid]\nalpha = [0.1]", "[grid]", "section.key"),
            (GOOD + "[base]\nrun.seed = 3", "[base]", "seeds = "),
            (GOOD + "[grid]\nrun.strategy = ['tfl']", "[grid]", "strategies"),
            (GOOD + "[overrides.tlf]\ndata.alpha = 1", "[overrides.tlf]", "data.alpha"),
            (GOOD + "[overrides.hdc]\nplan.error_max = 1", "[overrides.hdc]", "tfl, fimi"),
            (GOOD + "[overrides.tfl]\ndata.alpha = 1", "[overrides.tfl]", "[grid]"),
            ('strategies = ["tfl", "mine"]', "'mine'", "[overrides.mine]"),
            (GOOD + '[base]\ngenerator.weights = "@x"', "@x", "[[generator]]"),
            (GOOD + '[[generator]]\nname = "x"', "'x'", "generator.weights"),
            (GOOD + TUNE.replace("100", "2"), "[tune] seeds: 2", "[100, 101]"),
            (GOOD + TUNE.replace("100", "101"), "[tune] seeds", "once"),
            (GOOD + "[tune]\nseeds = [100]\ngrid = {}", "[tune.grid]", "learning_rate"),
            (GOOD + "[tune]\nseeds = [100]", "grid", "docs/experiments.md"),
            (GOOD + TUNE + "data.alpha = [1.0]", "[tune.grid]", "[grid]"),
            (
                GOOD + "[grid]\ntraining.learning_rate = [0.1]\n" + TUNE,
                "training.learning_rate",
                "tuned",
            ),
            (GOOD + TUNE + "plan.objective = ['board', 'dynamic']", "[tune.grid]", "[base]"),
            (GOOD + TUNE + 'generator.weights = ["@x"]', "@x", "[[generator]]"),
            (GOOD + TUNE + "training.epohcs = [1]", "[tune.grid]", "'epochs'"),
            (GOOD + 'target_on = "train"', "target_on", "docs/experiments.md"),
            (GOOD + "jobs = 0", "jobs", "docs/experiments.md"),
            (GOOD + "[slurm]\nparitition = 'cpu'", "[slurm]", "'partition'"),
            (GOOD + "[slurm]\ntime_min = 0", "slurm.time_min", "docs/experiments.md"),
            (GOOD + "slurm = 'cpu'", "slurm", "docs/experiments.md"),
            (GOOD + "[slurm.extra]\nqos = ['low']", "slurm.extra", "docs/experiments.md"),
            (GOOD + "[base", "TOML", ""),
        ],
    )
    def test_it_names_the_place_and_the_remedy(
        self, write: Write, text: str, place: str, remedy: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            read_experiment(write(text))
        said = str(caught.value)
        assert "small try.toml" in said
        assert place in said
        assert remedy in said

    def test_a_wrong_value_is_refused_with_the_part_of_the_file(self, write: Write) -> None:
        experiment = read_experiment(write(GOOD + "[grid]\nplan.deadline_s = [-1]"))
        with pytest.raises(ConfigError, match=r"\[grid\].*plan\.deadline_s = -1"):
            cells(experiment)

    def test_a_missing_file_points_to_the_ready_ones(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="examples/experiments"):
            read_experiment(tmp_path / "none.toml")


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_every_ready_file_is_valid(path: Path) -> None:
    found = cells(read_experiment(path))
    assert len({cell.name for cell in found}) >= 6


def test_there_are_ready_files() -> None:
    assert {path.stem for path in READY} >= {
        *("digits-small", "digits-strategies", "digits-error-max", "digits-deadline"),
        "mnist-small",
        *("fimi-cifar10", "fimi-gtsrb", "genfl-cifar10", "genfl-cifar100"),
    }
