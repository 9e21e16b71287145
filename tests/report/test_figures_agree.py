"""Whatever is missing of a run: JSON, page, terminal and experiment say the same, and the truth."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_runs import PREDICTED_PREPARATION_J, PREPARATION_J, ROUND

from fimi.energy.joules import format_joules
from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.report.comparison.result import ExperimentResult, compare
from fimi.report.comparison.runs import AccuracyTarget, ComparedCell, figures_of
from fimi.report.comparison.values import as_csv, as_json
from fimi.report.document import document
from fimi.report.page import render
from fimi.report.terminal import as_text

NAMES, ROUNDS, IDLE_W = "abc", (1, 2, 3), 2.0
PARTS = ("public", "validation", "private", "test", "partition")
ACCURACY = (0.5, 0.8, 0.7)
TARGET = 0.8
PART = st.tuples(st.sampled_from(ROUNDS), st.sampled_from(NAMES), st.sampled_from(sorted(ROUND)))
Parts = set[tuple[int, str, str]]


class Truth(NamedTuple):
    """Sums by hand up to a round: all known joules, what is missing, and of what has both."""

    known_j: float
    missing: Parts
    measured_j: float
    predicted_j: float


def truth(unread: Parts, unpredicted: Parts, rounds: int, *, dynamic: bool = False) -> Truth:
    """One part after the other."""
    known, measured, predicted = [], [], []
    missing: Parts = set()
    if not dynamic:
        known = [PREPARATION_J] * len(NAMES)
        measured, predicted = known[:], [PREDICTED_PREPARATION_J] * len(NAMES)
    for number in range(1, rounds + 1):
        for name in NAMES:
            for phase, (seconds, joules, board_j, dynamic_j) in ROUND.items():
                if dynamic and phase not in ("compute", "upload"):
                    continue
                if (number, name, phase) in unread:
                    missing.add((number, name, phase))
                    continue
                joules -= IDLE_W * seconds if dynamic else 0.0
                known.append(joules)
                if (number, name, phase) not in unpredicted:
                    measured.append(joules)
                    predicted.append(dynamic_j if dynamic else board_j)
    return Truth(math.fsum(known), missing, math.fsum(measured), math.fsum(predicted))


def experiment(found: Any) -> ExperimentResult:
    """An experiment of this one run."""
    cell = ComparedCell(
        name="a-run",
        folder="a-run",
        label="tfl",
        seed=0,
        point={},
        fills_devices=False,
        devices_train=True,
        error_max=0.1,
        figures=figures_of(found),
    )
    return compare(
        [cell],
        name="one",
        title="",
        baseline="tfl",
        target=AccuracyTarget(value=TARGET, on="test"),
        confidence=0.95,
    )


def missing_of(total: Any) -> Parts:
    return {(gap["round"], gap["device"], gap["phase"]) for gap in total["missing"]}


def in_words(known_j: float, missing: Parts) -> str:
    joules = format_joules(known_j)
    return f"unknown; {joules} known" if missing else joules


def card(page: str, title: str) -> str:
    found = re.search(
        rf'<dt>{title}</dt><dd class="value">([^<]*)</dd><dd class="note">(.*?)</dd>', page
    )
    assert found is not None, title
    return re.sub(r"<[^>]*>", "", f"{found[1]} | {found[2]}")


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(unread=st.sets(PART, max_size=6), unpredicted=st.sets(PART, max_size=6))
def test_all_say_the_same_and_the_truth(unread: Parts, unpredicted: Parts, build: Any) -> None:
    # Without idling read at least once, idle power is the declared one: not what is asked here.
    unread = {part for part in unread if part[::2] != (3, "idle")}
    rounds = [
        build.round_result(
            number,
            [
                build.device_round(
                    name,
                    unread={p for n, d, p in unread if (n, d) == (number, name)},
                    predicted=tuple(
                        cost
                        for cost in build.costs()
                        if (number, name, cost.phase) not in unpredicted
                    ),
                )
                for name in NAMES
            ],
            accuracy,
        )
        for number, accuracy in zip(ROUNDS, ACCURACY, strict=True)
    ]
    digests = {f"{part}_digest": part for part in PARTS}
    about = {
        "run": "a-run",
        "status": "completed",
        "config": {"rounds.target_accuracies": [TARGET]},
        "dataset": {"name": "digits", **digests},
    }
    with tempfile.TemporaryDirectory() as folder:
        build.write(Path(folder), names=NAMES, rounds=rounds, about=about)
        run = read_run(Path(folder))
        terminal = " ".join(as_text(Path(folder), "utf-8").split())
    summary = summarise(run)
    body = json.loads(msgspec.json.encode(document(run, summary)))
    page = render(run).replace("\N{NO-BREAK SPACE}", " ")
    compared = json.loads(as_json(experiment(run)))["runs"][0]
    (row,) = csv.DictReader(io.StringIO(as_csv(experiment(run))))

    for key, name, dynamic in (
        ("energy", "Energy, whole board", False),
        ("dynamic", "Energy, dynamic", True),
    ):
        whole = truth(unread, unpredicted, 3, dynamic=dynamic)
        # JSON
        total, both = body[key], body[f"{key}_compared"]
        assert total["known"]["value_j"] == pytest.approx(whole.known_j)
        assert missing_of(total) == whole.missing
        value_j = body[f"{key}_measured_j"]
        assert value_j == (None if whole.missing else total["known"]["value_j"])
        assert both["measured"]["value_j"] == pytest.approx(whole.measured_j)
        assert both["predicted_j"] == pytest.approx(whole.predicted_j)
        error = 100 * (whole.predicted_j / whole.measured_j - 1)
        assert both["error_percent"] == pytest.approx(error)
        # terminal and page
        shown = in_words(whole.known_j, whole.missing)
        kind = "(emulated, board)"
        wanted = shown.replace(" known", f" {kind} known") if whole.missing else f"{shown} {kind}"
        if dynamic and not whole.missing:  # it always has its uncertainty
            bare = shown.rsplit(" ", 1)[0]
            assert re.search(
                rf"{re.escape(bare)}0* ± [0-9.e-]+ m?k?J \(emulated, board\)", terminal
            )
        else:
            assert wanted in terminal
        headline = card(page, name)
        assert headline.startswith("unknown |" if whole.missing else f"{shown} |")
        assert not whole.missing or wanted in headline
        percent = f"{error:+.1f} %".replace("-", "−")
        assert percent in (card(page, "Energy, predicted") if not dynamic else headline)
        assert f"; {percent}" in terminal
        lacks_some = both["missing"] != []
        known = f"{format_joules(whole.measured_j)} (emulated, board)"
        of_which = f"{percent} of the {known} that were metered and"
        assert (
            of_which in (headline if dynamic else card(page, "Energy, predicted"))
        ) == lacks_some
        assert not whole.missing or "±" not in headline
        # experiment
        series = compared["series"]
        prefix = "dynamic" if dynamic else "board"
        assert series[f"{prefix}_j"] == body[f"round_{key}_j"]
        assert series[f"{prefix}_known_j"] == body[f"round_{key}_known_j"]
        so_far = [truth(unread, unpredicted, n, dynamic=dynamic) for n in ROUNDS]
        for before, after, known_j, joules in zip(
            [Truth(0, set(), 0, 0), *so_far[:-1]],
            so_far,
            series[f"{prefix}_known_j"],
            series[f"{prefix}_j"],
            strict=True,
        ):
            assert known_j == pytest.approx(after.known_j - before.known_j)
            assert joules == (None if after.missing - before.missing else known_j)
        # the price of an accuracy that was reached after two rounds
        paid = so_far[1]
        (price,) = body["targets"]
        assert price["rounds"] == 2
        assert price[key]["known"]["value_j"] == pytest.approx(paid.known_j)
        assert missing_of(price[key]) == paid.missing
        expected = None if paid.missing else price[key]["known"]["value_j"]
        assert price[f"{key}_j"] == expected
        assert compared["to_target"][f"{prefix}_j"] == expected
        cells = re.findall(r"<tr>(.*?)</tr>", page)
        line = next(c for c in cells if c.startswith('<td class="number">80 %</td>'))
        assert f">{in_words(paid.known_j, paid.missing)}<" in line
        # the totals of the experiment's list of runs
        assert row[f"total_{prefix}_j"] == ("" if whole.missing else str(value_j))
    assert set(body["unmetered"]) == {f"{n}/{d}" for n, d, _ in unread}
    assert compared["series"]["missing"] == body["energy"]["missing"]
