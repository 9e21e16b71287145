"""Recordings of other tools: small files as these tools write them."""

from __future__ import annotations

import csv
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.clock import VirtualClock
from fimi.energy.meters.replay import Replay
from fimi.energy.timestamps import Stamp
from fimi.testbed.cli import main
from fimi.testbed.recordings import counters, importing
from fimi.testbed.recordings.recording import (
    ImportSettings,
    Recording,
    RecordingDraft,
    RecordingError,
)

UTC = {"zone": "UTC"}


def unix_s(*moment: int) -> float:
    return datetime(*moment, tzinfo=timezone.utc).timestamp()  # type: ignore[misc,arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recording.txt"


def read(file: Path, text: str, form: str = "auto", **given: Any) -> Recording:
    file.write_text(text, encoding="utf-8")
    return importing.read(file, form, ImportSettings(**{**UTC, **given}))


ORIN = (
    "05-15-2025 18:30:{:02d} RAM 6982/7620MB (lfb 2x512kB) SWAP 1149/3810MB (cached 0MB) CPU "
    "[27%@1344,23%@1344,off,off] GR3D_FREQ 99% cpu@64.1C soc2@62.2C tj@64.5C "
    "VDD_IN {}mW/15710mW VDD_CPU_GPU_CV 8896mW/7585mW VDD_SOC 3923mW/3515mW\n"
)
TX2 = (
    "RAM 3276/7859MB (lfb 5x4MB) SWAP 1626/12122MB (cached 181MB) CPU "
    "[44%@1421,49%@2031] EMC_FREQ 1%@1866 GR3D_FREQ 0%@114 APE 150 MTS fg 1% bg 1% PLL@42.5C "
    "GPU@39.5C VDD_SYS_GPU 182/182 VDD_SYS_SOC 730/730 VDD_4V0_WIFI 0/0 VDD_IN {}/5297 "
    "VDD_SYS_CPU 1917/1917 VDD_SYS_DDR 1241/1241\n"
)
NANO = (
    "RAM 1234/3964MB (lfb 2x1MB) IRAM 0/252kB(lfb 252kB) CPU [10%@1479,off,off,off] "
    "EMC_FREQ 0% GR3D_FREQ 0% PLL@30C POM_5V_IN {}/2100 POM_5V_GPU 40/40 POM_5V_CPU 500/480\n"
)
AGX_ORIN = (
    "01-02-2024 10:00:{:02d} RAM 5000/30000MB (lfb 4x4MB) CPU [1%@729] GR3D_FREQ 0% "
    "VDD_GPU_SOC {}mW/2000mW VDD_CPU_CV 1000mW/1000mW VIN_SYS_5V0 3000mW/3000mW "
    "NC 0mW/0mW VDDQ_VDD2_1V8AO 500mW/500mW\n"
)
THOR = (
    "09-19-2025 12:00:{:02d} RAM 9000/125000MB (lfb 1x4MB) CPU [1%@972] GR3D_FREQ 0% "
    "tj@50.1C VDD_GPU -392mW/-392mW VDD_CPU_SOC_MSS 6510mW/6510mW VIN_SYS_5V0 6520mW/6520mW "
    "VIN {}mW/23000mW\n"
)


class TestTegrastats:
    def test_jetpack_5_and_6(self, file: Path) -> None:
        found = read(file, "".join(ORIN.format(28 + n, 17946 + n) for n in range(4)))
        assert found.format == "tegrastats"
        assert found.times_s == [unix_s(2025, 5, 15, 18, 30, 28 + n) for n in range(4)]
        assert found.values == pytest.approx([17.946, 17.947, 17.948, 17.949])
        assert found.dated and not found.left_out
        assert "power is VDD_IN" in found.notes

    def test_lines_of_one_second_are_spread_over_it(self, file: Path) -> None:
        text = "".join(ORIN.format(28 + n // 4, 5000 + n) for n in range(8))
        found = read(file, text)
        assert np.diff(found.times_s) == pytest.approx([0.25] * 7)

    def test_jetpack_4_has_no_times_and_asks_for_the_interval(self, file: Path) -> None:
        text = "".join(TX2.format(5297 + n) for n in range(3))
        with pytest.raises(RecordingError, match=r"no times.*--interval 1 is tegrastats' default"):
            read(file, text)
        found = read(file, text, interval_s=0.5)
        assert found.times_s == [0.0, 0.5, 1.0] and not found.dated
        assert found.values == pytest.approx([5.297, 5.298, 5.299])

    @pytest.mark.parametrize(
        ("line", "rails", "power_w"),
        [
            (NANO.format(2050), "POM_5V_IN", 2.05),
            (AGX_ORIN.format(0, 2000), "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0", 6.0),
            (THOR.format(0, 23100), "VIN", 23.1),
            (THOR.format(0, 0).rsplit(" VIN ", 1)[0] + "\n",
             "VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0", 12.638),
        ],
    )  # fmt: skip
    def test_the_rails_that_are_the_whole(
        self, file: Path, line: str, rails: str, power_w: float
    ) -> None:
        later = line.replace(":00 RAM", ":01 RAM")
        found = read(file, line + later, interval_s=1.0)
        assert found.values == pytest.approx([power_w] * 2)
        assert f"power is {rails}" in found.notes

    def test_blank_lines_are_no_time(self, file: Path) -> None:
        """A terminal's log has line ends of its own before those of tegrastats."""
        line = TX2.format(5000).strip()
        found = read(file, "\r\r\n".join([line] * 11), interval_s=2.0)
        assert found.times_s == [2.0 * n for n in range(11)]
        assert found.energy_j == pytest.approx(5.0 * 20.0)
        found = read(file, "\n\n".join([line, line, line[:40], line]), interval_s=2.0)
        assert found.times_s == [0.0, 2.0, 6.0], "a line that was cut off took its time"

    def test_a_rail_can_be_named_and_others_are_refused(self, file: Path) -> None:
        text = ORIN.format(1, 5000) + ORIN.format(2, 5000)
        assert read(file, text, rails=("VDD_SOC",)).values == pytest.approx([3.923] * 2)
        with pytest.raises(RecordingError, match="its rails are VDD_IN, VDD_CPU_GPU_CV, VDD_SOC"):
            read(file, text, rails=("VDD_OUT",))
        unknown = text.replace("VDD_IN", "VDD_NEW")
        with pytest.raises(RecordingError, match=r"not known which of them add up.*--rail"):
            read(file, unknown)
        with pytest.raises(RecordingError, match="no line shows the power"):
            read(file, "RAM 1/2MB CPU [1%@2]\n" * 2)

    def test_broken_lines_are_named_and_counted(self, file: Path) -> None:
        lines = [ORIN.format(n, 5000) for n in range(10)]
        lines[3] = lines[3][:90] + "\n"  # the logger was stopped in the middle
        lines[5] = "99-15-2025" + lines[5][10:]
        lines[7] = lines[7][20:]
        found = read(file, "".join(lines))
        assert len(found.times_s) == 7
        assert [line for line, _ in found.left_out] == [4, 6, 8]
        said = found.warnings()
        assert f"{file}, line 4: it has no VDD_IN" in said
        assert f"{file}: 3 lines were left out, 7 are used" in said


PI = """Timestamp (s),Power (mW)
2025-03-28 01:56:06.534482,4.39
2025-03-28 01:56:06.571451,3.59
2025-03-28 01:56:06.606822,3.49
"""
JETSON = """Timestamp (s),Power (mW)
2025-03-28 01:56:05.498433,5964.67
2025-03-28 01:56:05.510069,5964.67
2025-03-28 01:56:05.521490,5924.10
"""


class TestTables:
    def test_a_heading_that_cannot_be_right_is_refused_and_asked(self, file: Path) -> None:
        """The heading says mW and the file means W; the other file says and means mW."""
        with pytest.raises(RecordingError) as why:
            read(file, PI)
        said = str(why.value)
        assert str(file) in said and "'Power (mW)' says mW" in said
        assert "3.59 mW is no board's power" in said and "3.59 W would be one" in said
        assert "--unit W" in said and "--unit mW if the heading is right" in said
        assert read(file, PI, unit="W").values == [4.39, 3.59, 3.49]
        assert read(file, PI, unit="mW").values == pytest.approx([4.39e-3, 3.59e-3, 3.49e-3])
        assert any("unusual" in note for note in read(file, PI, unit="mW").notes)
        found = read(file, JETSON)
        assert found.values == pytest.approx([5.96467, 5.96467, 5.9241])
        assert found.times_s[0] == pytest.approx(unix_s(2025, 3, 28, 1, 56, 5) + 0.498433)

    @pytest.mark.parametrize("heading", ["Power (W)", "power_w", "watts", "P [W]"])
    def test_milliwatts_called_watts_are_refused_too(self, file: Path, heading: str) -> None:
        with pytest.raises(RecordingError, match=r"says W, and 5964.67 W is no board.*--unit mW"):
            read(file, JETSON.replace("Power (mW)", heading))

    def test_a_heading_without_a_unit_is_asked(self, file: Path) -> None:
        for text, hint in ((PI, "3.59 W"), (JETSON, "5964.67 mW")):
            with pytest.raises(RecordingError, match=f"names no unit.*would be {hint}.*--unit"):
                read(file, text.replace(" (mW)", ""))

    @pytest.mark.parametrize(
        ("text", "times_s", "values"),
        [
            ("time_s,power_w\n0,4\n1,5\n", [0.0, 1.0], [4.0, 5.0]),
            ("\ufefftime (ms);Leistung [W]\n0;4,25\n500;5,5\n", [0.0, 0.5], [4.25, 5.5]),
            ("elapsed\tpower_mW\n0\t4000\n0.1\t5000\n", [0.0, 0.1], [4.0, 5.0]),
            ("t,volts,amps,watts\n1,5,1,5\n2,5,1,5.5\n", [1.0, 2.0], [5.0, 5.5]),
            ("timestamp,power_watts\n1743127566,4\n1743127567,5\n",
             [1743127566.0, 1743127567.0], [4.0, 5.0]),
            ("timestamp,power_w\n1743127566500,4\n1743127567000,5\n",
             [1743127566.5, 1743127567.0], [4.0, 5.0]),
            ("Date;Power (kW)\n2025-03-28T01:56:06Z;0,05\n2025-03-28T01:56:07Z;0,06\n",
             [1743126966.0, 1743126967.0], [50.0, 60.0]),
        ],
    )  # fmt: skip
    def test_headings_and_times_of_many_kinds(
        self, file: Path, text: str, times_s: list[float], values: list[float]
    ) -> None:
        found = read(file, text)
        assert found.format == "csv"
        assert found.times_s == pytest.approx(times_s)
        assert found.values == pytest.approx(values)
        assert not found.left_out

    @pytest.mark.parametrize(
        ("heading", "step", "step_s"),
        [
            ("time_us", 1e5, 0.1), ("t (ms)", 100.0, 0.1), ("minutes", 0.01, 0.6),
            ("elapsed_ns", 1e8, 0.1), ("Time [min]", 1.0, 60.0), ("elapsedMillis", 50.0, 0.05),
            ("Timestamp(ms)", 0.01, 1e-5), ("hours", 0.001, 3.6), ("Zeit / s", 2.0, 2.0),
            ("Elapsed Time (sec)", 1.003, 1.003), ("t[µs]", 500.0, 5e-4), ("t", 0.1, 0.1),
        ],
    )  # fmt: skip
    def test_a_time_has_the_unit_of_its_heading(
        self, file: Path, heading: str, step: float, step_s: float
    ) -> None:
        rows = "".join(f"{n * step:.10g},5\n" for n in range(20))
        found = read(file, f"{heading},power_w\n{rows}")
        assert np.diff(found.times_s) == pytest.approx([step_s] * 19)
        assert not found.dated
        (said,) = (note for note in found.notes if repr(heading) in note)
        assert ("taken for granted" in said) == (heading == "t")

    @pytest.mark.parametrize(
        ("heading", "begin", "step", "units"),
        [
            ("t", 0, 100, ("s", "ms", "us")),  # a row every 100 s, or ten rows a second
            ("t", 0, 1e-5, ("s",)),
            ("time_s", 0, 100_000, ("ms", "us", "ns", "s")),
            ("time_ns", 0, 0.1, ("s", "ms", "ns")),
            ("time (h:min)", 0, 1, ("s", "min")),
            ("time_ms", 1_743_127_566, 1, ("s", "ms")),  # the size of UNIX seconds
            ("time_s", 1_743_127_566_000, 1000, ("ms", "s")),
        ],
    )
    def test_a_time_whose_unit_cannot_be_known_is_asked(
        self, file: Path, heading: str, begin: float, step: float, units: tuple[str, ...]
    ) -> None:
        text = f"{heading},power_w\n" + "".join(f"{begin + n * step:.15g},5\n" for n in range(9))
        with pytest.raises(RecordingError) as why:
            read(file, text)
        for unit in units:
            assert f"--time-unit {unit}" in str(why.value)
        found = read(file, text, time_unit=units[0])
        scale = {"s": 1.0, "ms": 1e-3}[units[0]]
        assert np.diff(found.times_s) == pytest.approx([step * scale] * 8)
        assert any("as you said" in note for note in found.notes)

    @pytest.mark.parametrize(
        ("text", "step_s", "begin_s"),
        [
            # A logger of a USB meter, and a load profile of a German grid operator.
            ("Date,Time,Voltage[V],Current[A],Power[W]\n2026-04-01,12:00:00,19.85,1.42,28.2\n"
             "2026-04-01,12:00:01,19.85,1.42,28.2\n", 1.0, unix_s(2026, 4, 1, 12)),
            ("Datum;Uhrzeit;Leistung_kW;Status\n01.02.2025;00:15;0,061;W\n"
             "01.02.2025;00:30;0,058;W\n", 900.0, unix_s(2025, 2, 1, 0, 15)),
            # Intel's PowerLog has a clock without a date, and seconds beside it.
            ("System Time,RDTSC,Elapsed Time (sec),Processor Power_0 (Watt)\n"
             "12:11:05:769,61075218263548,2.002,12.5\n12:11:06:774,61077822279584,3.007,12.5\n",
             1.005, 2.002),
            ("System Time,RDTSC,Processor Power_0 (Watt)\n23:59:59:769,1,12.5\n"
             "00:00:00:774,2,12.5\n", 1.005, 86399.769),
            # Rohde & Schwarz NGM200, a script's columns.
            ("UnixTime,StringTime,Ah,VAvg,IAvg,WAvg\n1743127566.10,2025-03-28 02:06:06,0,5,1,5\n"
             "1743127566.35,2025-03-28 02:06:06,0,5,1,5\n", 0.25, 1743127566.1),
            ("Date/Time,Power (W)\n3/4/2025 11:00:00 PM,5\n3/5/2025 12:00:00 AM,5\n",
             3600.0, unix_s(2025, 3, 4, 23)),
            ("time,power_w\n04/03/2025 10:00:00,5\n28/03/2025 10:00:00,5\n",
             24 * 86400.0, unix_s(2025, 3, 4, 10)),
        ],
    )  # fmt: skip
    def test_times_as_loggers_write_them(
        self, file: Path, text: str, step_s: float, begin_s: float
    ) -> None:
        found = read(file, text)
        assert found.times_s == pytest.approx([begin_s, begin_s + step_s])
        assert any(note.startswith("times are ") for note in found.notes)

    def test_of_several_columns_the_one_that_goes_on_is_time(self, file: Path) -> None:
        text = "T,batch time,time_s,power_w\n" + "".join(
            f"{40 + n % 3},{0.1 + 0.01 * (n % 2)},{n},5\n" for n in range(9)
        )
        found = read(file, text)
        assert np.diff(found.times_s) == pytest.approx([1.0] * 8)
        assert any("'T', 'batch time' could be times, too" in note for note in found.notes)

    def test_what_is_taken_for_granted_is_noted(self, file: Path) -> None:
        text = "Date;Time;Elapsed;Power (W)\n{0};10:00:00;0;5,5\n{0};10:00:00;1;5,5\n"
        notes = " ".join(read(file, text.format("03/04/2025"), zone=None).notes)
        for told in (
            "commas are taken as decimal", "'Date' and 'Time'", "'Elapsed' could be times, too",
            "taken as month/day", "no zone", "spread", "as its heading says",
        ):  # fmt: skip
            assert told in notes
        text = "time_utc,power_w\n2025-03-28 10:00:00,5\n2025-03-28 10:00:01,5\n"
        found = read(file, text, zone=None)
        assert found.times_s[0] == unix_s(2025, 3, 28, 10)
        assert any("UTC, as the heading says" in note for note in found.notes)

    @pytest.mark.parametrize(
        ("heading", "watt", "unit"),
        [
            ("PowerW", 1.0, "W"), ("powerW", 1.0, "W"), ("power_mW", 1e3, "mW"),
            ("cpuPowerWatts", 1.0, "W"), ("powermW", 1e3, "mW"), ("P / W", 1.0, "W"),
            ("WAvg", 1.0, "W"), ("PkgWatt", 1.0, "W"), ("power_uW", 1e6, "uW"),
        ],
    )  # fmt: skip
    def test_units_of_power(self, file: Path, heading: str, watt: float, unit: str) -> None:
        found = read(file, f"time_s,{heading}\n" + "".join(f"{n},{5 * watt}\n" for n in range(9)))
        assert found.values == pytest.approx([5.0] * 9)
        assert f"column {heading!r} in {unit}, as its heading says" in found.notes

    @pytest.mark.parametrize(
        ("heading", "joule", "unit"),
        [
            ("mJ", 1e3, "mJ"), ("energy_kJ", 1e-3, "kJ"), ("µJ", 1e6, "uJ"),
            ("energy_uj", 1e6, "uJ"), ("watt_hours", 1 / 3600, "Wh"),
            ("watt hours", 1 / 3600, "Wh"), ("kilowatt-hours", 1 / 3.6e6, "kWh"),
            ("EnergykWh", 1 / 3.6e6, "kWh"), ("Cumulative Energy_0 (mWh)", 1 / 3.6, "mWh"),
            ("wattSeconds", 1.0, "J"), ("Pkg_J", 1.0, "J"),
        ],
    )  # fmt: skip
    def test_units_of_energy(self, file: Path, heading: str, joule: float, unit: str) -> None:
        rows = "".join(f"{n},{(7 + 5 * n) * joule:.12g}\n" for n in range(9))
        found = read(file, f"time_s,{heading}\n{rows}")
        assert found.counts and found.energy_j == pytest.approx(40.0)
        assert f"column {heading!r} in {unit}, as its heading says" in found.notes

    @pytest.mark.parametrize(
        "heading",
        ["W/m2", "W_m2", "kW per m2", "mWh/g", "power factor", "SystemW", "reactive_power"],
    )
    def test_what_is_no_power_of_a_board_is_not_taken_for_it(
        self, file: Path, heading: str
    ) -> None:
        with pytest.raises(RecordingError, match=r"none of its columns .* is power or energy"):
            read(file, f"time_s,{heading}\n0,5\n1,5\n2,5\n")
        with pytest.raises(RecordingError, match=r"names no unit .* --unit W"):
            read(file, f"time_s,{heading}\n0,5\n1,5\n2,5\n", column=heading)
        found = read(file, f"time_s,{heading},power_w\n0,5,6\n1,5,6\n2,5,6\n")
        assert found.values == [6.0] * 3

    @pytest.mark.parametrize(
        ("heading", "a_second", "units"),
        [
            ("energy_j", 5000.0, ("mJ", "J")),
            ("kWh", 5 / 3600, ("kJ", "Wh", "kWh")),
            ("energy_uJ", 5.0, ("J", "uJ")),
            ("energy", 5.0, ("J", "mWh", "Wh")),
            ("Energy (W)", 5.0, ("J", "mWh", "Wh")),
            ("Wh", 0.0, ("Wh",)),
        ],
    )
    def test_a_counter_whose_power_is_no_boards_is_asked(
        self, file: Path, heading: str, a_second: float, units: tuple[str, ...]
    ) -> None:
        rows = "".join(f"{n},{100 + n * a_second:.12g}\n" for n in range(9))
        with pytest.raises(RecordingError) as why:
            read(file, f"time_s,{heading}\n{rows}")
        for unit in units:
            assert f"--unit {unit}" in str(why.value)
        found = read(file, f"time_s,{heading}\n{rows}", unit=units[-1])
        assert any("as you said" in note for note in found.notes)
        assert any("unusual" in note for note in found.notes)

    def test_decimal_commas_between_commas_are_not_taken_for_columns(self, file: Path) -> None:
        with pytest.raises(RecordingError, match="it has 4 columns, not 2"):
            read(file, "time_s,power_w\n0,5,4,25\n1,0,4,75\n1,5,4,5\n")
        assert read(file, "time_s,power_w\n0,5,\n1,5,\n").values == [5.0, 5.0], "a last comma"

    def test_a_counter_that_is_reset_goes_on(self, file: Path) -> None:
        """A daily counter of 5 W, read each minute: it falls to 0 once, and one row is broken."""
        truth_j = [300.0 * n for n in range(50)]
        shown = [e - (0 if n < 30 else truth_j[30]) for n, e in enumerate(truth_j)]
        shown[10] = 1.0
        rows = "".join(f"{60 * n},{value / 3600}\n" for n, value in enumerate(shown))
        found = read(file, f"time_s,Energy today (Wh)\n{rows}")
        assert [line for line, _ in found.left_out] == [12]
        assert found.energy_j == pytest.approx(truth_j[-1] - 300.0), (
            "but for the minute of the reset"
        )
        assert any("reset 1 times (line 32)" in note for note in found.notes)

    @pytest.mark.parametrize("every_s", [1, 60])
    def test_a_counter_that_drops_out_is_not_counted_twice(self, file: Path, every_s: int) -> None:
        """5 W; the counter shows 0 in three rows and then goes on where it would be."""
        shown = [0 if 300 <= n < 303 else 5 * every_s * n for n in range(360)]
        rows = "".join(f"{every_s * n},{value}\n" for n, value in enumerate(shown))
        found = read(file, f"time_s,energy_j\n{rows}")
        assert found.energy_j == 5.0 * every_s * 359
        assert [line for line, _ in found.left_out] == [302, 303, 304]
        assert not found.holes

    def test_a_counter_begins_after_zeros(self, file: Path) -> None:
        """It does not count yet in three rows, and is at 10 kJ then."""
        rows = "".join(f"{n},{0 if n < 3 else 10_000 + 5 * n}\n" for n in range(100))
        found = read(file, f"time_s,energy_j\n{rows}")
        assert found.energy_j == 5.0 * 96 and found.holes_s == 1.0
        assert "the counter begins in line 5, after zeros" in found.notes

    def test_a_row_far_ahead_is_left_out(self, file: Path) -> None:
        rows = "".join(f"{n},{30_000 if n == 50 else 10_000 + 5 * n}\n" for n in range(100))
        found = read(file, f"time_s,energy_j\n{rows}")
        assert found.energy_j == 5.0 * 99 and not found.holes
        assert found.left_out == [(52, "the counter runs ahead, to 30000")]

    @pytest.mark.parametrize("lows", [[0], [0, 0], [3, 0]])
    def test_of_several_drop_outs_none_is_counted(self, file: Path, lows: list[int]) -> None:
        shown = [1000 + 5 * n for n in range(200)]
        for begin in (40, 90, 150):
            shown[begin : begin + len(lows)] = lows
        rows = "".join(f"{n},{value}\n" for n, value in enumerate(shown))
        found = read(file, f"time_s,energy_j\n{rows}")
        assert found.energy_j == 5.0 * 199 and len(found.left_out) == 3 * len(lows)

    @pytest.mark.parametrize("lows", [1, 2])
    def test_a_counter_that_steps_only_while_it_drops_out(self, file: Path, lows: int) -> None:
        shown = [500, 500, *[0] * lows, 501, 501, 501]
        rows = "".join(f"{n},{value}\n" for n, value in enumerate(shown))
        assert read(file, f"time_s,energy_j\n{rows}", unit="J").energy_j == 1.0

    @pytest.mark.parametrize("work_at", [1, 3])
    def test_a_counter_of_each_run_passes_the_old_one_at_once(
        self, file: Path, work_at: int
    ) -> None:
        """Six runs of 40 minutes; the work of a run is in one row and more than of the last."""
        steps = [
            [0 if n == 0 else 2000 * run if n == work_at else 20 for n in range(40)]
            for run in range(1, 7)
        ]
        shown = [sum(run[: n + 1]) for run in steps for n in range(40)]
        rows = "".join(f"{60 * n},{value}\n" for n, value in enumerate(shown))
        found = read(file, f"time_s,energy_j\n{rows}")
        assert found.energy_j == sum(map(sum, steps)) and not found.left_out
        assert len(found.holes) == 5

    def test_a_counter_with_many_resets_is_read_in_one_pass(self, file: Path) -> None:
        """How often cells are read says it, whatever the machine's load is."""
        read_times = 0

        class Row(tuple[int, Stamp, float]):
            def __getitem__(self, at: Any) -> Any:
                nonlocal read_times
                read_times += 1
                return super().__getitem__(at)

        values = [(1.0 - 1e-5 * n) * (n % 25) for n in range(10_000)]
        rows = [Row((n + 2, Stamp(float(n), 0.0, zoned=True), v)) for n, v in enumerate(values)]
        draft = RecordingDraft("recording", "csv")
        assert len(counters.continued("recording", draft, "energy_j", rows)) == 10_000
        assert len(draft.breaks) == 399 and read_times < 20 * 10_000

    def test_a_coarse_counter_does_not_leap(self, file: Path) -> None:
        """Steps of 0.01 kWh in rows of 10 s: 36 kJ, as if of 3.6 kW. 20 W, and 60 W later."""
        truth_j = [35_900 + 20.0 * t + 40.0 * max(0, t - 9000) for t in range(0, 18_000, 10)]
        rows = "".join(f"{10 * n},{e // 36000 / 100:.2f}\n" for n, e in enumerate(truth_j))
        found = read(file, f"time_s,energy (kWh)\n{rows}")
        assert found.energy_j == pytest.approx((truth_j[-1] // 36000 - truth_j[0] // 36000) * 36000)
        assert not found.holes

    def test_energies_of_each_row_are_no_counter(self, file: Path) -> None:
        rows = "".join(f"{900 * n},{(0.05, 0.06)[n % 2]}\n" for n in range(20))
        with pytest.raises(RecordingError, match=r"falls in 9 of 20 rows.*no counter"):
            read(file, f"time_s,Consumption (kWh)\n{rows}")

    @pytest.mark.parametrize(
        ("stamp", "every_s", "rows"),
        [
            ("%Y-%m-%dT%H:%M:%SZ", 0.1, 600),
            ("unix", 0.1, 600),
            ("%Y-%m-%d %H:%M", 20.0, 200),
            ("bursts", 0.1, 600),
            ("ms", 1e-3, 3000),
        ],
    )
    def test_counters_with_rows_at_one_time(
        self, file: Path, stamp: str, every_s: float, rows: int
    ) -> None:
        """4 W and 9 W by turns with noise; the joules are what the steps add up to."""
        dice = np.random.default_rng(11)
        watts = [max(0.5, dice.normal((4.0, 9.0)[n // 100 % 2], 0.3)) for n in range(rows)]
        sums = np.concatenate([[0.0], np.cumsum(watts)]) * every_s
        begin_s, text = unix_s(2026, 3, 1, 10), "timestamp,energy_uj\n"
        for n, joules in enumerate(sums):
            at_s = begin_s + n * every_s
            if stamp == "unix":
                written = f"{int(at_s)}"
            elif stamp == "bursts":
                written = f"{begin_s + n // 5 * 0.5 + n % 5 * 0.0004:.4f}"
            elif stamp == "ms":
                written = f"{1e3 * begin_s + int(n * 0.97):.0f}"
            else:
                written = datetime.fromtimestamp(at_s, timezone.utc).strftime(stamp)
            text += f"{written},{1e6 * joules:.0f}\n"
        found = read(file, text)
        assert found.energy_j == pytest.approx(sums[-1] - sums[0], rel=1e-3)
        assert not found.holes

    def test_a_household_with_a_stove(self, file: Path) -> None:
        """Each 15 minutes in kWh: 0.2 kW, and 3.6 kW more for half an hour a day."""
        kw = [0.2 + 3.6 * (72 <= n % 96 < 74) for n in range(96 * 7)]
        rows = "".join(f"{900 * n},{1234.5 + sum(kw[:n]) / 4:.3f}\n" for n in range(len(kw)))
        found = read(file, f"time_s,Energy (kWh)\n{rows}")
        assert found.energy_j == pytest.approx(sum(kw[:-1]) * 900e3, abs=3.6e3)
        assert not found.holes

    def test_rows_of_one_whole_second_are_spread_over_it(self, file: Path) -> None:
        rows = [f"2025-03-28 01:56:0{n // 5},{4 + n}" for n in range(15)]
        found = read(file, "time,power_w\n" + "\n".join(rows))
        assert not found.left_out
        assert np.diff(found.times_s) == pytest.approx([0.2] * 14)
        assert any("spread" in note for note in found.notes)

    def test_a_counter(self, file: Path) -> None:
        found = read(file, "time_s,energy (Wh)\n0,1\n10,1.5\n20,2\n")
        assert found.counts
        assert found.values == [3600.0, 5400.0, 7200.0]
        assert found.energy_j == 3600.0

    def test_an_open_quote_takes_no_other_line(self, file: Path) -> None:
        rows = [f"{n},{5 if n < 10 else 50},ok" for n in range(100)]
        rows[4] = '4,5,"2 inch'
        found = read(file, "time_s,power_w,note\n" + "\n".join(rows))
        assert found.energy_j == pytest.approx(9 * 5.0 + 27.5 + 89 * 50.0)
        assert [line for line, _ in found.left_out] == [6]
        assert "quotes do not match" in found.left_out[0][1]

    def test_spaces_about_quotes(self, file: Path) -> None:
        text = '"time_s" ,"power_w", "note"\n"0" ,"5.0" ,"a, b" \n"1" ,"7.0", ""\n'
        assert read(file, text).energy_j == 6.0
        assert Replay(file, VirtualClock()).look(0.5).power_w == 6.0

    def test_a_cell_that_is_too_long_is_a_line_that_cannot_be_used(self, file: Path) -> None:
        rows = [f"{n},5" for n in range(10)]
        rows[4] = "4," + "5" * 200_000
        found = read(file, "time_s,power_w\n" + "\n".join(rows))
        assert [line for line, _ in found.left_out] == [6]
        with pytest.raises(RecordingError, match="names of columns cannot be read"):
            read(file, "time_s,power_w," + "x" * 200_000 + "\n0,5,\n1,5,\n")

    def test_unix_times_whose_unit_changes_are_left_out(self, file: Path) -> None:
        rows = [f"{1743127566 + n},5" for n in range(6)] + ["1743127572000,5", "1743127573000,5"]
        found = read(file, "timestamp,power_w\n" + "\n".join(rows))
        assert found.duration_s == 5.0 and found.energy_j == 25.0
        assert [line for line, _ in found.left_out] == [8, 9]
        assert "no UNIX time in s" in found.left_out[0][1]

    def test_several_columns_are_asked_for(self, file: Path) -> None:
        text = "time_s,cpu_power_w,gpu_power_w\n0,1,2\n1,1,2\n"
        with pytest.raises(RecordingError, match=r"'cpu_power_w', 'gpu_power_w'\. Name one"):
            read(file, text)
        assert read(file, text, column="gpu_power_w").values == [2.0, 2.0]
        with pytest.raises(RecordingError, match="none of its columns"):
            read(file, "time_s,a\n0,1\n1,1\n")
        with pytest.raises(RecordingError, match="--time-column"):
            read(file, "when,power_w\n0,1\n1,1\n")
        found = read(file, "when,power_w\n0,1\n1,1\n", time_column="when")
        assert found.times_s == [0.0, 1.0]
        with pytest.raises(RecordingError, match="not names of columns"):
            read(file, "0,4\n1,5\n")

    def test_wrong_lines_are_named_and_counted(self, file: Path) -> None:
        rows = [f"{n},5.0" for n in range(20)]
        rows[4], rows[6], rows[8], rows[9], rows[11] = "4,oops", "6", "8,-5", "9,nan", "2,5.0"
        rows[13] = rows[12]
        found = read(file, "time_s,power_w\n" + "\n".join(rows) + "\n\n")
        reasons = dict(found.left_out)
        assert sorted(reasons) == [6, 8, 10, 11, 13, 14]
        assert "'oops' is no number" in reasons[6]
        assert "1 columns, not 2" in reasons[8]
        assert "negative" in reasons[10]
        assert "before the last" in reasons[13]
        assert reasons[14] == "line 15 has the same time"
        said = found.warnings()
        assert sum("line " in line for line in said) == 5, "the first five are named"
        assert said[-2].endswith("1 more lines cannot be used")
        assert said[-1].endswith("6 lines were left out, 14 are used")

    def test_a_file_of_mostly_wrong_lines_is_refused(self, file: Path) -> None:
        with pytest.raises(
            RecordingError, match=r"2 lines can be used and 3 cannot.*line 2"
        ) as why:
            read(file, "time_s,power_w\na,1\nb,1\nc,1\n0,1\n1,1\n")
        assert "--format" in str(why.value)
        for text in ("", "\n\n", "time_s,power_w\n", "time_s,power_w\n0,5\n"):
            with pytest.raises(RecordingError):
                read(file, text)
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(RecordingError, match="no text in UTF-8"):
            importing.read(file)
        with pytest.raises(RecordingError, match="cannot be read"):
            importing.read(file.with_name("absent.csv"))


HISTORY = "entity_id,state,last_changed\n"
"""Home Assistant's history writes a row when the state changes."""


def history(*steps: tuple[str, int]) -> str:
    """Rows of (state, seconds that it holds), from 10:00 on."""
    text, at_s = HISTORY, int(unix_s(2026, 3, 1, 10))
    for state, seconds in steps:
        stamp = datetime.fromtimestamp(at_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        text += f"sensor.plug_power,{state},{stamp}\n"
        at_s += seconds
    return text


HELD = {"column": "state", "unit": "W", "time_column": "last_changed"}


class TestPowersThatHold:
    def test_rows_of_changes_are_asked_about(self, file: Path) -> None:
        """Ten minutes of 3 W and one of 10 W, twelve times: 12 (1800 + 600) J."""
        text = history(*[("3.0", 600), ("10.0", 60)] * 12, ("3.0", 0))
        with pytest.raises(RecordingError, match=r"unequal times.*--holds.*--no-holds"):
            read(file, text, **HELD)
        found = read(file, text, holds=True, **HELD)
        assert found.energy_j == 12 * (3.0 * 600 + 10.0 * 60) == 28_800.0
        assert "each power holds until the next row, as you said" in found.notes
        assert not found.holes
        assert read(file, text, holds=False, **HELD).energy_j == 24 * 330 * 6.5

    def test_what_is_written_of_them_gives_these_joules(self, file: Path, tmp_path: Path) -> None:
        steps = [("3.0", 50), ("10.0", 7), ("4.5", 90), ("unavailable", 20), ("5.0", 30), ("6", 0)]
        found = read(file, history(*steps), holds=True, **HELD)
        assert found.energy_j == 3.0 * 50 + 10.0 * 7 + 5.0 * 30, (
            "nobody knows how long 4.5 W held: the row after it shows no power"
        )
        assert found.holes_s == 110.0
        importing.write(found, tmp_path / "out.csv")
        replay = Replay(tmp_path / "out.csv", VirtualClock())
        shown = [replay.look(second + 0.5).power_w for second in range(197)]
        assert sum(power_w for power_w in shown if power_w is not None) == found.energy_j
        assert shown.count(None) == 110

    @pytest.mark.parametrize("seconds", [[10, 11, 9], [1, 1, 1, 1, 1, 9]])
    def test_a_logger_of_its_own_rate_is_not_asked_about(
        self, file: Path, seconds: list[int]
    ) -> None:
        text = history(*((str(4.0 + 0.1 * n), s) for n, s in enumerate(seconds * 5)))
        assert not read(file, text, **HELD).holds

    def test_constant_powers_at_unequal_times_are_not_asked_about(self, file: Path) -> None:
        text = history(*[("4.0", 1), ("4.0", 10)] * 6)
        assert read(file, text, **HELD).energy_j == 4.0 * (6 * 1 + 5 * 10)

    def test_a_power_holds_as_long_as_it_is_said_to(self, file: Path) -> None:
        text = history(*[("4.0", 2), ("5.0", 2)] * 4, ("3.0", 900), ("4.0", 0))
        found = read(file, text, holds=True, **HELD)
        assert found.energy_j == 8 * 4.0 + 8 * 5.0 + 900 * 3.0 and not found.holes

    def test_a_counter_does_not_hold(self, file: Path) -> None:
        with pytest.raises(RecordingError, match="--holds is for powers"):
            read(file, "time_s,energy_j\n0,0\n1,5\n", holds=True)

    def test_a_power_at_the_time_of_the_next_one_holds_for_no_time(self, file: Path) -> None:
        found = read(file, "time_s,power_w\n0,3\n10,20\n10,5\n12,3\n", holds=True)
        assert found.energy_j == 3.0 * 10 + 5.0 * 2 and not found.holes
        assert found.left_out == [(3, "line 4 has the same time")]

    @pytest.mark.parametrize("beat_s", [3600, 60, 30])
    def test_rests_between_work_are_asked_about(self, file: Path, beat_s: int) -> None:
        """2.5 W for four minutes, 6 W with noise for two; a rest is shown each ``beat_s`` only."""
        dice = np.random.default_rng(11)
        text, truth_j, last, shown_s = "time_s,power_w\n", 0.0, -1.0, 0
        for second in range(3600):
            now = round(dice.normal(6.0, 0.3), 1) if second // 120 % 3 == 2 else 2.5
            if now != last or second - shown_s >= beat_s:
                text, last, shown_s = f"{text}{second},{now}\n", now, second
            truth_j += last * (second < 3599)
        text += f"3599,{last}\n"
        with pytest.raises(RecordingError, match=r"gaps without rows.*--holds.*--no-holds"):
            read(file, text)
        assert read(file, text, holds=True).energy_j == pytest.approx(truth_j)
        assert not read(file, text, holds=False).holes

    def test_what_is_written_can_be_read_again(self, file: Path, tmp_path: Path) -> None:
        steps = [("3.0", 1), ("10.0", 1), ("4.5", 20), ("7.0", 1), ("unavailable", 90)] * 9
        found = read(file, history(*steps, ("5.0", 0)), holds=True, **HELD)
        assert found.energy_j == 9 * (3.0 + 10.0 + 4.5 * 20) and found.holes_s == 9 * 91.0
        importing.write(found, tmp_path / "out.csv")
        for holds in (False, True):
            again = importing.read(tmp_path / "out.csv", settings=ImportSettings(holds=holds))
            assert again.energy_j == pytest.approx(found.energy_j, rel=1e-3)
            assert again.holes_s == pytest.approx(found.holes_s, abs=0.02)


class TestHoles:
    TEXT = "time_s,power_w\n0,5\n1,5\n2,50\n3602,50\n3603,5\n3604,5\n"

    def test_a_hole_has_no_joules_and_is_said(self, file: Path) -> None:
        found = read(file, self.TEXT)
        assert found.energy_j == 5.0 + 27.5 + 27.5 + 5.0
        said = "\n".join(found.lines())
        assert "holes     1, 3600 s in all, the first after 2 s" in said
        assert "power     16.25 W on average" in said, "65 J in the 4 s that are known"

    def test_a_replay_shows_nothing_in_it(self, file: Path, tmp_path: Path) -> None:
        importing.write(read(file, self.TEXT), tmp_path / "out.csv")
        replay = Replay(tmp_path / "out.csv", VirtualClock())
        shown = [replay.look(at_s).power_w for at_s in (2.0, 2.01, 1802.0, 3601.99, 3602.0)]
        assert shown == [50.0, None, None, None, 50.0]

    def test_a_few_are_not_asked_about_and_a_line_may_go_through(self, file: Path) -> None:
        rows = "".join(f"{n + 60 * (n >= 50) + 60 * (n >= 70)},5.{n % 10}\n" for n in range(100))
        found = read(file, f"time_s,power_w\n{rows}")
        assert len(found.holes) == 2 and found.holes_s == 122.0
        assert not read(file, f"time_s,power_w\n{rows}", holds=False).holes

    @pytest.mark.parametrize("holds", [None, False])
    def test_holes_that_are_written_are_holes_again(
        self, file: Path, tmp_path: Path, holds: bool | None
    ) -> None:
        """Five sessions; a row without a value stands between them."""
        rows = ((n, n + 1000 * (n // 50)) for n in range(250))
        text = "".join(
            (f"{at_s - 500},\n" if n and n % 50 == 0 else "") + f"{at_s},5\n" for n, at_s in rows
        )
        found = read(file, f"time_s,power_w\n{text}", holds=holds)
        importing.write(found, tmp_path / "out.csv")
        again = importing.read(tmp_path / "out.csv", settings=ImportSettings(holds=holds))
        for each in (found, again):
            assert each.energy_j == 5.0 * 49 * 5 and each.holes_s == 4 * 1001.0

    def test_a_row_that_is_missing_is_no_hole(self, file: Path) -> None:
        rows = "".join(f"{n},5\n" for n in range(40) if not 10 <= n < 19)
        found = read(file, f"time_s,power_w\n{rows}")
        assert not found.holes and found.energy_j == 39 * 5.0

    def test_a_counter_counts_on_where_no_rows_are(self, file: Path) -> None:
        found = read(file, "time_s,energy_j\n0,0\n1,5\n2,10\n3602,18010\n3603,18015\n")
        assert found.energy_j == 18_015.0 and not found.holes

    def test_a_reset_is_one_in_what_is_written(self, file: Path, tmp_path: Path) -> None:
        rows = "".join(f"{n},{5 * n if n < 30 else 5 * (n - 30)}\n" for n in range(50))
        found = read(file, f"time_s,energy_j\n{rows}")
        assert found.energy_j == 5.0 * 48 and found.holes_s == 1.0
        importing.write(found, tmp_path / "out.csv")
        replay = Replay(tmp_path / "out.csv", VirtualClock())
        assert [replay.look(at_s).counter_j for at_s in (29.0, 29.5, 31.0)] == [145.0, None, 150.0]


JTOP_3 = """time,uptime,CPU1,CPU2,GPU,RAM,fan,Temp CPU,power cur,power avg
2020-09-03 10:28:30.003209,22:47:52.710000,5,3,0,1745160,0.0,46.0,4859,4899
2020-09-03 10:28:31.003209,22:47:53.710000,5,3,0,1745160,0.0,46.0,5859,4899
"""
JTOP_4 = """time,uptime,CPU1,RAM,Temp cpu,Power VDD_CPU_GPU_CV,Power VDD_SOC,Power TOT,nvp model
2024-05-01 10:00:00.1,1:00:00,5,0.35,45.0,900,1300,4200,15W
2024-05-01 10:00:01.1,1:00:01,5,0.35,45.0,900,1300,4300,15W
"""


@pytest.mark.parametrize(("text", "values"), [(JTOP_3, [4.859, 5.859]), (JTOP_4, [4.2, 4.3])])
def test_jtop(file: Path, text: str, values: list[float]) -> None:
    found = read(file, text)
    assert found.format == "jtop"
    assert found.values == pytest.approx(values)
    assert np.diff(found.times_s) == pytest.approx([1.0])
    with pytest.raises(RecordingError, match="no board's power"):
        read(file, text.replace(",4859,", ",4.8,").replace(",5859,", ",5.8,")
             .replace(",4200,", ",4.2,").replace(",4300,", ",4.3,"))  # fmt: skip


CARBON_HEAD = (
    "timestamp,project_name,run_id,duration,emissions,cpu_power,gpu_power,ram_power,cpu_energy,"
    "gpu_energy,ram_energy,energy_consumed,tracking_mode,on_cloud,pue\n"
)
CARBON = "2025-05-01T10:0{n}:00,fl,run-{n},100.0,1e-5,42.5,0,3,0.001,0,0.0002,0.0012,machine,N,1\n"


class TestCodeCarbon:
    def test_a_run_is_a_counter_of_two_rows(self, file: Path) -> None:
        found = read(file, CARBON_HEAD + CARBON.format(n=2))
        assert found.format == "codecarbon"
        assert found.counts and found.energy_j == pytest.approx(0.0012 * 3.6e6)
        end_s = unix_s(2025, 5, 1, 10, 2, 0)
        assert found.times_s == [end_s - 100.0, end_s]
        notes = " ".join(found.notes)
        assert "No phase can be metered" in notes
        assert "no measurement" in notes and "tracking_mode machine" in notes
        assert "cpu 3600 J" in notes

    def test_of_several_runs_one_is_chosen(self, file: Path) -> None:
        text = CARBON_HEAD + CARBON.format(n=2) + CARBON.format(n=5)
        with pytest.raises(RecordingError, match=r"2 runs.*--run:\n  run-2 .*\n  run-5 "):
            read(file, text)
        assert read(file, text, run="run-5").times_s[1] == unix_s(2025, 5, 1, 10, 5, 0)
        with pytest.raises(RecordingError, match="no run 'x'; its runs are run-2, run-5"):
            read(file, text, run="x")

    def test_a_line_that_is_none_is_left_out(self, file: Path) -> None:
        broken = CARBON.format(n=2).replace("fl,", '"fl,')
        long = CARBON.format(n=3).replace("fl,", "f" * 200_000 + ",")
        found = read(file, CARBON_HEAD + broken + CARBON.format(n=4) + long)
        assert [line for line, _ in found.left_out] == [2, 4]
        assert found.energy_j == pytest.approx(0.0012 * 3.6e6)

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [(",100.0,", ",soon,", "line 2"), (",100.0,", ",0,", "duration is 0"),
         ("energy_consumed", "energy", "csv|power or energy")],
    )  # fmt: skip
    def test_what_cannot_be(self, file: Path, old: str, new: str, said: str) -> None:
        with pytest.raises(RecordingError, match=said):
            read(file, (CARBON_HEAD + CARBON.format(n=2)).replace(old, new))


@given(st.lists(st.tuples(st.floats(0.7, 2.0), st.floats(0.5, 300.0)), min_size=2, max_size=30))
def test_what_is_written_is_what_replay_reads(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float]]
) -> None:
    folder = tmp_path_factory.mktemp("import")
    times_s = np.cumsum([gap_s for gap_s, _ in rows]) + 1.7e9
    values = [power_w for _, power_w in rows]
    with (folder / "in.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(("timestamp", "power_w"))
        writer.writerows(zip(times_s.tolist(), values, strict=True))
    recording = importing.read(folder / "in.csv")
    importing.write(recording, folder / "out.csv")
    clock = VirtualClock()
    meter = Replay(folder / "out.csv", clock)
    for at_s, power_w in zip(times_s - times_s[0], values, strict=True):
        gap_s = float(np.diff(times_s).min())
        looked = meter.look(min(at_s, times_s[-1] - times_s[0] - 1e-6)).power_w
        assert looked == pytest.approx(power_w, abs=2e-6 * 300.0 / gap_s + 1e-9)
    trapezoid_j = float(np.sum(np.diff(times_s) * (np.array(values[1:]) + values[:-1]) / 2.0))
    assert recording.energy_j == pytest.approx(trapezoid_j, rel=1e-6)


class TestCommand:
    def test_it_says_what_is_there_and_writes_it(self, file: Path, tmp_path: Path) -> None:
        file.write_text(JETSON.replace("5924.10\n", "5924.10\nbroken\n"))
        out = tmp_path / 'my "out".csv'
        done = CliRunner().invoke(
            main, ["meter", "import", str(file), "--timezone", "UTC", "--out", str(out)]
        )
        assert done.exit_code == 0, done.output
        profile = done.output.partition("in a profile:\n")[2]
        assert msgspec.toml.decode(profile) == {"meter": "replay", "replay": str(out)}
        assert "line 5: it has 1 columns, not 2" in done.output
        assert "1 lines were left out, 3 are used" in done.output
        assert "begins    2025-03-28 01:56:05 UTC" in done.output
        assert out.read_text().splitlines()[0] == "time_s,power_w"
        again = CliRunner().invoke(main, ["meter", "import", str(file), "--out", str(out)])
        assert again.exit_code == 2 and "--force" in again.output

    def test_a_file_that_cannot_be_imported_ends_with_2(self, file: Path) -> None:
        file.write_text(PI)
        done = CliRunner().invoke(main, ["meter", "import", str(file)])
        assert done.exit_code == 2
        assert "--unit W" in " ".join(done.output.split())
        done = CliRunner().invoke(main, ["meter", "import", str(file), "--timezone", "Mars/Base"])
        assert done.exit_code == 2
        done = CliRunner().invoke(main, ["meter", "import", str(file), "--interval", "nan"])
        assert done.exit_code == 2 and "nan is not a number" in done.output

    def test_what_is_read_is_never_replaced(self, file: Path, tmp_path: Path) -> None:
        file.write_text(JETSON)
        (tmp_path / "link.csv").symlink_to(file)
        for out in (file, tmp_path / "link.csv"):
            done = CliRunner().invoke(
                main, ["meter", "import", str(file), "--out", str(out), "--force"]
            )
            assert done.exit_code == 2 and "the file that is read" in done.output
        assert file.read_text() == JETSON

    def test_powers_that_hold(self, file: Path) -> None:
        file.write_text("time_s,power_w\n0,3\n10,20\n12,3\n")
        for option, joules in (("--holds", "70 J"), ("--no-holds", "138 J")):
            done = CliRunner().invoke(main, ["meter", "import", str(file), option])
            assert done.exit_code == 0 and f"energy    {joules}" in done.output


CELLS = st.sampled_from(["1", "2.5", "-1", "nan", "", "x", "1743127566", "3,4", "1e3", "0.5 W"])


@given(st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=12))
def test_every_line_is_used_or_left_out(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "in.csv"
    lines = [",".join(cells) for cells in rows]
    path.write_text("time_s,power_w\n" + "".join(f"{line}\n" for line in lines))
    written = sum(bool(line.strip(",")) for line in lines)
    try:
        found = importing.read(path, "csv", ImportSettings(unit="W", zone="UTC"))
    except RecordingError as error:
        assert str(path) in str(error)
        return
    assert len(found.times_s) + len(found.left_out) == written
    assert len(found.times_s) >= len(found.left_out)
    assert all(a < b for a, b in zip(found.times_s, found.times_s[1:], strict=False))


NAMES = st.sampled_from(["time", "t", "Date", "Time (ms)", "power_w", "energy", "kWh", "W/m2", ""])
WRITTEN = st.sampled_from(
    ["1", "2.5", "-1", "nan", "", "x", "1743127566", "1743127566500", "3,4", "1e309", "2025-03-28",
     "12:00:00", "0:00:00:99", "28.03.2025 1:02", "3/4/2025 12:00 PM", "99/99/2025 25:61:61",
     "2025-03-28 01:56:06Z", "12:00:00 +99:99", "2025-02-30 10:00"]
)  # fmt: skip


@given(
    st.lists(NAMES, min_size=1, max_size=4),
    st.lists(st.lists(WRITTEN, min_size=1, max_size=4), max_size=8),
    st.sampled_from([",", ";"]),
)
def test_whatever_a_table_holds_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], rows: list[list[str]], mark: str
) -> None:
    path = tmp_path_factory.mktemp("table") / "in.csv"
    path.write_text("".join(mark.join(cells) + "\n" for cells in [names, *rows]), encoding="utf-8")
    try:
        found = importing.read(path, "csv", ImportSettings(zone="UTC"))
    except RecordingError as error:
        assert str(path) in str(error)
        return
    assert all(a < b for a, b in zip(found.times_s, found.times_s[1:], strict=False))
    assert found.lines()
