"""The numbers of figures are those of the record; so is the CSV beside them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from compared_runs import cell, device_round, planned_run

from fimi.record.insight import DeviceInsight, Insight
from fimi.record.reader import ReportError, read_run
from fimi.record.summary import summarise
from fimi.report.comparison.result import compare
from fimi.report.comparison.runs import AccuracyTarget
from fimi.report.comparison.values import as_json
from fimi.report.plots.figure import Figure, FigureError, as_csv
from fimi.report.plots.kinds import RUN_KINDS, FigureChoice, figure_of, sentences


def rows(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(figure))))


def column(figure: Figure, name: str, **only: str) -> list[float]:
    return [float(r[name]) for r in rows(figure) if all(r[k] == v for k, v in only.items())]


class TestRuns:
    """Three rounds of two devices; 28.5 J measured and 30.5 J predicted of each in a round."""

    def test_accuracy(self, run_dir: Path) -> None:
        found = figure_of(run_dir, "accuracy")
        assert column(found, "round") == [1, 2, 3]
        assert column(found, "accuracy_percent") == pytest.approx([50.0, 80.0, 70.0])
        assert "round,accuracy_percent" in as_csv(found)

    def test_accuracy_over_joules_of_both_kinds(self, run_dir: Path, build: Any) -> None:
        found = figure_of(run_dir, "accuracy-joules")
        board = column(found, "energy_j", series="whole board")
        before = 2 * build.preparation_j
        assert board == pytest.approx([before + 2 * n * build.measured_j for n in (1, 2, 3)])
        above = column(found, "energy_j", series="above idle")
        assert above == pytest.approx([2 * n * build.dynamic_j for n in (1, 2, 3)])
        assert {(r["kind"], r["scope"]) for r in rows(found)} == {("emulated", "board")}
        assert "emulated, board" in found.x.words and "emulated" in found.note

    def test_joules_of_devices_have_their_uncertainty(self, run_dir: Path, build: Any) -> None:
        found = figure_of(run_dir, "energy-devices")
        measured = [r for r in rows(found) if r["uncertainty_j"]]
        assert [r["device"] for r in measured] == ["device-0", "device-1"]
        run = summarise(read_run(run_dir))
        for row, device in zip(measured, run.devices, strict=True):
            assert device.energy.known is not None
            value_j, sure_j = device.energy.known.value_j, device.energy.known.uncertainty_j
            assert float(row["energy_j"]) == value_j == pytest.approx(3 * 28.5 + 0.6)
            assert float(row["high"]) - float(row["low"]) == pytest.approx(2 * sure_j)
        assert column(found, "energy_j", series="predicted") == pytest.approx([3 * 30.5 + 0.5] * 2)

    def test_phases_of_a_device_add_up_to_it(self, run_dir: Path) -> None:
        found = figure_of(run_dir, "energy-phases")
        for device in ("device-0", "device-1"):
            assert sum(column(found, "energy_j", device=device)) == pytest.approx(3 * 28.5 + 0.6)
        assert {s.look for s in found.series} >= {"phase-compute", "phase-upload", "phase-idle"}
        assert len({s.pattern for s in found.series}) == len(found.series)

    def test_frequencies_and_images(self, run_dir: Path) -> None:
        found = figure_of(run_dir, "frequencies")
        assert column(found, "frequency_hz", series="planned") == [1.35e9, 1.35e9]
        assert column(found, "frequency_hz", series="achieved, mean") == [1.4e9, 1.4e9]
        classes = figure_of(run_dir, "images")
        assert [r["class"] for r in rows(classes)] == ["zero", "one"] * 2
        assert column(classes, "images", series="real") == [14, 6]
        assert column(classes, "images", series="synthetic") == [4, 8]
        devices = figure_of(run_dir, "device-images")
        assert column(devices, "images", device="device-1") == [10, 6]

    def test_similarity_of_gradients_and_its_mean(self, tmp_path: Path, build: Any) -> None:
        store = build.write(tmp_path / "run", close=False)
        for number, values in ((1, (0.2, 0.6)), (3, (0.5, None))):
            devices = tuple(
                DeviceInsight(
                    device=f"device-{i}", local_error=0.1, similarity=None, gradient_similarity=v
                )
                for i, v in enumerate(values)
            )
            store.write_insight(
                Insight(round=number, orthogonality=None, reference_samples=0, devices=devices)
            )
        store.close()
        found = figure_of(tmp_path / "run", "gradient-similarity")
        assert column(found, "cosine", device="mean") == pytest.approx([0.4, 0.5])
        assert column(found, "round", device="device-1") == [1]
        errors = figure_of(tmp_path / "run", "local-error")
        assert column(errors, "local_error_percent", device="mean") == pytest.approx([10.0, 10.0])

    def test_what_a_run_does_not_have_is_said(self, run_dir: Path, tmp_path: Path) -> None:
        for kind in ("gradient-similarity", "prediction-error"):
            with pytest.raises(FigureError, match=f"no numbers for the figure {kind}: it shows"):
                figure_of(run_dir, kind)
        with pytest.raises(FigureError, match="no figure 'acuracy', but accuracy, accuracy-joules"):
            figure_of(run_dir, "acuracy")
        with pytest.raises(FigureError, match="no readings of device-1 in round 2"):
            figure_of(run_dir, "power-trace", FigureChoice(device="device-1", round=2))
        with pytest.raises(FigureError, match="no device 'x'; it has device-0, device-1"):
            figure_of(run_dir, "power-trace", FigureChoice(device="x"))
        with pytest.raises(ReportError):
            figure_of(tmp_path, "accuracy")

    def test_every_kind_says_what_it_shows(self) -> None:
        said = sentences()
        assert len({(of, name) for of, name, _ in said}) == len(said) > len(RUN_KINDS)
        assert all(len(words) > 20 and not words.endswith(".") for _, _, words in said)


class TestStudies:
    """Strategies whose runs take 23 J in a round, times a factor for each seed."""

    def study(self, folder: Path, factors: dict[str, tuple[float, ...]], **about: Any) -> Path:
        cells = [
            cell(
                label,
                seed,
                planned_run(
                    *[[device_round("a", compute=(4.0, 20.0 * f, 22.0), idle=(1.0, 3.0 * f, 3.0))]]
                    * 2,
                    data=str(seed),
                ),
                **about,
            )
            for label, each in factors.items()
            for seed, f in enumerate(each)
        ]
        found = compare(
            cells,
            name="study",
            title="",
            baseline="tfl",
            target=AccuracyTarget(value=0.55),
            confidence=0.95,
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_bytes(as_json(found))
        return folder

    def test_medians_and_bands_over_seeds(self, tmp_path: Path) -> None:
        folder = self.study(tmp_path / "s", {"tfl": (1.0, 1.0, 1.0), "fimi": (1.0, 2.0, 4.0)})
        found = figure_of(folder, "accuracy-joules")
        assert column(found, "energy_j", series="fimi") == pytest.approx([46.0, 92.0])
        assert column(found, "energy_j", series="tfl") == pytest.approx([23.0, 46.0])
        assert {r["kind"] for r in rows(found)} == {"emulated"}
        (line,) = [s for s in found.series if s.name == "fimi"]
        assert len(line.low) == len(line.high) == 2
        # accuracies of three seeds that are the same: a band without height
        assert line.low == line.high == line.y == pytest.approx((50.0, 60.0))
        assert line.about["seeds"] == "3"

    def test_two_seeds_have_no_band_but_their_runs(self, tmp_path: Path) -> None:
        folder = self.study(tmp_path / "s", {"tfl": (1.0, 1.0), "fimi": (1.0, 3.0)})
        found = figure_of(folder, "accuracy-joules")
        assert not any(s.low or s.high for s in found.series)
        thin = [s for s in found.series if s.style == "thin"]
        assert [s.x[-1] for s in thin if s.about["strategy"] == "fimi"] == pytest.approx([46, 138])
        assert "three seeds" in found.note
        assert len(figure_of(folder, "accuracy").series) == 6
        with pytest.raises(FigureError, match="no numbers for the figure cost"):
            figure_of(folder, "cost")

    def test_points_of_a_grid_are_named(self, tmp_path: Path) -> None:
        folder = self.study(tmp_path / "s", {"tfl": (1.0,)})
        with pytest.raises(FigureError, match=r"no grid point 'a = 1'"):
            figure_of(folder, "accuracy", FigureChoice(point="a = 1"))
        with pytest.raises(FigureError, match="is an experiment; it has no figure 'images'"):
            figure_of(folder, "images")
