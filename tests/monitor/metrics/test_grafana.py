"""The Grafana dashboard of ``packaging/grafana``: by its schema, and by what ``/metrics`` gives."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from fimi.monitor.metrics.families import FAMILIES

FILE = Path(__file__).parents[3] / "packaging" / "grafana" / "fimi.json"
DASHBOARD: Any = json.loads(FILE.read_text(encoding="utf-8"))
TARGETS = [
    pytest.param(panel, target, id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]
ENDS = {"counter": "_total", "info": "_info"}
LABELS = {family.name + ENDS.get(family.type, ""): set(family.labels) for family in FAMILIES}
"""Every name that ``/metrics`` can give, with the labels of its series."""


def names(query: str) -> set[str]:
    return set(re.findall(r"\bfimi_[a-z_]+\b(?!\"|\s*\}\})", re.sub(r'"[^"]*"', '""', query)))


def lost(before: Any, after: Any, place: str = "") -> list[str]:
    """What a round trip has not brought back."""
    if isinstance(before, dict):
        missing = [
            f"{place}.{key}" for key in before if before[key] is not None and key not in after
        ]
        kept = [key for key in before if key in after]
        return missing + [
            x for key in kept for x in lost(before[key], after[key], f"{place}.{key}")
        ]
    if isinstance(before, list):
        if len(before) != len(after):
            return [place]
        pairs = enumerate(zip(before, after, strict=True))
        return [x for number, (a, b) in pairs for x in lost(a, b, f"{place}[{number}]")]
    return [] if before == after else [f"{place}: {before!r} became {after!r}"]


def round_trip(document: Any) -> Any:
    """Through the types that Grafana generates from its schemas, those of panels included."""
    pytest.importorskip(
        "grafana_foundation_sdk", reason="Grafana's schema as Python: grafana-foundation-sdk"
    )
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(document)))


def test_every_field_is_one_of_grafanas_schema() -> None:
    assert lost(DASHBOARD, round_trip(DASHBOARD)) == []


def test_a_wrong_field_would_be_found() -> None:
    wrong = json.loads(json.dumps(DASHBOARD))
    wrong["panels"][3]["targets"][0]["expression"] = "up"
    wrong["panels"][8]["options"]["legend"]["position"] = "left"
    assert lost(wrong, round_trip(wrong)) == [
        ".panels[3].targets[0].expression",
        ".panels[8].options.legend.position",
    ]


@pytest.mark.parametrize(("panel", "target"), TARGETS)
def test_a_query_asks_for_what_there_is_and_says_of_what_kind_it_is(
    panel: Any, target: Any
) -> None:
    asked = names(target["expr"])
    assert asked and asked <= set(LABELS), asked - set(LABELS)
    labels = set().union(*(LABELS[name] for name in asked)) | {"instance"}
    legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    assert legend <= labels
    used = set(re.findall(r"[{,](\w+)=", target["expr"]))
    assert used <= labels
    metered = any({"kind", "scope"} <= LABELS[name] for name in asked)
    assert not metered or "kind" in legend, "joules and watts are never shown without their kind"
    if "predicted_joules" in target["expr"] and not metered:
        assert "modelled" in target["legendFormat"]
    if metered and "sum" in target["expr"]:
        assert "sum by (kind, scope)" in target["expr"], "a sum must not mix kinds"


def test_every_query_goes_to_the_data_source_that_is_chosen() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "instance", "device"}
    assert variables["datasource"]["query"] == "prometheus"
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])
    for name in ("instance", "device"):
        assert names(variables[name]["query"]["query"]) <= set(LABELS)


def test_panels_do_not_cover_each_other() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for one, other in combinations([panel["gridPos"] for panel in DASHBOARD["panels"]], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above
        assert one["x"] + one["w"] <= 24
