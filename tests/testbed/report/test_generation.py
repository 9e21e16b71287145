"""testbed.report.generation: planned against delivered, seconds and joules of an image."""

from __future__ import annotations

from pathlib import Path

from coordinator.events import BatchDelivered
from coordinator.store import RunStore
from energy.joules import Energy
from testbed.report.data import read_run
from testbed.report.generation import extras
from testbed.report.run_data import RunData

METERED = Energy(value_j=30.0, kind="measured", source="rapl:package-0", scope="cpu")


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
    (extra,) = extras(run(tmp_path, batch("a"), batch("b")))
    assert extra.value == "180 of 190 images"
    assert extra.note == (
        "that were planned, 10 missing; 200 drawn for them, 20 of those refused; 20 ms and 300 mJ "
        "(measured, cpu) of the generator node an image drawn; in no device's joules"
    )


def test_a_part_that_was_not_metered_leaves_no_figure(tmp_path: Path) -> None:
    (extra,) = extras(run(tmp_path, batch("a"), batch("b", energy=None)))
    assert "joules not metered" in extra.note


def test_what_was_in_the_pool_took_nothing(tmp_path: Path) -> None:
    back = run(tmp_path, batch("a"), batch("b", drawn=0, energy=None))
    (extra,) = extras(back)
    assert "100 drawn for them" in extra.note
    assert "300 mJ" in extra.note


def test_nothing_asked_or_not_readable(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert extras(run(tmp_path / "none")) == ()
