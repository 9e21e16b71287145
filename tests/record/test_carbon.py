"""Carbon figures: worked out by hand, the standard's own example, and what is not known."""

from __future__ import annotations

import csv
import json
import random
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from stored_runs import device_round, round_result

from fimi.energy.joules import Energy
from fimi.record.carbon import Carbon, emissions_so_far, with_carbon
from fimi.record.reader import read_run
from fimi.record.record import Generation
from fimi.record.results import ServerRound
from fimi.record.summary import summarise
from fimi.report.carbon import embodied_words
from fimi.testbed.cli import main

GIVEN: dict[str, Any] = {"intensity_g_per_kwh": 360.0, "source": "a report"}
EMBODIED: dict[str, Any] = {**GIVEN, "embodied_kg": 12.0, "lifetime_years": 4.0}
RUN_J = 172.2  # two boards, three rounds of 28.5 J and 0.6 J of preparation each
LASTED_S = 22.5


def emitted(run: Path, given: dict[str, Any]) -> Carbon:
    found = summarise(with_carbon(read_run(run), given)).carbon
    assert found is not None
    return found


def test_nothing_is_there_where_nothing_is_given(run_dir: Path) -> None:
    assert summarise(read_run(run_dir)).carbon is None
    assert summarise(with_carbon(read_run(run_dir), {"region": "DE"})).carbon is None


def test_it_is_energy_times_intensity(run_dir: Path) -> None:
    found = emitted(run_dir, GIVEN)
    of_run, of_round = found.figures
    assert of_run.total is not None and of_round.total is not None
    assert of_run.total.value_g == pytest.approx(RUN_J / 3.6e6 * 360.0)
    assert of_round.total.value_g == pytest.approx(RUN_J / 3.6e6 * 360.0 / 3)
    assert (of_run.energy.value_j, of_run.energy.value.kind) == (pytest.approx(RUN_J), "emulated")  # type: ignore[union-attr]
    assert not found.is_whole and found.without_embodied == ("device-0", "device-1")
    assert of_run.embodied is None
    assert found.given == "--carbon"


def test_embodied_emissions_fall_on_the_time_that_boards_are_held(run_dir: Path) -> None:
    found = emitted(run_dir, {**EMBODIED, "resource_share": 0.5})
    of_run, of_round = found.figures
    share = LASTED_S / (4 * 365 * 24 * 3600)
    by_hand = 2 * 12_000 * share * 0.5
    assert of_run.embodied is not None and of_run.total is not None and of_round.embodied
    assert of_run.embodied.value_g == pytest.approx(by_hand)
    assert of_round.embodied.value_g == pytest.approx(by_hand / 3)
    assert of_run.total.value_g == pytest.approx(RUN_J / 1e4 + by_hand)
    assert found.is_whole


def test_the_standards_own_example(tmp_path: Path, build: Any) -> None:
    """1000 kg over four years, held for an hour: around 28 g."""
    hour = msgspec.structs.replace(
        build.round_result(1, [build.device_round("d")], 0.5), duration_s=3600.0
    )
    build.write(tmp_path / "r", names=["d"], rounds=[hour])
    found = emitted(tmp_path / "r", {**EMBODIED, "embodied_kg": 1000.0})
    assert found.of_run.embodied is not None
    assert 28.0 < found.of_run.embodied.value_g < 29.0


def test_names_go_before_makes_and_makes_before_the_rest(run_dir: Path) -> None:
    def kg(*named: str, embodied_kg: float = 0.0) -> float | None:
        given = {**EMBODIED, "embodied_kg": embodied_kg, "embodied_of": named}
        found = emitted(run_dir, given).of_run.embodied
        return found and found.value_g / 1e3 / (LASTED_S / (4 * 365 * 24 * 3600))

    assert kg(embodied_kg=5.0) == pytest.approx(10.0)
    assert kg("raspberry-pi-4=7", embodied_kg=5.0) == pytest.approx(14.0)
    assert kg("raspberry-pi-4=7", "device-1=20.5") == pytest.approx(27.5)
    assert kg("device-1=20") == pytest.approx(20.0)
    assert emitted(run_dir, {**EMBODIED, "embodied_kg": 0.0, "embodied_of": ("device-1=20",)}
    ).without_embodied == ("device-0",)  # fmt: skip
    assert kg() is None


def test_a_target_counts_up_to_the_round_that_reached_it(run_dir: Path) -> None:
    run = read_run(run_dir)
    config = {**run.info.config, "rounds.target_accuracies": [0.8, 0.99]}
    run = msgspec.structs.replace(run, info=msgspec.structs.replace(run.info, config=config))
    found = summarise(with_carbon(run, EMBODIED)).carbon
    assert found is not None
    assert [(f.per, f.target) for f in found.figures] == [
        ("run", None),
        ("round", None),
        ("target", 0.8),
    ]
    last = found.figures[-1]
    assert last.total is not None and last.embodied is not None and last.operational is not None
    assert last.operational.value_g == pytest.approx((2 * (2 * 28.5 + 0.6)) / 1e4)
    assert last.embodied.value_g == pytest.approx(2 * 12_000 * 15 / (4 * 365 * 24 * 3600))


def test_a_gap_is_no_figure_and_the_known_part_stands_beside_it(tmp_path: Path, build: Any) -> None:
    gap = [build.device_round("device-0", unread=("upload",)), build.device_round("device-1")]
    build.write(tmp_path / "r", rounds=[build.round_result(1, gap, 0.25)])
    of_run = emitted(tmp_path / "r", EMBODIED).of_run
    assert of_run.operational is None and of_run.total is None
    assert of_run.operational_known is not None and of_run.energy.known is not None
    assert of_run.operational_known.value_g == pytest.approx(of_run.energy.known.value_j / 1e4)


def test_all_machines_are_in_the_larger_boundary(run_dir: Path) -> None:
    joules = Energy(value_j=100.0, kind="measured", source="plug", scope="wall")
    run = read_run(run_dir)
    trained = ServerRound(images=1, seconds=2.0, energy=joules, loss=0.1)
    rounds = tuple(msgspec.structs.replace(each, server=trained) for each in run.rounds)
    made = Generation(requested=4, delivered=4, drawn=4, refused=0, seconds=5.0, energy=joules)
    run = msgspec.structs.replace(run, rounds=rounds, generation=made)

    def of(**more: Any) -> Carbon:
        found = summarise(with_carbon(run, {**EMBODIED, **more})).carbon
        assert found is not None
        return found

    boards, whole = of(), of(boundary="all")
    assert boards.of_run.energy.value_j == pytest.approx(RUN_J) and boards.is_whole
    assert whole.of_run.energy.value_j == pytest.approx(RUN_J + 400.0)
    assert whole.of_run.energy.value is not None and whole.of_run.energy.value.kind == "mixed"
    assert whole.without_embodied == ("generator", "server") and not whole.is_whole
    named = of(boundary="all", embodied_of=("generator=300", "server=100"))
    assert named.is_whole and named.of_run.embodied is not None
    by_hand = 1e3 * (24 * LASTED_S + 300 * 5.0 + 100 * 6.0) / (4 * 365 * 24 * 3600)
    assert named.of_run.embodied.value_g == pytest.approx(by_hand)


class Walked(tuple[Any, ...]):
    """Rounds that count how often somebody walks over them."""

    times = 0

    def __iter__(self) -> Any:
        Walked.times += 1
        return super().__iter__()


def test_emissions_so_far_are_those_of_shorter_runs_and_walk_over_the_rounds_a_few_times(
    run_dir: Path,
) -> None:
    away = replace(device_round("device-1"), status="absent", phases=(), busy_s=None)
    rounds = [
        round_result(n, [device_round("device-0"), *([] if n % 3 else [away])], 0.5)
        for n in range(1, 41)
    ]
    given = {**EMBODIED, "boundary": "all"}
    run = replace(with_carbon(read_run(run_dir), given), rounds=Walked(rounds))
    points = summarise(run).points
    Walked.times = 0
    found = emissions_so_far(run, points)
    assert Walked.times <= 6
    for number in (1, 2, 3, 17, 40):
        short = summarise(replace(run, rounds=tuple(rounds[:number]))).carbon
        assert short is not None and found[number - 1] == short.of_run.total


def test_uncertainty_is_that_of_a_product(run_dir: Path) -> None:
    found = emitted(run_dir, {**GIVEN, "intensity_uncertainty_g_per_kwh": 20.0}).of_run
    energy, draw = found.energy.value, random.Random(1)
    assert energy is not None and found.total is not None
    drawn = [
        draw.gauss(energy.value_j, energy.uncertainty_j) / 3.6e6 * draw.gauss(360.0, 20.0)
        for _ in range(50_000)
    ]
    assert found.total.uncertainty_g == pytest.approx(statistics.stdev(drawn), rel=0.02)


@given(
    value=st.floats(1e-3, 5000),
    scale=st.floats(0.1, 10),
)
def test_it_is_in_proportion_to_the_intensity(value: float, scale: float) -> None:
    from fimi.record.carbon import _operational
    from fimi.record.carbon_settings import CarbonSettings

    energy = Energy(value_j=123.0, kind="measured", source="plug", uncertainty_j=1.0)
    one = _operational(energy, CarbonSettings(intensity_g_per_kwh=value), 1)
    other = _operational(energy, CarbonSettings(intensity_g_per_kwh=value * scale), 2)
    assert one is not None and other is not None
    assert other.value_g * 2 == pytest.approx(one.value_g * scale)
    assert other.uncertainty_g * 2 == pytest.approx(one.uncertainty_g * scale)


def test_a_store_with_settings_that_none_can_have_says_so(run_dir: Path) -> None:
    run = with_carbon(read_run(run_dir), {"intensity_g_per_kwh": "much"})
    summary = summarise(run)
    assert summary.carbon is None
    assert "no carbon figure" in summary.warnings[-1]


def test_report_json_page_and_export_say_the_same(run_dir: Path, tmp_path: Path) -> None:
    options = [
        *("--carbon", "intensity_g_per_kwh=360", "--carbon", "source='a <b>report</b>'"),
        *("--carbon", "date=2025", "--carbon", "embodied_kg=12", "--carbon", "lifetime_years=4"),
    ]
    text = CliRunner().invoke(main, ["report", str(run_dir), *options])
    assert text.exit_code == 0, text.stderr
    told = CliRunner().invoke(main, ["report", str(run_dir), "--format", "json", *options])
    body = json.loads(told.stdout)["carbon"]
    total_g = body["figures"][0]["total"]["value_g"]
    assert f"SCI {1e3 * total_g:#.3g} ±" in text.stdout
    assert "(E emulated, board)" in " ".join(text.stdout.split())
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    assert f"{1e3 * total_g:#.3g} ±" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "a &lt;b&gt;report&lt;/b&gt;" in page and "a <b>report" not in page
    out = tmp_path / "out"
    ended = CliRunner().invoke(
        main, ["export", str(run_dir), "--to", "csv", "--out", str(out), *options]
    )
    assert ended.exit_code == 0, ended.stderr
    with (out / "carbon.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["per"] for row in rows] == ["run", "round"]
    assert float(rows[0]["total_g"]) == total_g
    assert (rows[0]["kind"], rows[0]["intensity_date"], rows[0]["whole_sci"]) == (
        "emulated",
        "2025",
        "1",
    )
    plain = CliRunner().invoke(main, ["report", str(run_dir)])
    assert "CO2" not in plain.stdout
    assert "CO2" not in (run_dir / "report.html").read_text(encoding="utf-8").split("<script")[0]


def test_hardware_that_is_not_there_is_not_passed_over_in_silence(run_dir: Path) -> None:
    given = {"intensity_g_per_kwh": 360.0, "source": "x", "lifetime_years": 4.0}
    assert "for nothing" in embodied_words(emitted(run_dir, given))
    given["embodied_of"] = ("mini-pcc=80",)
    assert "for no hardware of this run" in embodied_words(emitted(run_dir, given))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["intensity_g_per_kwh=360"], "needs carbon.source"),
        (["intensity_g_per_kwh=-1", "source=x"], "expected `float` >= 0"),
        (["intensity=360"], "did you mean 'intensity_g_per_kwh'?"),
        (["intensity_g_per_kwh=360", "source=x", "embodied_kg=3"], "carbon.lifetime_years 0"),
        (["intensity_g_per_kwh=360", "source=x", "embodied_of=['pi=much']"], "embodied_of"),
        (["nonsense"], "write KEY=VALUE"),
        (["source=x"], "without one there is no figure"),
    ],
)
def test_what_cannot_be_is_refused(run_dir: Path, options: list[str], said: str) -> None:
    arguments = [text for option in options for text in ("--carbon", option)]
    ended = CliRunner().invoke(main, ["report", str(run_dir), *arguments])
    assert ended.exit_code == 2
    assert said in " ".join(ended.stderr.split())


def test_latex_has_no_figure_and_says_so(run_dir: Path) -> None:
    options = ["--carbon", "intensity_g_per_kwh=360", "--carbon", "source=x", "--format", "latex"]
    ended = CliRunner().invoke(main, ["report", str(run_dir), *options])
    assert ended.exit_code == 2 and "LaTeX" in ended.stderr
