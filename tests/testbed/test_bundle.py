"""``fimi bundle`` and ``fimi verify`` at a prompt."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from metered_runs import write_metered_run

from fimi.testbed.cli import main


def fimi(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_metered_run(tmp_path_factory.mktemp("runs") / "a-run", ["pi-chip"])


def test_made_and_verified(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "a.zip"
    made = fimi("bundle", run, "--out", path, "--licence", "CC0-1.0", "--date", "2026-11-30")
    assert made.exit_code == 0, made.output
    assert "readings of 1 of 1 device\n" in made.output
    assert "licence  none" not in made.output
    found = fimi("verify", path)
    assert found.exit_code == 0, found.output
    assert "17 of 17 have the joules of their readings" in " ".join(found.output.split())
    assert found.output.rstrip().endswith("the bundle holds, as far as it can be checked")
    told = json.loads(fimi("verify", path, "--format", "json").stdout)
    assert told["holds"] is True
    assert told["sha256"] in made.output
    assert told["checks"][0]["what"] == "archive"


def test_what_does_not_hold_ends_with_1(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "run.sqlite").write_bytes((run / "run.sqlite").read_bytes())
    with closing(sqlite3.connect(copy / "run.sqlite")) as db, db:
        db.execute("UPDATE sample SET energy_j = energy_j + 1 WHERE round = 2 AND phase = 'upload'")
    path = tmp_path / "a.zip"
    made = fimi("bundle", copy, "--out", path)
    assert "licence  none" in made.output
    found = fimi("verify", path)
    assert found.exit_code == 1
    said = " ".join(found.output.split())
    assert "pi-chip, round 2, upload: energy" in said
    assert said.endswith("the bundle does not hold")


def test_an_experiment_is_no_run_and_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "study" / "runs").mkdir(parents=True)
    done = fimi("bundle", tmp_path / "study", "--out", tmp_path / "a.zip")
    assert done.exit_code == 3 and "R004" in done.output
    assert f"name a folder below {tmp_path / 'study' / 'runs'}" in done.output


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["verify", "nowhere.zip"], 2, "there is no such bundle"),
        (["bundle", "nowhere"], 3, "there is no run here"),
        (["bundle", "RUN", "--orcid", "12"], 2, "is no ORCID iD"),
        (["bundle", "RUN", "--date", "tomorrow"], 2, "is no date"),
    ],
)
def test_wrong_usage(run: Path, tmp_path: Path, words: list[str], code: int, said: str) -> None:
    words = [str(run) if word == "RUN" else word for word in words]
    if words[0] == "bundle":
        words += ["--out", str(tmp_path / "a.zip")]
    found = fimi(*words)
    assert (found.exit_code, said in found.output) == (code, True), found.output
