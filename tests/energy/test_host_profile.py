from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import fimi.energy.host_profile
from fimi.energy.cost_model import ComputeSetting, speed_hz
from fimi.energy.host_profile import HostProfile, ProfileError, load_meters, load_profile

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]


def write(path: Path, text: str = EXAMPLE) -> Path:
    path.write_text("\n".join(line.strip() for line in text.splitlines()), encoding="utf-8")
    return path


@pytest.fixture
def profile(tmp_path: Path) -> HostProfile:
    return load_profile(write(tmp_path / "profile.toml"))


class TestLoadProfile:
    def test_the_documented_example(self, profile: HostProfile) -> None:
        assert profile.name == "raspberry-pi-4"
        assert profile.constant_power_w == 5.0
        assert profile.board.compute.capacitance_w_per_hz3 == 4.3e-28

    def test_json_is_the_same(self, tmp_path: Path, profile: HostProfile) -> None:
        path = tmp_path / "profile.json"
        path.write_bytes(msgspec.json.encode(profile))
        assert load_profile(path) == profile

    def test_a_missing_file_says_that_nothing_is_guessed(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match=r"profile\.toml.*never guessed"):
            load_profile(tmp_path / "profile.toml")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("idle_power_w = 2.7", "", r"idle_power_w"),
            ("idle_power_w = 2.7", "idle_power_mw = 2700", r"idle_power_mw"),
            ("idle_power_w = 2.7", 'idle_power_w = "2.7"', r"\$\.board\.idle_power_w"),
            ("idle_power_w = 2.7", "idle_power_w = -1", r"\$\.board\.idle_power_w"),
            ("idle_power_w = 2.7", "idle_power_w = 27000", "no board draws"),
            ("idle_power_w = 2.7", "idle_power_w = inf", r"board\.idle_power_w is inf"),
            ("idle_power_w = 2.7", "idle_power_w = nan", r"idle_power_w"),
            ("cycles_per_sample = 4.0e6", "cycles_per_sample = inf", r"cycles_per_sample is inf"),
            ("600e6", "0.6", "no board draws|Hz"),
            ("1800e6", "1.8", "above|not MHz or GHz"),
            ("4.3e-28", "4.3e-19", "no board draws"),
            ("1e-10", "100.0", "not decibels"),
            ("[board.link]", "[board.link", "profile.toml"),
        ],
    )
    def test_errors_name_file_and_key(
        self, tmp_path: Path, old: str, new: str, message: str
    ) -> None:
        assert old in EXAMPLE
        path = write(tmp_path / "profile.toml", EXAMPLE.replace(old, new))
        if (old, new) == ("600e6", "0.6"):
            path = write(path, EXAMPLE.replace(old, new).replace("1800e6", "1.8"))
        with pytest.raises(ProfileError, match=message) as raised:
            load_profile(path)
        assert str(path) in str(raised.value)

    def test_a_table_alone_is_told_what_a_profile_has(self, tmp_path: Path) -> None:
        table = '[topic]\ntopic = "fimi-meter/board-1"\nhost = "desk"\n'
        path = write(tmp_path / "profile.toml", table)
        with pytest.raises(ProfileError) as raised:
            load_profile(path)
        for told in ("`name`", "[board.link]", "docs/calibration.md", "fimi calibrate"):
            assert told in str(raised.value)
        # What it tells is right: behind a whole profile the table loads.
        found = load_profile(write(path, EXAMPLE + table))
        assert found.topic is not None and found.topic.host == "desk"

    def test_a_machine_that_only_meters_needs_no_board(self, tmp_path: Path) -> None:
        path = write(tmp_path / "meters.toml", 'meter_scope = "board"\nmeter_rate_hz = 25\n')
        assert (load_meters(path).scope, load_meters(path).rate_hz) == ("board", 25.0)
        assert load_meters(write(path)) == load_profile(path).meters(), "a whole one does as well"
        with pytest.raises(ProfileError, match="meter_scop"):
            load_meters(write(path, 'meter_scop = "board"'))

    def test_unknown_ending(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match=r"\.toml or \.json"):
            load_profile(write(tmp_path / "profile.yaml"))

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match="cannot be read"):
            load_profile(tmp_path)


class TestPoints:
    def test_measured_points(self, tmp_path: Path, profile: HostProfile) -> None:
        table = """
            [[board.compute.points]]
            name = "cpu 1.5 GHz, gpu 306 MHz"
            seconds_per_sample = 2.7e-3
            power_w = 1.9
            setting = { cpu_hz = { policy0 = 1.5e9 }, gpu_hz = 306e6 }
            """
        path = write(tmp_path / "p.toml", EXAMPLE + table)
        (point,) = load_profile(path).board.compute.points
        assert point.setting == ComputeSetting(cpu_hz={"policy0": 1.5e9}, gpu_hz=306e6)
        broken = write(path, EXAMPLE + table.replace("1.9", "19000000"))
        with pytest.raises(ProfileError, match=r"cpu 1.5 GHz, gpu 306 MHz.*mW"):
            load_profile(broken)
        twice = write(path, EXAMPLE + table + table.replace("1.5 GHz", "2 GHz"))
        with pytest.raises(ProfileError, match="the same setting"):
            load_profile(twice)

    def test_the_table_of_an_older_profile_is_read_as_points(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        old = EXAMPLE.replace(
            "cycles_per_sample = 4.0e6",
            "cycles_per_sample = 4.0e6\ntable_frequencies_hz = [600e6, 1800e6]\n"
            "table_power_w = [1.0, 3.5]",
        )
        compute = load_profile(write(tmp_path / "p.toml", old)).board.compute
        assert [point.power_w for point in compute.points] == [1.0, 3.5]
        assert [speed_hz(compute, point) for point in compute.points] == pytest.approx(
            [600e6, 1800e6]
        )
        assert [point.setting.cpu_hz for point in compute.points] == [
            {"all": 600e6},
            {"all": 1800e6},
        ]
        assert "fimi calibrate --host-profile" in caplog.text
        empty = old.replace("[600e6, 1800e6]", "[]").replace("[1.0, 3.5]", "[]")
        assert load_profile(write(tmp_path / "e.toml", empty)).board.compute.points == ()

    @pytest.mark.parametrize("table", ["[1.0]", "[1.0, -3.5]", '["a", "b"]', "5", "[]"])
    def test_a_broken_table_says_what_to_do(self, tmp_path: Path, table: str) -> None:
        more = f"table_frequencies_hz = [6e8, 18e8]\ntable_power_w = {table}"
        old = EXAMPLE.replace("cycles_per_sample = 4.0e6", f"cycles_per_sample = 4.0e6\n{more}")
        with pytest.raises(ProfileError, match=r"table_power_w.*calibrate the board again"):
            load_profile(write(tmp_path / "p.toml", old))

    def test_a_negative_linear_term_is_refused(self, tmp_path: Path) -> None:
        text = EXAMPLE.replace("active_power_w", "linear_power_w_per_hz = -1e-10\nactive_power_w")
        with pytest.raises(ProfileError, match=r"linear_power_w_per_hz"):
            load_profile(write(tmp_path / "p.toml", text))
