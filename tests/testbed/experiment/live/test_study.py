"""A study's experiment on its boards, before anything is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fimi.testbed.configuration.sections import ConfigError
from fimi.testbed.experiment.file import read_experiment
from fimi.testbed.experiment.live.study import boards_to_choose, of_fleet
from fimi.testbed.run_folder import RunFolderError

STUDY = """
strategies = ["tfl"]
seeds = 1
[base]
fleet.devices = 2
"""


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the boards of the study in ``study.toml``."""
    monkeypatch.chdir(tmp_path)
    Path("study.toml").write_text(STUDY)
    folder = Path("experiments/study-live")
    folder.mkdir(parents=True)
    return folder / "boards.json"


def test_its_boards_are_those_that_were_chosen(chosen: Path) -> None:
    asked = read_experiment(Path("study.toml"))
    assert of_fleet(asked).boards == ()
    chosen.write_text('["b", "a"]')
    assert of_fleet(asked).boards == ("b", "a")
    assert of_fleet(asked).folder == chosen.parent


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ('["a", "a"]', ConfigError, r"boards\.json: board a is named twice"),
        ('["a", "b/c"]', ConfigError, r"boards\.json: board 'b/c' cannot be used"),
        ('["a"', RunFolderError, r"boards\.json cannot be read .*truncated"),
    ],
)
def test_a_wrong_edit_is_refused_before_anything_runs(
    chosen: Path, text: str, error: type[Exception], words: str
) -> None:
    chosen.write_text(text)
    with pytest.raises(error, match=words):
        of_fleet(read_experiment(Path("study.toml")))


@pytest.mark.parametrize(
    ("more", "count"),
    [
        ("", 2),
        ('fleet.members = ["x", "y"]', 0),
        ('fleet.members = ["x", "y"]\n[overrides.tfl]\nfleet.members = []', 2),
        ("[grid]\nfleet.devices = [1, 3]", 3),
    ],
)
def test_boards_that_the_file_names_are_not_chosen(chosen: Path, more: str, count: int) -> None:
    text = STUDY.replace("fleet.devices = 2", "") if "[grid]" in more else STUDY
    Path("study.toml").write_text(text + more)
    asked = of_fleet(read_experiment(Path("study.toml")))
    assert boards_to_choose(asked) == count
    chosen.write_text('["a", "b", "c", "d"]')  # of before
    assert boards_to_choose(of_fleet(read_experiment(Path("study.toml")))) == count
