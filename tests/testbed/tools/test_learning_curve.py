from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from packed import pictures_of

from fimi.learning.training.curve_points import CurvePoint
from fimi.optim.known_curve import read_curve
from fimi.testbed.cli import main
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.tools.curve_page import curve_page
from fimi.testbed.tools.learning_curve import as_text, result_of

SMALL = ("--amounts", "40,80,160", "--draws", "1", "--steps", "150", "--set")
RATE = "training.learning_rate=0.1"


def fimi(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["learning-curve", *SMALL, RATE, *map(str, arguments)])


def points(alpha: float, beta: float, delta0: float, draws: int = 3) -> list[CurvePoint]:
    return [
        CurvePoint(
            samples=d,
            draw=draw,
            epochs=1,
            error=alpha * d**-beta * (1 + 0.01 * (draw - 1)) + delta0,
            seconds=1.0,
        )
        for draw in range(draws)
        for d in (20, 50, 100, 200, 500, 1000)
    ]


class TestResult:
    def test_the_lines_to_paste_are_a_valid_plan(self, tmp_path: Path) -> None:
        text = as_text(result_of(points(4.0, 0.9, 0.02), interrupted=False))
        path = tmp_path / "fimi.toml"
        path.write_text(text[text.index("[plan]") :], encoding="utf-8")
        plan = configuration.load(path).config.plan
        assert plan.curve_alpha == pytest.approx(4.0, rel=0.02)
        assert plan.curve_beta == pytest.approx(0.9, rel=0.02)
        assert plan.curve_delta0 == pytest.approx(0.02, rel=0.05)

    def test_what_is_not_determined_is_said(self) -> None:
        text = as_text(result_of(points(4.0, 0.9, 0.02, draws=1)[:3], interrupted=False))
        assert "do not determine the curve" in text
        assert "measure at more amounts" in text

    def test_too_few_amounts_give_a_table_and_no_curve(self) -> None:
        result = result_of(points(4.0, 0.9, 0.02, draws=2)[:2], interrupted=True)
        assert result.fit is None and len(result.rows) == 2
        assert "no curve: learning curve: 2 different amounts" in as_text(result)
        assert "no curve" in as_text(result_of([], interrupted=True))

    def test_the_page_has_points_curve_and_table(self) -> None:
        result = result_of(points(4.0, 0.9, 0.02), interrupted=False)
        page = curve_page(result, "a <b>")
        assert "a &lt;b&gt;" in page and "a <b>" not in page
        assert page.count("<tr>") == 2 + len(result.rows)  # a heading of two lines
        trained, fit = pictures_of(page)["curve"]["data"]
        assert trained["x"] == [point.samples for point in result.points]
        assert (trained["name"], fit["name"]) == ("trained and tested", "fit")

    def test_the_page_says_why_there_is_no_curve(self) -> None:
        page = curve_page(result_of(points(4.0, 0.9, 0.02)[:2], interrupted=True), "few")
        assert "No curve." in page and "2 different amounts" in page
        assert curve_page(result_of([], interrupted=True), "none").count("<figure") == 0


class TestCommand:
    def test_it_goes_on_where_it_was(self, tmp_path: Path) -> None:
        keep = tmp_path / "points.jsonl"
        first = fimi("--format", "json", "--keep", keep)
        assert first.exit_code == 0, first.output
        body = msgspec.json.decode(first.stdout)
        assert [point["samples"] for point in body["points"]] == [40, 80, 160]
        assert all(0 < point["error"] < 1 for point in body["points"])
        lines = keep.read_bytes().splitlines(keepends=True)
        keep.write_bytes(b"".join(lines[:3]))
        again = fimi("--format", "json", "--keep", keep)
        found = msgspec.json.decode(again.stdout)["points"]
        assert [p["error"] for p in found] == [p["error"] for p in body["points"]]
        assert again.stderr.count("draw 1") == 1

    @pytest.mark.parametrize(
        ("arguments", "what"),
        [
            (("--amounts", "4,x,9"), "write whole numbers"),
            (("--amounts", "10,20"), "2 different amounts"),
            (("--amounts", "10,20,100000"), "an amount of 100000"),
            (("--plot", "nowhere/at/all.html"), "there is no folder"),
        ],
    )
    def test_bad_input(self, arguments: tuple[str, ...], what: str) -> None:
        result = fimi(*arguments)
        assert result.exit_code == 2
        assert what in result.stderr
        assert "Traceback" not in result.output

    def test_what_it_writes_is_a_curve_of_such_a_run_only(self, tmp_path: Path) -> None:
        path = tmp_path / "curve.json"
        written = fimi("--write", path)
        assert written.exit_code == 0, written.output
        assert "small-cnn on digits" in " ".join(written.stdout.split())
        known = read_curve(path)
        split = Scenario(config=Config()).split
        assert (known.public_digest, known.validation_digest) == (
            split.public.digest(),
            split.validation.digest(),
        )
        assert (known.amounts, known.trainings, known.steps) == ((40, 80, 160), 3, 150)
        given = ("--set", f'plan.curve="{path}"', "--set", "plan.error_max=0.9", "-q")
        taken = CliRunner().invoke(main, ["check", "--set", RATE, *given])
        assert taken.exit_code == 0, taken.output
        assert "curve.json: small-cnn on digits" in " ".join(taken.stdout.split())
        refused = CliRunner().invoke(main, ["check", *given])
        assert refused.exit_code == 2
        assert "training.learning_rate 0.1 instead of 0.2" in " ".join(refused.stderr.split())
