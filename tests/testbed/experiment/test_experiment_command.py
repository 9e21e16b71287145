"""``fimi experiment`` as a person runs it; every cell is a real dry run."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Workplace, finish, one_screen, run_value, wait_until

SMALL = """
[base]
fleet.devices = 3
rounds.count = 2
plan.error_max = 0.08
"""
PAIR = 'strategies = ["tfl", "fimi"]\nseeds = 1\n' + SMALL


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A finished experiment: two strategies, one seed."""
    place = Workplace(tmp_path_factory.mktemp("experiment"))
    (place.folder / "pair.toml").write_text(PAIR)
    try:
        ended = place.run("experiment", "pair.toml")
        assert ended.returncode == 0, ended.stderr
        (place.folder / "said.txt").write_text(ended.stdout)
        yield place
    finally:
        place.clean_up()


@pytest.fixture
def copy(done: Workplace, tmp_path: Path) -> Workplace:
    """The same, to be changed."""
    shutil.copytree(done.folder / "experiments", tmp_path / "experiments")
    shutil.copy(done.folder / "pair.toml", tmp_path)
    return Workplace(tmp_path)


def began(place: Workplace, experiment: str) -> dict[str, str]:
    """When each run began, by its name: tells a run that was kept from one done again."""
    stores = (place.folder / "experiments" / experiment / "runs").glob("*/run.sqlite")
    return {store.parent.name: run_value(store.parent, "started_at") for store in stores}


def test_it_compares_real_runs_on_the_same_samples(done: Workplace) -> None:
    folder = done.folder / "experiments" / "pair"
    body = json.loads((folder / "results.json").read_bytes())
    assert body["energy_kind"] == "emulated"
    assert [s["strategy"] for s in body["summaries"]] == ["tfl", "fimi"]
    runs = {r["strategy"]: r for r in body["runs"]}
    assert runs["tfl"]["series"]["data"] == runs["fimi"]["series"]["data"]
    assert runs["tfl"]["series"]["synthetic_samples"] == 0
    assert runs["fimi"]["series"]["synthetic_samples"] > 0
    last = runs["tfl"]["series"]["validation_accuracy"][-1]
    assert runs["fimi"]["target_accuracy"] == last
    assert len((folder / "results.csv").read_text().splitlines()) == 3
    said = (done.folder / "said.txt").read_text()
    assert "against tfl, paired by seed" in said
    assert "emulated" in said
    assert "<html" in (folder / "table.html").read_text()
    assert (folder / "table.md").exists()
    assert not done.leftovers()


def test_what_is_stored_is_what_the_run_itself_reports(done: Workplace) -> None:
    """Joules and bytes of the table are those of the run store, the download included."""
    folder = done.folder / "experiments" / "pair"
    body = json.loads((folder / "results.json").read_bytes())
    for run in body["runs"]:
        db = sqlite3.connect(folder / "runs" / run["run"] / "run.sqlite")
        ((joules,),) = db.execute("SELECT sum(energy_j) FROM sample")
        ((size,),) = db.execute("SELECT sum(size_bytes) FROM transfer")
        db.close()
        assert sum(run["series"]["board_j"]) == pytest.approx(joules)
        assert sum(run["series"]["size_bytes"]) == size


def test_what_is_finished_is_kept(copy: Workplace) -> None:
    before = began(copy, "pair")
    again = copy.run("experiment", "pair.toml", "--format", "json")
    assert again.returncode == 0
    assert "0 to do, 2 runs finished before" in again.stderr
    assert began(copy, "pair") == before
    assert json.loads(again.stdout)["name"] == "pair"


def test_a_changed_file_says_what_is_stale_and_runs_nothing(copy: Workplace) -> None:
    (copy.folder / "pair.toml").write_text(PAIR.replace("count = 2", "count = 3"))
    before = began(copy, "pair")
    refused = copy.run("experiment", "pair.toml")
    assert refused.returncode == 2
    assert "rounds.count was 2, is 3" in refused.stderr
    assert "--redo" in refused.stderr
    assert one_screen(refused.stderr)
    assert began(copy, "pair") == before
    listed = copy.run("experiment", "pair.toml", "--list")
    assert listed.stdout.count("stale") >= 2


def test_runs_on_different_samples_are_not_compared(copy: Workplace) -> None:
    store = copy.folder / "experiments" / "pair" / "runs" / "fimi-seed0" / "run.sqlite"
    db = sqlite3.connect(store)
    db.execute("UPDATE run SET partition_digest = 'other'")
    db.commit()
    db.close()
    refused = copy.run("experiment", "pair.toml", "--summarise")
    assert refused.returncode == 5
    assert "different data (partition)" in refused.stderr
    assert one_screen(refused.stderr)


def test_listing_runs_nothing(place: Workplace) -> None:
    (place.folder / "pair.toml").write_text(PAIR)
    listed = place.run("experiment", "pair.toml", "--list")
    assert listed.returncode == 0
    assert "tfl-seed0" in listed.stdout
    assert "absent" in listed.stdout
    assert not (place.folder / "experiments").exists()


def test_a_file_with_the_name_of_a_command_is_reached_by_its_path(place: Workplace) -> None:
    grid = "[grid]\ntraining.learning_rate = [0.1]\ntraining.batch_size = [16]\n"
    (place.folder / "compare").write_text(PAIR.replace("seeds = 1", "seeds = [123456789]") + grid)
    listed = place.run("experiment", "./compare", "--list")
    assert listed.returncode == 0, listed.stderr
    for strategy in ("tfl", "fimi"):  # longer than a name in other tables
        assert f"learning_rate-0.1-batch_size-16-{strategy}-seed123456789" in listed.stdout
    assert place.run("experiment", "compare").returncode == 2


def test_experiments_side_by_side(copy: Workplace, done: Workplace) -> None:
    other = str(done.folder / "experiments" / "pair")
    same = copy.run(
        "experiment", "compare", "experiments/pair", other, "--same", "--html", "s.html"
    )
    assert same.returncode == 0, same.stderr
    assert "the tables are the same to the last digit" in same.stderr
    assert "nothing: configuration, data, versions and cells are the same" in same.stdout
    assert "<html" in (copy.folder / "s.html").read_text()
    results = copy.folder / "experiments" / "pair" / "results.json"
    body = json.loads(results.read_bytes())
    body["runs"][1]["series"]["board_j"][0] += 1.0
    results.write_text(json.dumps(body))
    changed = copy.run(
        "-q", "experiment", "compare", str(results), other, "--same", "--format", "json"
    )
    assert changed.returncode == 5
    assert "fimi, seed 0: series.board_j[0] is" in changed.stderr
    assert "the tables are not the same: 1 values differ" in changed.stderr
    assert len(json.loads(changed.stdout)["unequal"]["B"]) == 1
    told = copy.run("experiment", "compare", other, str(results), "--format", "markdown")
    assert told.returncode == 0, told.stderr
    assert "| board, metered |" in told.stdout


def test_what_is_metered_stands_beside_what_was_predicted(done: Workplace) -> None:
    """Both are those of the run's own report."""
    folder = done.folder / "experiments" / "pair"
    body = json.loads((folder / "results.json").read_bytes())
    for run in body["runs"]:
        own = run["series"]["measured_and_predicted"]["board_j"]
        told = done.run("report", str(folder / "runs" / run["run"]), "--format", "json")
        compared = json.loads(told.stdout)["energy_compared"]
        assert own["measured"] == compared["measured"]["value_j"]
        assert own["predicted"] == compared["predicted_j"]
        assert (own["energy_kind"], own["left_out"]) == ("emulated", 0.0)


def test_a_cell_that_fails_is_reported_and_stops_no_other(place: Workplace) -> None:
    text = PAIR + "[overrides.fimi]\nplan.error_max = 0.0271\n"
    (place.folder / "fails.toml").write_text(text)
    ended = place.run("experiment", "fails.toml")
    assert ended.returncode == 5
    assert "fimi-seed0 failed: " in ended.stderr
    assert "error_max" in ended.stderr
    with (place.folder / "experiments" / "fails" / "results.csv").open() as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert rows["tfl-seed0"]["problem"] == ""
    assert "error_max" in rows["fimi-seed0"]["problem"]
    assert rows["fimi-seed0"]["board_j_to_target"] == ""
    place.wait_for_silence()


QUICK = 'training.backend = "torch"\ndeployment.export = false\n'
"""Nothing is traced for ONNX, which is a quarter of the work of so short a run."""
STOPPABLE = 'strategies = ["tfl"]\nseeds = 2\njobs = 1\n' + SMALL + QUICK


TUNED = """
training.learning_rate = 0.01
[tune]
seeds = [100]
[tune.grid]
training.learning_rate = [0.2]
"""


@pytest.mark.timeout(300)  # three dry runs
def test_it_tunes_on_other_seeds_and_gives_both_tables(place: Workplace) -> None:
    text = 'strategies = ["tfl"]\nseeds = [0]\n' + SMALL + QUICK + TUNED
    (place.folder / "tune.toml").write_text(text.replace("rounds.count = 2", "rounds.count = 1"))
    ended = place.run("experiment", "tune.toml", "--format", "json")
    assert ended.returncode == 0, ended.stderr
    body = json.loads(ended.stdout)
    (choice,) = body["choices"]
    assert choice["taken"] == {"training.learning_rate": 0.2}
    (as_configured,), (tuned,) = body["runs"], body["tuned"]["runs"]
    assert as_configured["settings"] == {"training.learning_rate": 0.01}
    assert (tuned["settings"], tuned["seed"]) == (choice["taken"], 0)
    assert tuned["target_accuracy"] == max(tuned["series"]["validation_accuracy"])
    listed = place.run("experiment", "tune.toml", "--list").stdout
    assert "3 runs for 3 cells" in listed
    assert "chosen for tfl: training.learning_rate = 0.2" in listed
    before = began(place, "tune")
    again = place.run("experiment", "tune.toml")
    assert "0 to do, 3 runs finished before" in again.stderr
    assert began(place, "tune") == before


@pytest.mark.timeout(300)  # three dry runs and what is left of a killed one
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_its_runs_end_by_themselves_and_it_goes_on(place: Workplace) -> None:
    (place.folder / "stop.toml").write_text(STOPPABLE)
    running = place.start("experiment", "stop.toml")
    runs = place.folder / "experiments" / "stop" / "runs"
    wait_until(lambda: (runs / "tfl-seed1" / "run.sqlite").exists(), "the second run has begun")
    running.kill()
    finish(running)
    place.wait_for_silence(60.0)
    kept = run_value(runs / "tfl-seed0", "started_at")
    again = place.run("experiment", "stop.toml")
    assert again.returncode == 0, again.stderr
    assert "1 to do, 1 runs finished before" in again.stderr
    assert run_value(runs / "tfl-seed0", "started_at") == kept
    assert run_value(runs / "tfl-seed1", "status") == "completed"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_what_runs_and_says_how_to_go_on(place: Workplace) -> None:
    (place.folder / "stop.toml").write_text(STOPPABLE)
    running = place.start("experiment", "stop.toml")
    runs = place.folder / "experiments" / "stop" / "runs"
    wait_until(lambda: (runs / "tfl-seed0" / "run.sqlite").exists(), "the first run has begun")
    running.send_signal(signal.SIGINT)
    ended = finish(running)
    assert ended.returncode == 130
    assert "goes on from here" in ended.stderr
    assert not (runs / "tfl-seed1").exists()
    assert not place.processes()
