"""``fimi agent doctor --step-load`` and ``compare-meters`` on the load of this very machine.

Two chips made of files show what the processors of this machine do. Other programs may keep it too
busy for a step load: then the commands must say so, and store nothing.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fimi.energy.clock import MonotonicClock
from fimi.energy.meters.detect import MeterSettings, usable
from fimi.testbed.cli import main

HONEST = ("other programs disturb", "did not keep to its times", "less than the meter can tell")
PROFILE = """\
# my board
name = "desk"
meter = "hwmon:ina226"
second_meter = "hwmon:ina231"

[board]
idle_power_w = 2.7

[board.compute]
cycles_per_sample = 4.0e6
capacitance_w_per_hz3 = 4.3e-28
active_power_w = 0.9
frequency_min_hz = 600e6
frequency_max_hz = 1800e6

[board.link]
channel_gain = 1e-10
noise_density_w_per_hz = 4e-21
transmit_power_max_w = 0.1
downlink_rate_bps = 20e6
"""


def _ticks() -> int:
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(map(int, words)) - int(words[3]) - int(words[4])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Path]:
    """Two chips that show what the processors do; the second reads 6 % more."""
    if not Path("/proc/stat").exists():
        pytest.skip("the load of this machine cannot be read")
    folders = []
    for number, name in enumerate(("ina226", "ina231")):
        folder = tmp_path / f"root/sys/class/hwmon/hwmon{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "update_interval").write_text("100\n")
        (folder / "power1_input").write_text("3000000\n")
        folders.append(folder)
    over = threading.Event()

    def show() -> None:
        before, at_s = _ticks(), time.monotonic()
        while not over.wait(0.1):
            ticks, now_s = _ticks(), time.monotonic()
            share = (ticks - before) / 100.0 / (now_s - at_s) / (os.cpu_count() or 1)
            before, at_s = ticks, now_s
            for folder, gain in zip(folders, (1.0, 1.06), strict=True):
                part = folder / "part"
                part.write_text(f"{int(gain * (3.0 + 4.0 * share) * 1e6)}\n")
                part.replace(folder / "power1_input")

    thread = threading.Thread(target=show)
    thread.start()
    yield tmp_path / "root"
    over.set()
    thread.join()


def test_what_is_learned_is_stored_and_used(world: Path, tmp_path: Path) -> None:
    path = tmp_path / "desk.toml"
    path.write_text(PROFILE)
    command = ["agent", "doctor", "--host-profile", str(path), "--root", str(world)]
    done = CliRunner().invoke(main, [*command, "--step-load", "--format", "json"])
    if done.exit_code:
        assert done.exit_code == 3
        assert any(words in done.output for words in HONEST), done.output
        assert path.read_text() == PROFILE
        return
    results = json.loads(done.stdout)
    assert path.read_text().startswith(PROFILE.rstrip())
    kept = msgspec.toml.decode(path.read_text())["meter_response"]
    learned = {each["source"]: each["learned"] for each in results if "learned" in each}
    assert set(kept) == set(learned)
    for source, each in learned.items():
        assert kept[source]["delay_s"] == each["response"]["delay_s"]
        assert each["step_w"] > 0.0
        assert kept[source]["chip_refresh_s"] == 0.1
    checks = json.loads(CliRunner().invoke(main, [*command, "--format", "json"]).stdout)["checks"]
    said = {check["name"]: check["found"] for check in checks}
    assert said["meter"].endswith("beside it hwmon:ina231")
    if "hwmon:ina226" in learned:
        assert "(learned)" in said["meter response"]


def test_meters_are_compared(world: Path) -> None:
    command = ["agent", "compare-meters", "--root", str(world), "--format", "json"]
    named = ["--meter", "hwmon:ina226", "--meter", "hwmon:ina231"]
    done = CliRunner().invoke(main, [*command, *named])
    if done.exit_code:
        assert done.exit_code == 3
        words = (*HONEST, "cannot be compared")
        assert any(each in done.output for each in words), done.output
        return
    (pair,) = json.loads(done.stdout)["pairs"]
    assert (pair["first"], pair["second"]) == ("hwmon:ina226", "hwmon:ina231")
    # Both show the same power, times 1 and times 1.06.
    assert pair["gain"] == pytest.approx(1.06, abs=max(0.03, 3.0 * pair["gain_sd"]))


def test_all_chips_are_compared_where_none_is_named(world: Path) -> None:
    names = usable(MeterSettings(), world, MonotonicClock())
    assert {"hwmon:ina226", "hwmon:ina231"} <= set(names)


def test_there_is_nothing_to_compare(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    done = CliRunner().invoke(main, ["agent", "compare-meters", "--root", str(tmp_path)])
    assert done.exit_code == 3
    assert "there is nothing to compare" in done.output
