from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from packed import pictures_of

from fimi.energy.host_profile import load_profile
from fimi.optim.problem import ProblemError
from fimi.optim.problem_file import EXAMPLE, read
from fimi.optim.whole import exists
from fimi.testbed.cli import main
from fimi.testbed.tools.sweep_page import infeasible_spans


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "problem.toml"
    path.write_text(CliRunner().invoke(main, ["optimise", "--example"]).output, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def to_target(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What ``--target-accuracy 0.9`` says of the example, as JSON; planned once."""
    path = tmp_path_factory.mktemp("to-target") / "problem.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    return msgspec.json.decode(fimi(path, "--target-accuracy", "0.9", "--format", "json"))


def fimi(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["optimise", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_example_is_a_problem(example: Path) -> None:
    problem, file = read(example)
    assert problem.devices == ("pi-1", "pi-2", "pi-3", "mini-pc")
    assert problem.idle_power_w.tolist() == [2.7, 2.7, 2.7, 6.0]
    assert (problem.objective, problem.rounds) == ("board", 20)
    assert file.problem.synthetic_value == 1.0


def test_a_plan_as_table_json_and_csv(example: Path) -> None:
    text = fimi(example)
    assert text.count("no plan takes less than") >= 1
    assert "board energy of a round " in text
    assert "dynamic energy of a round " in text
    assert "found by " in text
    body = msgspec.json.decode(fimi(example, "--format", "json"))
    assert body["plan"]["status"] == "feasible"  # whole samples cost more than the tolerance
    assert body["plan"]["energy_j"] >= body["plan"]["bound_j"]
    rows = list(csv.reader(io.StringIO(fimi(example, "--format", "csv"))))
    assert [row[0] for row in rows] == ["device", "pi-1", "pi-2", "pi-3", "mini-pc"]
    for row in csv.DictReader(io.StringIO(fimi(example, "--format", "csv"))):
        for name in ("board", "dynamic"):
            figures = [float(row[f"plan {name} {what}"]) for what in ("J", "bound J", "gap %")]
            shown = body["plan"][name]
            assert figures == [shown["energy_j"], shown["bound_j"], shown["gap_percent"]]
        assert row["plan objective"] == "board"
        assert row["plan found by"] == body["plan"]["search"]


def test_points_that_no_plan_chooses_are_named(example: Path) -> None:
    text = EXAMPLE.replace(
        "frequency_steps_hz = [] ", "frequency_steps_hz = [0.6e9, 1.2e9, 1.8e9] "
    ).replace("step_power_w = [] ", "step_power_w = [1.9, 1.1, 3.0] ")
    example.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(main, ["optimise", str(example), "--objective", "dynamic"])
    assert result.exit_code == 0, result.output
    assert "note: pi-1, pi-2, pi-3: never chosen: 0.6 GHz; another" in result.stderr
    assert max(map(len, result.stderr.splitlines())) <= 80
    assert "never chosen" not in result.stdout


def test_a_plan_of_calibrated_boards(tmp_path: Path) -> None:
    """What ``fimi calibrate`` writes is planned with: points, radio and all."""
    quick = ["--repeats", "1", "--seconds", "1"]
    profile = tmp_path / "pi.toml"
    done = CliRunner().invoke(
        main, ["calibrate", "--emulated", "raspberry-pi-4", "--out", str(profile), *quick]
    )
    assert done.exit_code == 0, done.output
    path = tmp_path / "problem.toml"
    path.write_text(
        "[problem]\ndeadline_s = 20.0\nbandwidth_hz = 4e5\npayload_bits = 1.2e6\nepochs = 5\n"
        '[[device]]\nid = "pi"\ncount = 2\nprofile = "pi.toml"\nlocal_counts = [40, 3]\n',
        encoding="utf-8",
    )
    body = msgspec.json.decode(fimi(path, "--format", "json"))["plan"]
    board = load_profile(profile).board
    names = {point.name for point in board.compute.points}
    assert len(names) > 3
    assert {device["point"]["setting"] for device in body["devices"]} <= names
    row = next(csv.DictReader(io.StringIO(fimi(path, "--format", "csv"))))
    assert row["setting"] in names
    assert row["setting"] in fimi(path)
    problem, _ = read(path)
    assert problem.idle_power_w.tolist() == [board.idle_power_w] * 2
    assert problem.electronics_power_w.tolist() == [board.link.electronics_power_w] * 2


def test_synthetic_samples_worth_less(example: Path) -> None:
    plain = msgspec.json.decode(fimi(example, "--format", "json"))["plan"]
    text = EXAMPLE.replace("synthetic_value = 1.0 ", "synthetic_value = 0.6 ")
    example.write_text(text, encoding="utf-8")
    less = msgspec.json.decode(fimi(example, "--format", "json"))["plan"]
    assert less["energy_j"] > plain["energy_j"]
    assert less["error"] <= less["error_max"] * (1 + 1e-9)
    assert "count = 3  " in text  # two devices say the same sooner
    example.write_text(text.replace("count = 3  ", "count = 1  "), encoding="utf-8")
    assert "counts as 0.6 real ones" in fimi(example, "--target-accuracy", "0.9")
    refused = CliRunner().invoke(main, ["optimise", str(example), "--sweep", "t_max=10:20:2"])
    assert refused.exit_code == 2
    assert "synthetic_value is 0.6" in refused.output


def test_a_sweep_with_its_infeasible_region(example: Path, tmp_path: Path) -> None:
    page = tmp_path / "sweep.html"
    text = fimi(example, "--sweep", "t_max=2,10,20", "--plot", page)
    lines = [line.split() for line in text.splitlines()][2:]
    assert lines[1][1] == "infeasible"
    assert float(lines[2][1]) > float(lines[3][1])
    html = page.read_text(encoding="utf-8")
    shade = pictures_of(html)["sweep-energy"]["layout"]["annotations"]
    assert [each["text"] for each in shade] == ["infeasible"]
    assert "Why there is no plan" in html
    rows = list(
        csv.DictReader(
            io.StringIO(fimi(example, "--sweep", "error_max=0.1,0.13", "--format", "csv"))
        )
    )
    assert [row["feasible"] for row in rows] == ["True", "True"]
    assert float(rows[0]["energy_j"]) > float(rows[1]["energy_j"])
    points = msgspec.json.decode(
        fimi(example, "--sweep", "t_max=2,20", "--sweep", "alpha=0.1,10", "--format", "json")
    )
    assert len(points) == 4
    assert points[0]["obstacle"] == "deadline"


@pytest.mark.parametrize("objective", ["board", "dynamic"])
def test_a_sweep_has_both_energies_with_their_bounds(example: Path, objective: str) -> None:
    asked = [example, "--objective", objective, "--sweep", "t_max=16,20"]
    text = fimi(*asked)
    assert max(map(len, text.splitlines())) <= 80
    first = text.splitlines()[0].split()
    assert next(word for word in first if word in ("board", "dynamic")) == objective
    assert first.count("bound") == first.count("gap") == 2
    points = msgspec.json.decode(fimi(*asked, "--format", "json"))
    rows = list(csv.DictReader(io.StringIO(fimi(*asked, "--format", "csv"))))
    for t_max, point, row in zip((16, 20), points, rows, strict=True):
        for what in ("j", "bound_j", "gap_percent"):
            assert point["energy_j" if what == "j" else what] == point[f"{objective}_{what}"]
        for name in ("board", "dynamic"):
            energy_j, bound_j = point[f"{name}_j"], point[f"{name}_bound_j"]
            assert 0 < bound_j <= energy_j
            assert point[f"{name}_gap_percent"] == pytest.approx(100 * (energy_j / bound_j - 1))
            assert [float(row[f"{name}_{what}"]) for what in ("j", "bound_j")] == [
                energy_j,
                bound_j,
            ]
        # The same as the plan in whole samples has, but for the price of these.
        text = EXAMPLE.replace("t_max_s = 20.0", f"t_max_s = {t_max}.0", 1)
        example.write_text(text, encoding="utf-8")
        plan = msgspec.json.decode(fimi(*asked[:3], "--format", "json"))["plan"]
        for name in ("board", "dynamic"):
            assert point[f"{name}_j"] == pytest.approx(plan[name]["energy_j"], rel=0.01)
            assert point[f"{name}_bound_j"] == pytest.approx(plan[name]["bound_j"], rel=1e-5)


def test_both_energies_to_a_target(example: Path, to_target: Any) -> None:
    asked, body = [example, "--target-accuracy", "0.9"], to_target
    for name in ("board", "dynamic"):
        found, plan = body["to_target"][name], body["plan"][name]
        for what in ("energy_j", "bound_j"):
            assert found[what] == pytest.approx(body["choice"]["best"]["rounds"] * plan[what])
        assert found["gap_percent"] == pytest.approx(plan["gap_percent"])
    least = body["to_target"]["board"]["energy_j"]
    assert least == pytest.approx(body["choice"]["best"]["total_j"], rel=0.01)
    result = CliRunner().invoke(main, ["optimise", *map(str, asked), "--format", "csv"])
    words = " ".join(result.stderr.split())
    assert f"whole samples, takes board energy {least:.5g} J (bound" in words
    assert "whole samples, takes" not in result.stdout


def test_joules_to_a_target(example: Path, to_target: Any) -> None:
    body, choice = to_target, to_target["choice"]
    assert choice["best"]["total_j"] == min(trial["total_j"] for trial in choice["trials"])
    assert body["plan"]["error_max"] == choice["best"]["error_max"]
    for more in ([], ["--objective", "dynamic"]):
        table = fimi(example, "--target-accuracy", "0.9", *more).split("\n\n")[0].splitlines()
        keys = [tuple(line.replace("→", "").split()[:2]) for line in table[1:]]
        assert len(keys) > 2
        assert len(set(keys)) == len(keys)
        assert sum(line.startswith("→") for line in table) == 1


def test_the_chosen_error_limit_has_a_plan(example: Path) -> None:
    """With little time and band, the cheapest Δ_max may have one in fractions of samples only."""
    text = EXAMPLE
    for before, after in (
        ("t_max_s = 20.0", "t_max_s = 8.5"),
        ("bandwidth_hz = 0.4e6", "bandwidth_hz = 1.2e5"),
        ("idle_power_w = 6.0", "idle_power_w = 60.0"),
    ):
        assert before in text
        text = text.replace(before, after, 1)
    example.write_text(text, encoding="utf-8")
    body = msgspec.json.decode(fimi(example, "--target-accuracy", "0.8", "--format", "json"))
    best, trials = body["choice"]["best"], body["choice"]["trials"]
    cheapest = min(trials, key=lambda trial: trial["total_j"])
    problem, _ = read(example)
    assert best in trials
    assert cheapest["error_max"] <= best["error_max"] < 1.01 * cheapest["error_max"]
    assert exists(msgspec.structs.replace(problem, error_max=best["error_max"]))
    assert body["plan"]["error"] <= body["plan"]["error_max"] == best["error_max"]


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ([], 2, "--example"),
        (["missing.toml"], 2, "no such file"),
        (["PATH", "--plot", "x.html"], 2, "--sweep"),
        (["PATH", "--sweep", "colour=1"], 2, "t_max"),
        (["PATH", "--target-accuracy", "1.5"], 2, "between 0 and 1"),
        (["PATH", "--objective", "bord"], 2, "Did you mean 'board'?"),
        (["PATH", "--sweep", "t_max=20", "--inner", "reference"], 2, "single plan"),
        (["PATH", "--sweep", "t_max=20", "--sweep", "t_max=10"], 2, "given twice"),
        (["PATH", "--sweep", "devices=2.5,3"], 2, "whole numbers"),
        (["PATH", "--sweep", "t_max=20", "--plot", "nowhere/x.html"], 2, "no folder nowhere"),
    ],
)
def test_one_line_errors(example: Path, arguments: list[str], code: int, what: str) -> None:
    given = [str(example) if a == "PATH" else a for a in arguments]
    result = CliRunner().invoke(main, ["optimise", *given])
    assert result.exit_code == code
    assert what in result.output


def test_an_infeasible_problem_has_its_own_exit_code(example: Path) -> None:
    example.write_text(EXAMPLE.replace("t_max_s = 20.0", "t_max_s = 0.5"), encoding="utf-8")
    result = CliRunner().invoke(main, ["optimise", str(example)])
    assert result.exit_code == 4
    assert "feasible with" in result.output


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("bandwidth_hz = 0.4e6", "bandwidth = 0.4e6", "bandwidth"),
        ("t_max_s = 20.0", "", "t_max_s is missing"),
        ("local_counts = [40, 3, 0, 12]", "local_counts = [40, 3]", "classes"),
        ("channel_gain = 1.0e-10", "channel_gain = -1.0", "channel_gain"),
        ("count = 3", "count = 0", "count"),
        (
            "idle_power_w = 6.0",
            "idle_power_w = inf",
            r"problem\.toml: .*mini-pc.*idle_power_w is inf",
        ),
        ("scale = 0.23", "scale = -1", r"problem\.toml: \[rounds\] scale is -1"),
        ("sensitivity = 19.3", "sensitivity = inf", r"\[rounds\] sensitivity is inf"),
        ("[problem]", "[problem", "not TOML"),
        ("# fleet_budget_j = 9000", "fleet_budget_j = -9 #", "fleet_budget_j is -9"),
        ("# fleet_budget_j = 9000", "fleet_budget_j = 0 #", "fleet_budget_j is 0"),
        ("# fleet_budget_j = 9000", "fleet_budget_j = nan #", "fleet_budget_j is nan"),
        ("rounds_count = 20", "rounds_count = inf", "rounds_count is inf.*greater than 0"),
        ("rounds_count = 20", "rounds_count = 0", "rounds_count is 0.*greater than 0"),
        ("t_max_s = 20.0", "deadline_s = 1e13", r"deadline_s is 1e\+13.*at most 1e\+09"),
        ("t_max_s = 20.0", "t_max_s = 1e13", r"t_max_s is 1e\+13.*to 1e\+09"),
        ("downlink_rate_bps = 4.0e6", "downlink_rate_bps = 0.0", "'pi': downlink_rate_bps is 0;"),
        ("downlink_rate_bps = 4.0e6", "downlink_rate_bps = nan", "'pi': downlink_rate_bps is nan"),
        ("downlink_rate_bps = 4.0e6", "downlink_rate_bps = -1", "'pi': downlink_rate_bps is -1"),
        ('id = "mini-pc"', 'id = ""', r"\[\[device\]\] number 2: id is empty"),
        ("local_counts = [40, 3, 0, 12]", "local_counts = []", "'pi': local_counts is empty"),
        ("local_counts = [0, 60, 25, 8]", "local_counts = []", "'mini-pc': local_counts is empty"),
        ("local_counts = [0, 60, 25, 8]", "local_counts = [1]", "'pi', 1 for device 'mini-pc'"),
        (
            '# profile = "pi.toml"',
            'profile = "none.toml" #',
            "'pi': profile: .*none.toml: no such file; 'fimi calibrate",
        ),
    ],
)
def test_a_wrong_file_is_explained(example: Path, before: str, after: str, what: str) -> None:
    assert before in EXAMPLE
    example.write_text(EXAMPLE.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(ProblemError, match=what):
        read(example)


def test_steps_without_power_take_no_joules(example: Path) -> None:
    text = EXAMPLE.replace(
        "frequency_steps_hz = [] ", "frequency_steps_hz = [0.6e9, 1.0e9, 1.8e9] "
    ).replace("step_power_w = [] ", "step_power_w = [0, 0, 0] ")
    example.write_text(text, encoding="utf-8")
    body = msgspec.json.decode(fimi(example, "--format", "json"))["plan"]
    assert [device["compute_j"] for device in body["devices"][:3]] == [0.0, 0.0, 0.0]
    assert body["devices"][3]["compute_j"] > 1.0


def test_spans_of_what_is_infeasible() -> None:
    from fimi.optim.sweep import SweepPoint

    points = [SweepPoint(values={"t_max": x}, feasible=x > 2.5) for x in (1.0, 2.0, 3.0, 4.0)]
    assert infeasible_spans(points, "t_max") == [(1.0, 2.5)]
