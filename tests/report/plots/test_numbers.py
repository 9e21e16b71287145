"""The numbers of figures are those of the record; so is the CSV beside them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from compared_runs import cell, device_round, planned_run

from fimi.record.clean import shortened
from fimi.record.insight import DeviceInsight, Insight
from fimi.record.prediction import Parts, Residual
from fimi.record.reader import ReportError, read_run
from fimi.record.results import DeviceRound
from fimi.record.summary import summarise
from fimi.report.comparison.result import compare
from fimi.report.comparison.runs import AccuracyTarget, ComparedCell, RunFigures
from fimi.report.comparison.statistics import most_known
from fimi.report.comparison.values import as_json
from fimi.report.plots.figure import Figure, FigureError, as_csv
from fimi.report.plots.kinds import RUN_KINDS, FigureChoice, figure_of, sentences


def rows(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(as_csv(figure))))


def column(figure: Figure, name: str, **only: str) -> list[float]:
    return [float(r[name]) for r in rows(figure) if all(r[k] == v for k, v in only.items())]


def metered_by(entry: DeviceRound, kind: Any, source: str) -> DeviceRound:
    """The same with another meter."""
    return msgspec.structs.replace(
        entry,
        phases=tuple(
            msgspec.structs.replace(
                p, energy=p.energy and msgspec.structs.replace(p.energy, kind=kind, source=source)
            )
            for p in entry.phases
        ),
    )


@pytest.fixture
def gappy(tmp_path: Path, build: Any) -> Path:
    """Device-1 could not read computing in round 2."""
    return unread(tmp_path / "gappy", build, "compute", {2})


def unread(folder: Path, build: Any, phase: str, rounds: set[int]) -> Path:
    """A run in which device-1 could not read a phase in some rounds."""
    found = [
        build.round_result(
            n,
            [
                build.device_round("device-0"),
                build.device_round("device-1", unread=(phase,) if n in rounds else ()),
            ],
            accuracy,
        )
        for n, accuracy in enumerate((0.5, 0.8, 0.7), 1)
    ]
    build.write(folder, rounds=found)
    return folder


class TestRuns:
    """Three rounds of two devices; 28.5 J measured and 30.5 J predicted of each in a round."""

    def test_accuracy(self, run_dir: Path) -> None:
        found = figure_of(run_dir, "accuracy")
        assert column(found, "round") == [1, 2, 3]
        assert column(found, "accuracy_percent") == pytest.approx([50.0, 80.0, 70.0])
        assert "round,accuracy_percent" in as_csv(found)

    def test_devices_that_begin_and_end_alike_are_told_apart(
        self, tmp_path: Path, build: Any
    ) -> None:
        names = [f"raspberry-pi-5-lab-west-{where}-{n:02d}" for where in "ab" for n in (1, 2)]
        build.write(tmp_path / "long", names=names)
        found = figure_of(tmp_path / "long", "energy-devices")
        assert {row["device"] for row in rows(found)} == {*names}
        assert shortened(found.y.names) == [f"raspberry-pi…b-west-{n[-4:]}" for n in names]
        assert shortened(["a" * 20 + k + "b" * 20 for k in "xy"]) == [
            *("a" * 20 + k + "b" * 20 for k in "xy")
        ]
        assert shortened(["a" * 40] * 2, 8) == ["aaaa…aaa"] * 2

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
        assert column(found, "energy_j", series="predicted (modelled)") == pytest.approx(
            [3 * 30.5 + 0.5] * 2
        )
        assert found.note == "Measured joules are emulated, board, predicted ones modelled."
        assert [each.name for each in found.series] == [
            "predicted (modelled)",
            "metered ± 1 s.d. (emulated, board)",
        ]
        assert found.x.words == "energy of the run, J"

    def test_a_sum_with_a_gap_says_so_from_the_gap_on(self, gappy: Path) -> None:
        """Device-1 could not read computing in round 2: 20 J of the meter are missing since."""
        found = figure_of(gappy, "accuracy-joules")
        board = [r for r in rows(found) if r["joules"] == "whole board"]
        assert [bool(r["missing"]) for r in board] == [False, True, True]
        assert board[1]["missing"].startswith("compute in round 2 of device-1")
        assert [float(r["energy_j"]) for r in board] == pytest.approx(
            [1.2 + 57.0, 1.2 + 94.0, 1.2 + 151.0]
        )
        assert [s.least for s in found.series] == [(False, True, True)] * 2
        assert "hollow: at least" in found.series[0].name
        assert "without compute in round 2 of device-1" in found.note
        assert all(r["source"] for r in board)

    def test_bars_with_a_gap_say_so(self, gappy: Path) -> None:
        found = figure_of(gappy, "energy-phases")
        assert found.least == (1.0,)
        assert "at least, without compute in round 2 of device-1" in found.note
        said = {(r["series"], r["device"]): r["missing"] for r in rows(found)}
        assert {k for k, words in said.items() if words} == {("compute", "device-1")}
        assert sum(column(found, "energy_j", device="device-1")) == pytest.approx(3 * 28.5 - 19.4)
        both = figure_of(gappy, "energy-devices")
        assert "without compute in round 2 of device-1, in both" in both.note
        assert {r["device"] for r in rows(both) if r["missing"]} == {"device-1"}

    def test_a_phase_of_which_nothing_is_known_has_a_line(self, tmp_path: Path, build: Any) -> None:
        folder = unread(tmp_path / "run", build, "upload", {1, 2, 3})
        (line,) = [r for r in rows(figure_of(folder, "energy-phases")) if r["missing"]]
        assert (line["series"], line["device"], line["energy_j"]) == ("upload", "device-1", "")

    def test_kind_and_source_are_those_of_each_device(self, run_dir: Path) -> None:
        """One device has a meter of its own, the other is emulated."""
        run = read_run(run_dir)
        metered = msgspec.structs.replace(
            run,
            rounds=tuple(
                msgspec.structs.replace(
                    r, devices=(metered_by(r.devices[0], "measured", "ina219"), *r.devices[1:])
                )
                for r in run.rounds
            ),
            residuals=tuple(
                Residual(
                    round=1,
                    device=device,
                    phase="compute",
                    predicted_s=4.0,
                    measured_s=4.0,
                    predicted_j=22.0,
                    measured_j=20.0,
                    parts=Parts(),
                )
                for device in ("device-0", "device-1")
            ),
        )
        for kind in ("energy-phases", "prediction-error"):
            found = RUN_KINDS[kind](metered, summarise(metered))
            assert found is not None
            said = {(r["device"], r["kind"], r["source"]) for r in rows(found)}
            assert ("device-0", "measured", "ina219") in said
            assert ("device-1", "emulated", "meter") in said
        assert ("mean", "mixed", "ina219+meter") in said
        assert found.note.startswith("Measured joules are of whole boards (mixed, board)")

    def test_every_line_of_a_csv_has_the_name_of_its_series(self, run_dir: Path) -> None:
        for kind in RUN_KINDS:
            try:
                found = figure_of(run_dir, kind)
            except FigureError:
                continue
            assert all(r["series"] and r["series"] != "single runs" for r in rows(found))

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

    def test_what_a_run_does_not_have_is_said(
        self, run_dir: Path, tmp_path: Path, build: Any
    ) -> None:
        for kind in ("gradient-similarity", "prediction-error"):
            with pytest.raises(FigureError, match=f"no numbers for the figure {kind}: it shows"):
                figure_of(run_dir, kind)
        with pytest.raises(FigureError, match="no figure 'acuracy', but accuracy, accuracy-joules"):
            figure_of(run_dir, "acuracy")
        failed = build.device_round("device-1", status="failed", phases=())
        rounds = [build.round_result(1, [build.device_round("device-0"), failed], 0.5)]
        build.write(tmp_path / "failed", rounds=rounds)
        with pytest.raises(FigureError, match="it has sent no readings of round 1;"):
            figure_of(tmp_path / "failed", "power-trace", FigureChoice(device="device-1"))
        with pytest.raises(FigureError, match=r"there is no round 9; the run has rounds? 1"):
            figure_of(run_dir, "power-trace", FigureChoice(device="device-1", round=9))
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
            cell(label, seed, self.made([f, f], seed), **about)
            for label, each in factors.items()
            for seed, f in enumerate(each)
        ]
        return self.stored(folder, cells)

    def made(
        self, factors: Sequence[float | None], seed: int, kind: Any = "emulated"
    ) -> RunFigures:
        """A run with a factor for each round; ``None``: computing could not be read in it."""
        return planned_run(
            *[
                [
                    device_round(
                        "a",
                        kind=kind,
                        compute=(4.0, None if f is None else 20.0 * f, 22.0),
                        idle=(1.0, 3.0 * (f or 1.0), 3.0),
                    )
                ]
                for f in factors
            ],
            data=str(seed),
        )

    def stored(self, folder: Path, cells: Sequence[ComparedCell]) -> Path:
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

    def test_a_seed_with_a_gap_leaves_its_strategy_in_the_figure(self, tmp_path: Path) -> None:
        """Of five seeds one has no joules of its first round, and one none of its second."""
        rounds: list[list[float | None]] = [[f, f, f] for f in (1.0, 2.0, 3.0)]
        rounds += [[None, 1.0, 1.0], [9.0, None, 1.0]]
        cells = [cell("tfl", seed, self.made([1.0] * 3, seed)) for seed in range(5)]
        cells += [cell("fimi", seed, self.made(each, seed)) for seed, each in enumerate(rounds)]
        found = figure_of(self.stored(tmp_path / "s", cells), "accuracy-joules")
        (line,) = [s for s in found.series if s.about["strategy"] == "fimi" and s.legend]
        assert line.name == "fimi (3 of 5 seeds)"
        assert line.x == pytest.approx((46.0, 92.0, 138.0))  # seeds 0 to 2, 23 J times 1, 2, 3
        assert (line.about["seeds"], line.about["of_seeds"]) == ("3", "5")
        (thin,) = [s for s in found.series if s.about["strategy"] == "fimi" and not s.legend]
        assert (thin.about["seed"], thin.x) == ("4", pytest.approx((207.0,)))
        assert "of seed 3 not of the first round, of seed 4 up to round 1" in found.note
        (whole,) = [s for s in found.series if s.about["strategy"] == "tfl"]
        assert whole.name == "tfl" and len(whole.x) == 3

    def test_a_strategy_without_joules_is_named(self, tmp_path: Path) -> None:
        cells = [cell("tfl", 0, self.made([1.0], 0)), cell("fimi", 0, self.made([None], 0))]
        cells += [cell("aigc-only", 0, self.made([None], 0)), cell("late", 0, "has not run")]
        found = figure_of(self.stored(tmp_path / "s", cells), "accuracy-joules")
        assert [s.name for s in found.series] == ["tfl"]
        assert "fimi is not drawn: the joules of the first round are known of no seed" in found.note
        assert "aigc-only is not drawn: no device trains in it" in found.note
        assert "late is not drawn: none of its 1 seeds has a run" in found.note

    def test_a_line_has_the_most_points_that_are_known(self) -> None:
        """Against every choice of seeds, and of a round up to which all of them are known."""
        for lengths in itertools.product(range(5), repeat=3):
            best = (0, 0, 0)
            for count in range(1, 4):
                for chosen in itertools.combinations(lengths, count):
                    for end in range(1, min(chosen) + 1):
                        best = max(best, (count * end, count, end))
            assert most_known(lengths) == best[2]

    def test_kinds_are_those_of_each_strategy(self, tmp_path: Path) -> None:
        cells = [cell("tfl", 0, self.made([1.0], 0, "measured"))]
        cells += [cell("fimi", 0, self.made([1.0], 0))]
        found = figure_of(self.stored(tmp_path / "s", cells), "accuracy-joules")
        assert {(r["strategy"], r["kind"]) for r in rows(found)} == {
            ("tfl", "measured"),
            ("fimi", "emulated"),
        }
        assert "emulated+measured" in found.x.words

    def costs(self, folder: Path, points: Sequence[dict[str, Any]], seeds: int = 1) -> Path:
        """A target that the second round of 23 J times the number of devices reaches."""
        cells = [
            cell("tfl", seed, self.made([float(p["devices"]) * (1 + p["odd"])] * 2, seed), point=p)
            if isinstance(p["devices"], int)
            else cell("tfl", seed, self.made([1.0] * 2, seed), point=p)
            for p in points
            for seed in range(seeds)
        ]
        return self.stored(folder, cells)

    def test_no_line_joins_points_that_differ_in_another_key(self, tmp_path: Path) -> None:
        points = [{"devices": n, "odd": odd} for n in (4, 16, 8) for odd in (False, True)]
        folder = self.costs(tmp_path / "s", points)
        found = figure_of(folder, "cost")
        assert {s.name: (s.x, s.y) for s in found.series} == {
            "tfl, odd = false": ((4.0, 8.0, 16.0), pytest.approx((184.0, 368.0, 736.0))),
            "tfl, odd = true": ((4.0, 8.0, 16.0), pytest.approx((368.0, 736.0, 1472.0))),
        }
        one = figure_of(folder, "cost", FigureChoice(point="devices = 8, odd = true"))
        assert [(s.name, s.y[0]) for s in one.series] == [("tfl", pytest.approx(368.0))]
        assert figure_of(folder, "cost", FigureChoice(over="devices")).x.name == "devices"
        with pytest.raises(
            FigureError, match="no grid key 'odd' with three numbers or more; it ha"
        ):
            figure_of(folder, "cost", FigureChoice(over="odd"))

    def test_values_without_a_place_on_the_axis_are_named(self, tmp_path: Path) -> None:
        points = [{"devices": n, "odd": False} for n in (4, 8, 16, "none", [1, 2])]
        found = figure_of(self.costs(tmp_path / "s", points), "cost")
        assert [s.x for s in found.series] == [(4.0, 8.0, 16.0)]
        assert 'Without devices = "none", devices = [1, 2]' in found.note

    def test_no_line_goes_on_over_a_value_at_which_the_target_is_never_reached(
        self, tmp_path: Path
    ) -> None:
        cells = [
            cell("tfl", 0, self.made([float(n)] if n == 2 else [float(n)] * 2, 0), point={"n": n})
            for n in (1, 2, 4)  # the second round reaches it
        ]
        found = figure_of(self.stored(tmp_path / "s", cells), "cost")
        (line,) = found.series
        assert (line.x, line.y) == (
            (1.0, 2.0, 4.0),
            (pytest.approx(46.0), None, pytest.approx(184.0)),
        )
        assert [r["missing"] for r in rows(found)] == ["", "never reached", ""]

    def test_costs_say_of_how_many_seeds_they_are(self, tmp_path: Path) -> None:
        cells = [
            cell("tfl", seed, self.made([n, None if seed == n == 4 else n], seed), point={"n": n})
            for n in (1, 2, 4)
            for seed in range(5)
        ]
        found = figure_of(self.stored(tmp_path / "s", cells), "cost")
        assert column(found, "seeds") == [5, 5, 4]
        assert "tfl at n = 4: 4 of 5 seeds" in found.note

    def test_points_of_a_grid_are_named(self, tmp_path: Path) -> None:
        folder = self.study(tmp_path / "s", {"tfl": (1.0,)})
        with pytest.raises(FigureError, match=r"no grid point 'a = 1'"):
            figure_of(folder, "accuracy", FigureChoice(point="a = 1"))
        with pytest.raises(FigureError, match="is an experiment; it has no figure 'images'"):
            figure_of(folder, "images")
