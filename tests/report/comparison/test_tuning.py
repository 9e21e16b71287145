"""Settings are chosen by joules to a target on the validation part, on seeds apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from compared_runs import cell, rounds, run
from msgspec.structs import replace

from fimi.report.comparison.runs import AccuracyTarget, ComparedCell, RunFigures
from fimi.report.comparison.tuning import TuningChoice, choose

TARGET = AccuracyTarget(of="tfl", which="best")
Runs = Mapping[float, tuple[RunFigures | str, ...]]


def chosen(
    *, target: AccuracyTarget = TARGET, saves: str = "board_j", **strategies: Runs
) -> dict[str, TuningChoice]:
    """Runs of each strategy by learning rate, one for each of the seeds 100, 101, …."""
    cells: list[ComparedCell] = [
        replace(cell(label, seed, figures, rate=rate), saves=saves)
        for label, settings in strategies.items()
        for rate, runs in settings.items()
        for seed, figures in enumerate(runs, 100)
    ]
    return {choice.label: choice for choice in choose(cells, target)}


def taken(choice: TuningChoice) -> Any:
    return choice.taken and choice.taken.settings["rate"]


TFL: Runs = {0.1: (run(0.3, 0.4, 0.5), run(0.3, 0.5, 0.6)), 0.2: (run(0.2, 0.7), run(0.2, 0.8))}
"""Its highest accuracy is with 0.2: 0.7 and 0.8, after 20 J."""


def test_the_least_joules_to_the_target_of_each_seed() -> None:
    found = chosen(
        tfl=TFL,
        fimi={
            0.1: (run(0.7, joules=15), run(0.8, joules=15)),
            0.2: (run(0.6, 0.75, joules=6), run(0.7, 0.85, joules=6)),
            0.3: (run(0.6, 0.69, joules=1), run(0.7, 0.79, joules=1)),  # cheap, and never there
        },
    )
    assert taken(found["fimi"]) == 0.2
    assert [each.joules for each in found["fimi"].tried] == [15.0, 12.0, None]
    assert [each.reached for each in found["fimi"].tried] == [2, 2, 0]


def test_the_baseline_reaches_its_own_target_and_may_do_so_with_fewer_joules() -> None:
    assert taken(chosen(tfl=TFL)["tfl"]) == 0.2
    cheaper = {**TFL, 0.3: (run(0.7, joules=11), run(0.8, joules=11))}
    assert taken(chosen(tfl=cheaper)["tfl"]) == 0.3


def test_reaching_it_on_more_seeds_comes_before_joules() -> None:
    fimi: Runs = {
        0.1: (run(0.9, joules=1), run(0.1, joules=1)),
        0.2: (run(0.9, joules=99), run(0.9, joules=99)),
    }
    assert taken(chosen(tfl=TFL, fimi=fimi)["fimi"]) == 0.2


def test_where_nothing_reaches_it_the_highest_accuracy_is_taken() -> None:
    fimi: Runs = {0.1: (run(0.3, 0.2), run(0.3)), 0.2: (run(0.2), run(0.45))}
    found = chosen(tfl=TFL, fimi=fimi)["fimi"]
    assert taken(found) == 0.2
    assert [each.accuracy for each in found.tried] == [pytest.approx(0.3), pytest.approx(0.325)]


def test_the_test_set_decides_nothing() -> None:
    """On it, the other setting is the best by far."""

    def seen(run: RunFigures, test: float) -> RunFigures:
        judged = [p.validation_accuracy or 0.0 for p in run.points]
        return replace(run, points=rounds(judged, [10.0] * len(judged), test=[test] * len(judged)))

    tfl = {
        rate: tuple(seen(each, 0.99 if rate == 0.1 else 0.01) for each in runs)
        for rate, runs in TFL.items()
    }
    for on in ("validation", "test"):
        assert taken(chosen(tfl=tfl, target=replace(TARGET, on=on))["tfl"]) == 0.2


def test_a_number_is_the_target_of_all() -> None:
    found = chosen(target=AccuracyTarget(value=0.4), tfl=TFL)
    assert [each.joules for each in found["tfl"].tried] == [20.0, 20.0]
    assert [each.reached for each in found["tfl"].tried] == [2, 2]


def test_a_setting_whose_run_failed_is_never_taken() -> None:
    fimi: Runs = {0.1: (run(0.9, joules=1), "no plan"), 0.2: (run(0.9), run(0.9))}
    found = chosen(tfl=TFL, fimi=fimi)["fimi"]
    assert taken(found) == 0.2
    assert "no plan" in found.tried[0].problem
    assert chosen(tfl=TFL, fimi={0.1: ("no", "no")})["fimi"].taken is None


def test_the_paper_s_joules_may_be_what_is_saved() -> None:
    """Ten joules a round have one above idle: see ``rounds``; rest takes 9 of any."""
    fimi: Runs = {0.1: (run(0.9, joules=10),), 0.2: (run(0.1, 0.9, joules=9.2),)}
    tfl: Runs = {0.1: (run(0.5),)}
    assert taken(chosen(tfl=tfl, fimi=fimi)["fimi"]) == 0.1
    assert taken(chosen(tfl=tfl, fimi=fimi, saves="dynamic_j")["fimi"]) == 0.2
