from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fimi.record.observed import DeviceObserved, device_observed
from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.report.observed import observed_table, unusual
from fimi.report.page_tables import device_table
from fimi.report.terminal import as_text


@pytest.fixture
def told(tmp_path: Path, build: Any) -> Path:
    """Two rounds of one device that tells what it can, and of one that tells nothing."""
    rounds = [
        build.round_result(n, [build.device_round("silent"), build.talkative("talks", **more)], 0.5)
        for n, more in ((1, {}), (2, {"frequency_hz": 1.1e9, "rate_limit_bps": 9e5}))
    ]
    build.write(tmp_path / "run", names=("silent", "talks"), rounds=rounds)
    return tmp_path / "run"


class TestDeviceObserved:
    def test_over_the_whole_run(self, told: Path) -> None:
        seen = device_observed(read_run(told), "talks")
        assert seen.frequency_hz == pytest.approx(1.2e9)
        assert (seen.cap_hz, seen.frequency_source) == (1.4e9, "cycles")
        assert seen.throttled == {"x86-core": 4, "x86-package": 0}
        assert seen.throttled_times == 4
        assert seen.down_bps == pytest.approx(1.6e6)
        assert seen.up_bps == pytest.approx(0.64e6)
        assert seen.planned_up_bps == pytest.approx(0.8e6)  # the plan gave the upload 1 s
        assert seen.limit_bps == 9e5
        assert seen.link is not None
        assert seen.link.signal_dbm == -61.0
        assert seen.cpu is not None
        assert (seen.cpu.value_j, seen.cpu.scope) == (16.0, "cpu")
        assert seen.cpu_share == pytest.approx(0.4)  # 8 of the 20 J of computing
        assert seen.monitor is not None
        assert seen.monitor.cpu_percent == pytest.approx(0.2)
        assert seen.monitor_energy is not None
        assert seen.monitor_energy.value_j == pytest.approx(0.1)
        assert seen.monitor_energy.kind == "modelled"

    def test_missing_is_missing(self, told: Path) -> None:
        seen = device_observed(read_run(told), "silent")
        assert seen == DeviceObserved(device="silent")
        assert not seen.anything

    def test_a_sum_without_one_of_its_parts_is_no_sum(self, tmp_path: Path, build: Any) -> None:
        rounds = [
            build.round_result(1, [build.talkative("a")], 0.5),
            build.round_result(2, [build.talkative("a", monitor_energy=None)], 0.5),
        ]
        build.write(tmp_path, rounds=rounds)
        seen = device_observed(read_run(tmp_path), "a")
        assert seen.monitor is not None
        assert seen.monitor_energy is None


class TestUnusual:
    def test_throttling_and_a_rate_that_was_not_held(self, told: Path) -> None:
        assert unusual(device_observed(read_run(told), "talks")) == [
            (
                "throttled",
                "talks: 4 times, x86-core 4; ran at 1.20 GHz under a cap of 1.40 GHz (cycles)",
            ),
            ("rate not held", "talks: uploads at 640 kbit/s, planned 800 kbit/s"),
        ]

    def test_nothing_to_say(self) -> None:
        usual = DeviceObserved(
            device="a",
            frequency_hz=0.96e9,
            cap_hz=1e9,
            throttled={"emulated": 0},
            up_bps=0.91e5,
            planned_up_bps=1e5,
        )
        assert unusual(usual) == []
        assert unusual(DeviceObserved(device="a")) == []
        slow = msgspec.structs.replace(usual, frequency_hz=0.9e9)
        assert [term for term, _ in unusual(slow)] == ["clock not held"]
        fast = msgspec.structs.replace(usual, up_bps=1.2e5)
        assert [term for term, _ in unusual(fast)] == ["rate not held"]

    def test_doubts_about_the_meter_are_told_near_its_joules(
        self, tmp_path: Path, build: Any
    ) -> None:
        outages = [
            (f"hwmon:x: it showed nothing for {s} s: cable",) for s in ("3.2", "41", "7e+02")
        ]
        outages.append(("hwmon:x: it shows 0 W",))
        rounds = [
            build.round_result(n, [build.talkative("a", doubts=doubts), build.talkative("b")], 0.5)
            for n, doubts in enumerate(outages, 1)
        ]
        build.write(tmp_path / "run", names=("a", "b"), rounds=rounds)
        seen = device_observed(read_run(tmp_path / "run"), "a")
        assert seen.doubts == (
            ("hwmon:x: it showed nothing for 3.2 s: cable", 3),
            ("hwmon:x: it shows 0 W", 1),
        )
        doubted = [words for term, words in unusual(seen) if term == "meter doubted"]
        assert doubted == [
            "a: hwmon:x: it showed nothing for 3.2 s: cable (3 rounds)",
            "a: hwmon:x: it shows 0 W (1 round)",
        ]
        assert "meter doubted" in as_text(tmp_path / "run", "utf-8")
        summary = summarise(read_run(tmp_path / "run"))
        row_a, row_b = str(device_table(summary)).split("<tbody>")[1].split("</tr>")[:2]
        assert "doubtful" in row_a
        assert "doubtful" not in row_b
        table = str(observed_table([seen]))
        assert "Meter doubted" in table
        assert "it shows 0 W (1 round)" in table

    def test_the_terminal_says_so(self, told: Path, run_dir: Path) -> None:
        said = as_text(told, "utf-8")
        assert "throttled      talks: 4 times, x86-core 4; ran at 1.20 GHz under a cap" in said
        assert "rate not held  talks: uploads at 640 kbit/s" in said
        assert "throttled" not in as_text(run_dir, "utf-8")


class TestTable:
    def test_missing_is_a_dash_and_none_counted_is_zero(self, told: Path) -> None:
        run = read_run(told)
        found = [device_observed(run, name) for name in run.devices]
        page = str(observed_table(found)).replace("\N{NO-BREAK SPACE}", " ")
        silent, talks = page.split("<tbody>")[1].split("</tr>")[:2]
        assert silent.count(">–</td>") == page.count('scope="col"') - 1 == 11
        assert "no device told of clock set by" in page
        assert ">0" not in silent
        for cell in (
            "1.20 GHz",
            "1.40 GHz",
            "x86-core 4",
            "1.60 Mbit/s",
            "640 kbit/s",
            "900 kbit/s",
        ):
            assert f">{cell}</td>" in talks
        for cell in ("wlan0, 65.0 Mbit/s, −61 dBm", "40.0 %", "0.20 %", "100 mJ"):
            assert f">{cell}</td>" in talks
        assert "modelled" in page
        calm = observed_table([DeviceObserved(device="a", throttled={"emulated": 0})])
        assert ">0</td>" in str(calm)

    def test_a_run_of_before_devices_told_has_none(self, run_dir: Path) -> None:
        run = read_run(run_dir)
        assert observed_table([device_observed(run, name) for name in run.devices]) is None

    def test_what_a_device_says_of_itself_cannot_become_markup(self) -> None:
        found = DeviceObserved(device="<b>", throttled={"<script>": 1})
        assert "<script>" not in str(observed_table([found]))
        assert "<b>" not in str(observed_table([found]))
