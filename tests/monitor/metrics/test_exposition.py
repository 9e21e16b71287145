"""``/metrics``: strict OpenMetrics, figures of the record, kinds apart, nothing stale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as older

from fimi.energy.joules import Energy
from fimi.monitor.metrics.experiments import EXPERIMENT_FAMILIES
from fimi.monitor.metrics.exposition import metrics
from fimi.monitor.metrics.families import FAMILIES
from fimi.monitor.snapshot import (
    DeviceNow,
    GeneratorNow,
    JoulesNow,
    RunNow,
    Snapshot,
    StudyNow,
    TaskNow,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = (  # what Prometheus 2.42 sends
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(snapshot: Snapshot) -> Series:
    """All samples, read by the library's strict parser."""
    text, _ = metrics(snapshot, OPENMETRICS)
    found: Series = {}
    for family in openmetrics(text.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def values(snapshot: Snapshot, name: str, *labels: str) -> dict[Any, float]:
    """The values of a metric by some of its labels."""
    return {
        tuple(dict(of)[label] for label in labels) if labels else (): value
        for (sample, of), value in series(snapshot).items()
        if sample == name
    }


def test_it_is_openmetrics_to_the_letter(seen: Any) -> None:
    text, media = metrics(seen.snapshot(), OPENMETRICS)
    assert media.startswith(OPENMETRICS)
    assert text.endswith(b"\n# EOF\n")
    families = {family.name: family for family in openmetrics(text.decode())}
    assert len(families) > 25
    for family in FAMILIES:
        if family.name in families:
            found = families[family.name]
            assert (found.type, found.unit) == (family.type, family.unit)
            assert not any(sample.name.endswith("_created") for sample in found.samples)


def test_values_are_those_of_the_record(seen: Any) -> None:
    snapshot, summary = seen.snapshot(), seen.summary
    energy = values(
        snapshot, "fimi_device_energy_joules_total", "device", "kind", "scope", "source"
    )
    assert energy == {
        (row.device, e.kind, e.scope, e.source): e.value_j
        for row in summary.devices
        if (e := row.energy.value) is not None
    }
    assert len(energy) == 2 and {kind for _, kind, _, _ in energy} == {"measured", "emulated"}
    assert values(
        snapshot, "fimi_device_energy_predicted_joules_total", "device", "kind"
    ) == pytest.approx(
        {(row.device, "modelled"): row.compared.predicted_j for row in summary.devices}
    )
    last = summary.points[-1]
    assert values(snapshot, "fimi_run_accuracy_ratio") == {(): last.accuracy}
    assert values(snapshot, "fimi_run_rounds_finished_total") == {(): 3.0}
    assert values(snapshot, "fimi_run_fleet_clock_seconds") == {(): last.elapsed_s}
    assert values(snapshot, "fimi_run_updates_accepted_total") == {
        (): sum(point.accepted for point in summary.points)
    }
    planned = values(snapshot, "fimi_device_frequency_planned_hertz", "device")
    assert planned == {(row.device,): row.frequency_planned_hz for row in summary.devices}
    samples = values(snapshot, "fimi_device_samples", "device", "origin")
    assert samples[("device-0", "real")] == 10.0 and samples[("device-0", "synthetic")] == 6.0


def test_watts_temperature_and_clock_are_those_of_telemetry(seen: Any) -> None:
    snapshot = seen.snapshot()
    power = values(snapshot, "fimi_device_power_watts", "device", "kind", "scope", "source")
    assert power == {
        ("device-0", "emulated", "board", "meter"): 3.25,
        ("device-1", "measured", "wall", "plug"): 6.5,
    }
    assert values(snapshot, "fimi_device_temperature_celsius", "device") == {("device-0",): 41.5}
    clock = values(snapshot, "fimi_device_frequency_achieved_hertz", "device")
    assert clock[("device-0",)] == 1.2e9


def test_a_board_that_has_gone_keeps_its_joules_and_no_power(seen: Any) -> None:
    before = seen.snapshot()
    device = before.devices["device-0"]
    # As a window may have it: what it drew is still there, and it is not connected.
    gone = replace(device, online=False, state="gone", problem="it is not connected")
    after = replace(before, devices={**before.devices, "device-0": gone})
    for name in (
        "fimi_device_power_watts",
        "fimi_device_temperature_celsius",
        "fimi_device_frequency_achieved_hertz",
        "fimi_device_frequency_set_hertz",
    ):
        assert ("device-0",) not in values(after, name, "device"), name
    assert values(after, "fimi_device_up", "device")[("device-0",)] == 0.0
    assert values(after, "fimi_device_problem", "device")[("device-0",)] == 1.0
    joules = "fimi_device_energy_joules_total"
    assert values(after, joules, "device") == values(before, joules, "device")


def test_joules_of_another_kind_are_another_series(seen: Any) -> None:
    """Also where a device's meter becomes a real one in the middle of a run."""
    for family in FAMILIES:
        metered = family.name.startswith("fimi_device_energy") and "predicted" not in family.name
        if family.unit in ("joules", "watts") and (metered or family.unit == "watts"):
            assert {"kind", "scope", "source"} <= set(family.labels), family.name
    snapshot = seen.snapshot()
    names = {name for name, _ in series(snapshot)}
    for (name, labels), _ in series(snapshot).items():
        if "joules" in name:
            assert "kind" in dict(labels), name
    assert not any(name.startswith("fimi_run_energy") for name in names)  # it would mix them


def test_an_experiment_says_how_far_it_is() -> None:
    study = StudyNow(
        name="digits",
        done=7,
        runs=20,
        failed={"fimi-s3": "no plan"},
        running={
            "fimi-s8": TaskNow(done=3, steps=10, since_s=4.0),
            "tfl-s8": TaskNow(done=0, steps=0, since_s=1.0),
        },
        left_s=90.5,
    )
    run = RunNow(name="digits", state="running", began_unix_s=1000.0)
    found = series(Snapshot(unix_s=1.0, run=run, study=study))
    run_8 = frozenset({("run", "fimi-s8")})
    assert found == {
        ("fimi_experiment_info", frozenset({("experiment", "digits")})): 1.0,
        ("fimi_experiment_start_timestamp_seconds", frozenset()): 1000.0,
        ("fimi_experiment_runs_planned", frozenset()): 20.0,
        ("fimi_experiment_runs_ended", frozenset()): 7.0,
        ("fimi_experiment_runs_failed", frozenset()): 1.0,
        ("fimi_experiment_runs_running", frozenset()): 2.0,
        ("fimi_experiment_remaining_seconds", frozenset()): 90.5,
        ("fimi_experiment_run_steps_done", run_8): 3.0,
        ("fimi_experiment_run_steps_planned", run_8): 10.0,
    }


def test_what_is_unknown_is_left_out() -> None:
    bare = Snapshot(unix_s=1.0, run=RunNow(name="r"), devices={"d": DeviceNow()})
    found = {name for name, _ in series(bare)}
    assert not any("joules" in name or "watts" in name for name in found)
    assert "fimi_run_accuracy_ratio" not in found and "fimi_run_loss" not in found
    half = JoulesNow(
        energy=Energy(value_j=1.0, kind="measured", source="m"), whole=False, missing="round 2"
    )
    partly = replace(bare, devices={"d": DeviceNow(total=half)})
    assert values(partly, "fimi_device_energy_complete", "device") == {("d",): 0.0}


def test_other_energies_stand_apart(seen: Any) -> None:
    energy = Energy(value_j=9.0, kind="measured", source="rapl", scope="cpu")
    whole = replace(
        seen.snapshot(),
        generator=GeneratorNow(energy=energy, lacking=4, delivered={"a": 2, "b": 3}),
    )
    assert values(whole, "fimi_generator_energy_joules_total", "kind", "scope", "source") == {
        ("measured", "cpu", "rapl"): 9.0
    }
    assert values(whole, "fimi_generator_images_delivered_total") == {(): 5.0}
    assert values(whole, "fimi_generator_images_lacking") == {(): 4.0}


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0"),
        ("", "text/plain; version=0.0.4"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; version=0.0.4"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4"),
        ("\x00;;q=,", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=nonsense", "application/openmetrics-text"),
        ("application/openmetrics-text;q=0,text/plain", "text/plain; version=0.0.4"),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(seen: Any, accept: str, media: str) -> None:
    text, found = metrics(seen.snapshot(), accept)
    assert found.startswith(media)
    if media.startswith("text/plain"):
        parsed = {sample.name for family in older(text.decode()) for sample in family.samples}
        assert "fimi_device_energy_joules_total" in parsed
        assert b"# EOF" not in text


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text('\\"\n{},= a', max_size=20))
def test_labels_are_escaped(one: str, other: str) -> None:
    energy = Energy(value_j=1.5, kind="emulated", source=other)
    snapshot = Snapshot(
        unix_s=1.0,
        run=RunNow(name=one, strategy=other),
        devices={one: DeviceNow(board=other, total=JoulesNow(energy=energy))},
    )
    found = values(snapshot, "fimi_device_energy_joules_total", "device", "source")
    assert found == {(one, other): 1.5}
    assert values(snapshot, "fimi_run_info", "run", "strategy") == {(one, other): 1.0}


def test_names_follow_the_conventions() -> None:
    families = (*FAMILIES, *EXPERIMENT_FAMILIES)
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert re.fullmatch(r"fimi_[a-z_]+", family.name)
        assert not family.unit or family.name.endswith(f"_{family.unit}")
        assert not family.name.endswith(("_total", "_info", "_count", "_sum", "_bucket"))
        assert family.help.endswith(".")


def test_the_documentation_names_them_all() -> None:
    page = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    ends = {"counter": "_total", "info": "_info"}
    known = {
        family.name + ends.get(family.type, "") for family in (*FAMILIES, *EXPERIMENT_FAMILIES)
    }
    assert set(re.findall(r"`(fimi_[a-z_]+)`", page)) == known
