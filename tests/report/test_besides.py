"""fimi.report.besides: planned against delivered, seconds and joules of an image."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from fimi.energy.cost_model import OperatingPoint
from fimi.energy.joules import Energy
from fimi.messaging.messages.orders import DevicePlan
from fimi.optim.known_curve import KnownCurve
from fimi.optim.learning_curve import LearningCurve
from fimi.record.events import BatchDelivered, LearningRefitted
from fimi.record.reader import read_run
from fimi.record.record import Expectation, Generation, PlanSummary, RunData, RunInfo
from fimi.record.store import RunStore
from fimi.record.summary import summarise
from fimi.report.besides import Extra, extras
from fimi.report.page_tables import plan_panel

METERED = Energy(value_j=30.0, kind="measured", source="rapl:package-0", scope="cpu")


def told(back: RunData) -> tuple[Extra, ...]:
    return extras(back, summarise(back))


def run(folder: Path, *batches: BatchDelivered) -> RunData:
    store = RunStore(folder / "run.sqlite")
    for batch in batches:
        store.write_event(batch)
    store.close()
    return read_run(folder)


def batch(device: str, *, drawn: int = 100, energy: Energy | None = METERED) -> BatchDelivered:
    return BatchDelivered(
        device=device,
        requested=95,
        delivered=90,
        seconds=2.0,
        error="",
        drawn=drawn,
        refused=10 if drawn else 0,
        energy=energy,
    )


def test_all_metered(tmp_path: Path) -> None:
    extra, *_ = told(run(tmp_path, batch("a"), batch("b")))
    assert extra.value == "180 of 190 samples"
    assert extra.note == (
        "that were planned, 10 missing; 200 drawn for them, 20 of those refused; 20 ms and 300 mJ "
        "(measured, cpu) of the generator node an image drawn; in no device's joules"
    )


def test_the_total_has_the_generator_node_too(tmp_path: Path) -> None:
    *_, total = told(run(tmp_path, batch("a"), batch("b")))
    assert (total.term, total.value) == ("total", "60.0 J (measured, cpu)")
    assert total.note == "of all machines: boards –, the generator node 60.0 J (measured, cpu)"


def test_a_total_without_a_meter_of_the_node_is_unknown(tmp_path: Path) -> None:
    *_, total = told(run(tmp_path, batch("a", energy=None)))
    assert total.value == "unknown"
    assert "the generator node unknown" in total.note


def test_a_total_is_at_least_what_is_known(run_dir: Path) -> None:
    """The boards of this run take 172.2 J; its generator node is made to have no meter."""
    made = Generation(requested=9, delivered=9, drawn=9, refused=0, seconds=1.0, energy=None)
    (total,) = [e for e in told(replace(read_run(run_dir), generation=made)) if e.term == "total"]
    assert total.value == "at least 172 J (emulated, board)"
    assert (
        total.note == "of all machines: boards 172 J (emulated, board), the generator node unknown"
    )


def test_a_part_that_was_not_metered_leaves_no_figure(tmp_path: Path) -> None:
    extra, *_ = told(run(tmp_path, batch("a"), batch("b", energy=None)))
    assert "joules not metered" in extra.note


def test_what_was_in_the_pool_took_nothing(tmp_path: Path) -> None:
    back = run(tmp_path, batch("a"), batch("b", drawn=0, energy=None))
    extra, *_ = told(back)
    assert "100 drawn for them" in extra.note
    assert "300 mJ" in extra.note


def test_nothing_asked_or_not_readable(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert told(run(tmp_path / "none")) == ()


def test_why_nothing_was_asked() -> None:
    def said(fills_devices: bool | None, counts: tuple[int, ...]) -> list[str]:
        plan = DevicePlan(
            run="run",
            device="a",
            device_index=0,
            synthetic_counts=counts,
            batch=None,
            point=OperatingPoint(
                frequency_hz=1e9, bandwidth_hz=1e4, transmit_power_w=0.1, time_split=0.5
            ),
            predicted=(),
        )
        found = RunData(
            path=Path("run"),
            info=RunInfo(run="run", strategy="any", fills_devices=fills_devices),
            plan=PlanSummary(error_max=0.06),
            device_plans={"a": plan},
        )
        return [f"{extra.value} {extra.note}" for extra in told(found)]

    (why,) = said(True, (0, 0))
    assert why.startswith("no samples were planned: local data alone meet plan.error_max 0.06")
    assert said(True, (0, 1)) == []
    assert said(False, (0, 0)) == []
    assert said(None, (0, 0)) == []  # an older store does not say


def test_what_was_expected_is_held_against_the_run() -> None:
    """With a run that has no round yet; taken joules are those of the prices of accuracies."""
    expected = Expectation(accuracy=0.95, rounds=3.42, energy_j=812.0, error_max=0.081)
    plan = PlanSummary(objective="board", epochs=8, expected=expected)
    (extra,) = told(RunData(path=Path("run"), info=RunInfo(run="run"), plan=plan))
    assert (extra.term, extra.value) == ("expected", "3.4 rounds and 812 J (modelled) to 95.0 %")
    assert extra.note == (
        "accuracy (board energy, Δ_max 0.081, 8 local epochs a round); it was not reached in 0 "
        "rounds"
    )
    assert told(RunData(path=Path("run"), info=RunInfo(run="run"), plan=PlanSummary())) == ()


def test_top_ups_are_batches_of_their_own(tmp_path: Path) -> None:
    refit = LearningRefitted(
        round=3,
        before=0.05,
        measured=0.3,
        planned=0.06,
        curve=LearningCurve(alpha=2.0, beta=0.5, delta0=0.0),
        images=180,
    )
    store = RunStore(tmp_path / "run.sqlite")
    for event in (batch("a"), batch("b"), batch("a"), batch("b"), refit):
        store.write_event(event)
    store.close()
    generation = read_run(tmp_path).generation
    assert generation is not None
    assert (generation.requested, generation.delivered, generation.drawn) == (380, 360, 400)


def test_a_batch_that_came_again_counts_once(tmp_path: Path) -> None:
    generation = run(tmp_path, batch("a"), batch("b"), batch("a")).generation
    assert generation is not None
    assert (generation.requested, generation.delivered, generation.drawn) == (190, 180, 300)


def test_learning_says_only_what_is_known(run_dir: Path) -> None:
    def line(planned: float | None) -> str:
        back = read_run(run_dir)
        first, *rest = back.rounds
        devices = tuple(replace(d, local_error=0.2, planned_error=planned) for d in first.devices)
        told_of = told(replace(back, rounds=(replace(first, devices=devices), *rest)))
        (learning,) = [extra for extra in told_of if extra.term == "learning"]
        return f"{learning.value} {learning.note}".strip()

    assert line(None) == "20.0 % error of devices’ models in round 1"
    assert line(0.25) == "20.0 % error of devices’ models in round 1, planned 25.0 %"


def test_a_curve_that_was_fitted_to_the_run_is_named(run_dir: Path) -> None:
    back = read_run(run_dir)
    assert back.refitted_curve == ""
    refits = tuple(
        LearningRefitted(
            round=number,
            before=0.05,
            measured=0.3,
            planned=0.06,
            curve=LearningCurve(alpha=alpha, beta=0.5, delta0=0.01),
            images=0,
        )
        for number, alpha in ((3, 2.0), (5, 4.0))
    )
    known = KnownCurve(curve=LearningCurve(alpha=1.0, beta=0.5, delta0=0.0), source="given")
    assert back.plan is not None
    changed = replace(
        back,
        learning_refits=refits,
        info=replace(back.info, curve=known),
        plan=replace(back.plan, error=0.06),
    )
    words = "fitted to the run after round 5: Δ(D) = 4 D^(−0.5) + 0.01"
    assert changed.refitted_curve == words
    assert words in str(plan_panel(changed, summarise(changed)))
