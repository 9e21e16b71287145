"""The benchmark that holds presets against recordings, on small files of the same format."""

from __future__ import annotations

import importlib.util
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.emulation.presets import PRESETS

BEGIN = datetime.fromisoformat("2025-03-28 01:56:06")


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "presets_against_recordings.py"
    spec = importlib.util.spec_from_file_location("presets_against_recordings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # structs look up their annotations there
    spec.loader.exec_module(module)
    return module


def at(second: float) -> str:
    return str(BEGIN + timedelta(seconds=second))


def write_power(
    folder: Path, board: str, idle: float, busy: float, *, until_s: float = 40.0, rate_hz: int = 20
) -> Path:
    """Waits 10 s, is busy until second 35, waits again; in the numbers that the file is to have."""
    path = folder / f"power_{board}_2025-03-28_015640.230948.csv"
    lines = ["Timestamp (s),Power (mW)"]
    for step in range(int(until_s * rate_hz)):
        second = step / rate_hz
        lines.append(f"{at(second)},{busy if 10.0 <= second < 35.0 else idle}")
    path.write_text("\n".join(lines) + "\n")
    return path


def write_events(folder: Path, board: str) -> Path:
    path = folder / f"fl_20250328_{board}.csv"
    rows = [(0.5, "init"), (10.0, "fit_init"), (35.0, "fit_end"), (50.0, "init")]
    path.write_text("".join(f"{at(second)},{event},452,0\n" for second, event in rows))
    return path


class TestUnits:
    def test_watts_under_a_heading_of_milliwatts_are_noticed(
        self, compare: ModuleType, tmp_path: Path
    ) -> None:
        pi = compare.read_power(write_power(tmp_path, "RPi5", 3.46, 4.30))
        jetson = compare.read_power(write_power(tmp_path, "jetson", 5130.0, 6110.0))
        assert {reading.power_w for reading in pi.readings} == {3.46, 4.30}
        powers_w = sorted({reading.power_w for reading in jetson.readings})
        assert powers_w == pytest.approx([5.13, 6.11])
        (note,) = pi.notes
        assert "taken for watts" in note
        assert jetson.notes == ()
        assert (pi.board, jetson.board) == ("RPi5", "jetson")

    @given(watts=st.floats(0.2, 60.0))
    def test_any_board_is_read_right_in_either_unit(
        self, compare: ModuleType, tmp_path_factory: pytest.TempPathFactory, watts: float
    ) -> None:
        folder = tmp_path_factory.mktemp("units")
        for factor in (1.0, 1e3):
            path = write_power(folder, "RPi5", watts * factor, watts * factor, until_s=1.0)
            powers = [reading.power_w for reading in compare.read_power(path).readings]
            assert powers == pytest.approx([watts] * len(powers))


class TestPhases:
    def test_means_are_those_of_the_whole_board(self, compare: ModuleType, tmp_path: Path) -> None:
        for board, scale in (("RPi5", 1.0), ("jetson", 1e3)):
            write_power(tmp_path, board, 3.46 * scale, 4.30 * scale)
            write_events(tmp_path, board)
        found, _ = compare.load(tmp_path)
        watts = {(m.board, m.phase): m.power_w for m in found}
        # a reading every 50 ms: a step is seen within one of them
        assert watts["RPi5", "idle"] == pytest.approx(1.145 * 3.46 + 0.59, rel=0.005)
        assert watts["RPi5", "training"] == pytest.approx(1.145 * 4.30 + 0.59, rel=0.005)
        assert watts["jetson", "idle"] == pytest.approx(3.46, rel=0.005)
        assert watts["jetson", "training"] == pytest.approx(4.30, rel=0.005)
        (training,) = [m for m in found if (m.board, m.phase) == ("jetson", "training")]
        assert training.energy_j == pytest.approx(25.0 * 4.30, rel=0.005)
        lines = "\n".join(compare.against_recordings(found))
        ratio = PRESETS["raspberry-pi-5"].training_power_w / watts["RPi5", "training"]
        assert f"{ratio:.2f}" in lines

    def test_a_recording_that_stops_early_counts_as_far_as_it_goes(
        self, compare: ModuleType, tmp_path: Path
    ) -> None:
        write_events(tmp_path, "jetson")
        write_power(tmp_path, "jetson", 5000.0, 6000.0, until_s=30.0)
        found, notes = compare.load(tmp_path)
        (training,) = [m for m in found if m.phase == "training"]
        assert training.power_w == pytest.approx(6.0, rel=0.005)
        assert training.duration_s == pytest.approx(20.0, abs=0.1)
        assert any("80% of fit" in note for note in notes)
        write_power(tmp_path, "jetson", 5000.0, 6000.0, until_s=15.0)
        found, notes = compare.load(tmp_path)
        assert [m.phase for m in found] == ["idle"]
        assert any("left out" in note for note in notes)

    def test_a_board_without_events_is_said(self, compare: ModuleType, tmp_path: Path) -> None:
        write_power(tmp_path, "RPi5", 3.46, 4.30)
        found, notes = compare.load(tmp_path)
        assert found == []
        assert any("no phase of RPi5" in note for note in notes)


class TestBadFiles:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "no power in W or mW"),
            ("Timestamp (s),Temperature\n", "no power in W or mW"),
            ("Timestamp (s),Power (mW)\nnow,3.4\n", "line 2: 'now' is no time"),
            (f"Timestamp (s),Power (mW)\n{BEGIN},much\n", "line 2: power 'much' is no number"),
            (f"Timestamp (s),Power (mW)\n{BEGIN},3,4\n", "line 2: 3 values"),
            (f"Timestamp (s),Power (mW)\n{BEGIN},3.4\n", "1 readings"),
        ],
    )
    def test_say_where(self, compare: ModuleType, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "power_RPi5_x.csv"
        path.write_text(text)
        with pytest.raises(compare.RecordingError, match=said):
            compare.read_power(path)

    def test_events_that_do_not_fit(self, compare: ModuleType, tmp_path: Path) -> None:
        path = tmp_path / "fl_20250328_RPi5.csv"
        path.write_text(f"{BEGIN},fit_end,0,0\n")
        with pytest.raises(compare.RecordingError, match="fit_end without fit_init"):
            compare.read_events(path)

    def test_an_empty_folder(self, compare: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(compare.RecordingError, match=r"no power_\*.csv"):
            compare.load(tmp_path)


class TestPublished:
    def test_presets_lie_where_others_measured(self, compare: ModuleType) -> None:
        """Within a third of the middle; the mini-PC and the power modes are of other makes."""
        for figure in compare.PUBLISHED:
            told_w = compare.preset_w(PRESETS[figure.make], figure.state)
            middle_w = (figure.low_w + figure.high_w) / 2.0
            assert told_w / middle_w == pytest.approx(1.0, abs=0.35), figure
            assert figure.source
        assert len(compare.against_published()) == 1 + len(compare.PUBLISHED)

    def test_every_make_has_one(self, compare: ModuleType) -> None:
        assert {figure.make for figure in compare.PUBLISHED} == set(PRESETS)


class TestLaws:
    @given(
        st.lists(st.floats(0.1, 3.0), min_size=4, max_size=9, unique=True),
        st.floats(0.0, 1.0),
        st.floats(0.0, 1.0),
    )
    def test_what_follows_a_law_is_fitted_by_it(
        self, compare: ModuleType, clocks: list[float], linear: float, cubic: float
    ) -> None:
        """V² f = 0.2 + c f + κ f³, so V² = 0.2/f + c + κ f²."""
        hertz = sorted(clock * 1e9 for clock in clocks)
        volts = [(0.2 / (f / 1e9) + linear + cubic * (f / 1e9) ** 2) ** 0.5 for f in hertz]
        errors = compare.law_errors(hertz, volts)
        assert errors["P0 + c f + κ f³"][1] == pytest.approx(0.0, abs=1e-4)
        if linear == 0.0:
            assert errors["P0 + κ f³"][1] == pytest.approx(0.0, abs=1e-4)
        assert errors["P0 + c f + κ f³"][0] <= errors["P0 + κ f³"][0] + 1e-6

    def test_a_table_is_read_cluster_by_cluster(self, compare: ModuleType, tmp_path: Path) -> None:
        path = tmp_path / "opp.csv"
        path.write_text(
            "source,cluster,frequency_hz,volt_uv\na,big,1000000000,700000\n"
            "a,big,2000000000,900000\na,small,500000000,650000\n"
        )
        found = compare.clusters(path)
        assert list(found) == ["a big", "a small"]
        assert found["a big"][0] == [1e9, 2e9]
        assert found["a big"][1] == pytest.approx([0.7, 0.9])
        assert found["a small"] == ([5e8], pytest.approx([0.65]))
