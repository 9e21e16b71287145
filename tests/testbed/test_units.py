"""Values in a wrong unit, as a user of the command line meets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fimi.optim.problem_file import EXAMPLE
from fimi.testbed.cli import main
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("plan.error_max", 12, "12 % are 0.12"),
        ("plan.curve_delta0", 2.7, "2.7 % are 0.027"),
        ("plan.synthetic_value", 80, "80 % are 0.8"),
        ("plan.target_accuracy", 95, "95 % are 0.95"),
        ("rounds.target_accuracies", [0.9, 95], "95 % are 0.95"),
        ("data.test_fraction", 20.0, "20 % are 0.2"),
        ("plan.deadline_s", 100_000, "100000 ms are 100 s"),
        ("plan.bandwidth_hz", 20, "looks like kHz or MHz"),
    ],
)
def test_a_configuration(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configuration.load(None, {key: (value, "--set")})
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rounds.count", 0), ("plan.error_max", "many"), ("data.alpha", -1.0), ("broker.port", 70000)],
)
def test_a_mistake_that_no_unit_explains(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as raised:
        configuration.load(None, {key: (value, "--set")})
    assert " are " not in str(raised.value).splitlines()[-1]


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "examples").glob("*.toml")), ids=lambda p: p.stem
)
def test_examples_are_silent(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(path.parent))
    configuration.load(path)
    assert not caplog.records


def optimise(folder: Path, *changes: tuple[str, str]) -> Result:
    text = EXAMPLE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "problem.toml"
    path.write_text(text, encoding="utf-8")
    return CliRunner().invoke(main, ["optimise", str(path)])


def test_a_problem_file(tmp_path: Path) -> None:
    result = optimise(
        tmp_path,
        ("idle_power_w = 2.7", "idle_power_w = 2700"),
        ("transmit_power_max_w = 0.2", "transmit_power_max_w = 200"),
    )
    assert result.exit_code == 0, result.output
    assert result.stderr.count("warning: ") == 2
    assert "2700 mW are 2.7 W" in result.stderr and "200 mW are 0.2 W" in result.stderr
    assert "warning" not in result.stdout


def test_an_error_limit_in_percent(tmp_path: Path) -> None:
    result = optimise(tmp_path, ("error_max = 0.12", "error_max = 12"))
    assert result.exit_code == 0, result.output
    assert "limits nothing; errors are shares, 0 to 1; 12 % are 0.12" in " ".join(
        result.stderr.split()
    )


def test_a_curve_above_1_has_limits_above_1(tmp_path: Path) -> None:
    """α D^(−β) + δ0 of few samples may lie above 1: such a limit says something."""
    result = optimise(
        tmp_path,
        ("error_max = 0.12", "error_max = 1.7"),
        ("alpha = 5.8", "alpha = 7.5"),
        ("beta = 0.93", "beta = 0.32"),
    )
    assert result.exit_code == 0, result.output
    assert "limits nothing" not in " ".join(result.stderr.split())


def test_the_warning_comes_before_the_plan_that_there_is_not(tmp_path: Path) -> None:
    result = optimise(tmp_path, ("bandwidth_hz = 0.4e6", "bandwidth_hz = 0.4"))
    assert result.exit_code != 0
    assert result.stderr.index("0.4 MHz are 4e+05 Hz") < result.stderr.index("fimi: ")


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    result = optimise(tmp_path, ("channel_gain = 1.0e-10", "channel_gain = 100"))
    assert result.exit_code == 2
    assert "100 dB of path loss are 1e-10" in result.stderr
    assert "Traceback" not in result.output


def test_the_example_is_silent(tmp_path: Path) -> None:
    result = optimise(tmp_path)
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
