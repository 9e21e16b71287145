"""A data set is loaded at most once in a process."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import counted_digits
from commandline import Workplace

from fimi.testbed.experiment.file import read_experiment
from fimi.testbed.experiment.run import check_data, plan

DATASET = "counted_digits:digits"
HERE = Path(__file__).parent


def loads(folder: Path) -> Counter[str]:
    """Process id to how often it has loaded the data set."""
    return Counter((folder / counted_digits.LOADS).read_text().split())


def test_every_process_of_a_dry_run_loads_it_once(place: Workplace) -> None:
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = place.run(
        *("dry-run", "--devices", "2", "--rounds", "1", "--set", "plan.error_max=0.08"),
        *("--set", f"data.dataset={DATASET}", "--set", f"data.root={place.folder}"),
        environment={"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    counted = loads(place.folder)
    assert len(counted) >= 3  # the parent with the coordinator, the generator node, the devices
    assert set(counted.values()) == {1}


def test_the_check_of_an_experiment_loads_it_once_for_all_cells(tmp_path: Path) -> None:
    file = tmp_path / "seeds.toml"
    file.write_text(
        f"""
        strategies = ["tfl", "fimi"]
        seeds = 3
        directory = '{tmp_path}'
        [base.data]
        dataset = "{DATASET}"
        root = '{tmp_path}'
        [grid]
        data.alpha = [0.5, 1.0]
        """
    )
    cells = plan(read_experiment(file)).cells
    assert len(cells) == 12
    check_data(cells)
    assert sum(loads(tmp_path).values()) == 1
