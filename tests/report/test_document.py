"""The JSON document of a run: every key is described."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from fimi.record.curve import Price
from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.record.sums import Compared, Sum
from fimi.report.document import RunDocument, document

PAGE = Path(__file__).parents[2] / "docs" / "report.md"


@pytest.mark.parametrize("kind", [RunDocument, Price, Sum, Compared])
def test_the_documentation_describes_every_key(kind: type[Struct]) -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    keys = {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(kind.__struct_fields__) <= keys


def test_a_run_in_numbers(run_dir: Path) -> None:
    run = read_run(run_dir)
    body = json.loads(msgspec.json.encode(document(run, summarise(run))))
    assert (body["status"], body["strategy"], body["seed"], body["rounds"]) == (
        "completed",
        "fimi",
        3,
        3,
    )
    assert body["accuracy"] == [0.5, 0.8, 0.7]
    assert body["energy_kind"] == "emulated"
    assert body["energy_measured_j"] == pytest.approx(172.2)
    assert body["energy_predicted_j"] == pytest.approx(184.0)
    assert body["round_energy_j"] == pytest.approx([58.2, 57.0, 57.0])
    assert body["unmetered"] == body["energy"]["missing"] == []
    assert (body["plan_energy_j"], body["plan_bound_j"]) == (10.1, 10.0)
    assert body["run_dir"] == str(run_dir)
    assert body["wall_s"] == 12.5
    assert body["server_j"] is body["server_seconds"] is body["server"]["known"] is None


def test_a_plan_has_both_energies_with_their_bounds(run_dir: Path) -> None:
    run = read_run(run_dir)
    found = document(run, summarise(run))
    assert (found.plan_objective, found.plan_search) == ("board", "cross-entropy")
    assert (found.plan_board_j, found.plan_board_bound_j) == (10.1, 10.0)
    assert (found.plan_dynamic_j, found.plan_dynamic_bound_j) == (4.0, 3.2)
    assert found.plan_gap_percent == found.plan_board_gap_percent == pytest.approx(1.0)
    assert found.plan_dynamic_gap_percent == pytest.approx(25.0)
    assert (found.plan_round_s, found.plan_preparation_j) == (7.5, 0.5)
    assert found.plan_held is not None
    assert found.plan_held.board.predicted_j == 10.1
    without = replace(run, plan=None)
    none = document(without, summarise(without))
    assert (none.plan_objective, none.plan_board_j, none.plan_held) == ("", None, None)
