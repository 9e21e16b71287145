from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import energy.host
from energy.clock import VirtualClock
from energy.cost_model import OperatingPoint
from energy.hardware import Hardware
from energy.host import HostHardware, HostProfile, ProfileError, load_profile
from energy.ledger import Ledger
from energy.meters import MeterUnavailableError

EXAMPLE = (energy.host.__doc__ or "").split("::", 1)[1]
POINT = OperatingPoint(frequency_hz=1.0e9, bandwidth_hz=1e6, transmit_power_w=0.1, time_split=0.5)


def write(path: Path, text: str = EXAMPLE) -> Path:
    path.write_text("\n".join(line.strip() for line in text.splitlines()), encoding="utf-8")
    return path


@pytest.fixture
def profile(tmp_path: Path) -> HostProfile:
    return load_profile(write(tmp_path / "profile.toml"))


def with_rapl(sysfs: Path) -> Path:
    zone = sysfs / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text("0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    return zone / "energy_uj"


def with_cpufreq(sysfs: Path) -> Path:
    policy = sysfs / "devices" / "system" / "cpu" / "cpufreq" / "policy0"
    policy.mkdir(parents=True)
    (policy / "scaling_max_freq").write_text("1800000\n")
    return policy / "scaling_max_freq"


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
            ("cycles_per_sample = 1.1e7", "cycles_per_sample = inf", r"cycles_per_sample is inf"),
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

    def test_unknown_ending(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match=r"\.toml or \.json"):
            load_profile(write(tmp_path / "profile.yaml"))

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match="cannot be read"):
            load_profile(tmp_path)


class TestMeter:
    def test_rapl_comes_first(self, tmp_path: Path, profile: HostProfile) -> None:
        counter, clock = with_rapl(tmp_path), VirtualClock()
        with HostHardware(profile, sysfs=tmp_path, clock=clock) as hardware:
            ledger = Ledger(hardware.clock, hardware.recorder)
            with ledger.phase("compute"):
                clock.advance(2.0)
                counter.write_text("7000000\n")
            (record,) = ledger.take()
        assert record.energy is not None
        assert record.energy.value_j == pytest.approx(7.0)
        assert (record.energy.kind, record.energy.scope) == ("measured", "cpu")

    def test_a_declared_power_is_modelled(self, tmp_path: Path, profile: HostProfile) -> None:
        meter = HostHardware(profile, sysfs=tmp_path).describe().meter
        assert (meter.kind, meter.source) == ("modelled", "declared:5W")

    def test_the_profile_may_insist(self, tmp_path: Path, profile: HostProfile) -> None:
        insist = msgspec.structs.replace
        with pytest.raises(MeterUnavailableError, match="no RAPL"):
            HostHardware(insist(profile, meter="rapl"), sysfs=tmp_path)
        with_rapl(tmp_path)
        declared = HostHardware(insist(profile, meter="declared"), sysfs=tmp_path)
        assert declared.describe().meter.kind == "modelled"

    @pytest.mark.parametrize("meter", ["auto", "declared"])
    def test_nothing_to_read_and_nothing_declared(
        self, tmp_path: Path, profile: HostProfile, meter: str
    ) -> None:
        bare = msgspec.structs.replace(profile, constant_power_w=None, meter=meter)
        with pytest.raises(MeterUnavailableError, match="constant_power_w"):
            HostHardware(bare, sysfs=tmp_path)


class TestControl:
    def test_apply_and_restore(self, tmp_path: Path, profile: HostProfile) -> None:
        ceiling, rates = with_cpufreq(tmp_path), []

        def set_rate(rate_bps: float) -> bool:
            rates.append(rate_bps)
            return True

        with HostHardware(profile, sysfs=tmp_path, set_rate=set_rate) as hardware:
            applied = hardware.apply(POINT)
            assert ceiling.read_text() == "1000000\n"
        assert ceiling.read_text() == "1800000\n"
        assert (applied.frequency_hz, applied.frequency_control) == (1e9, "cpufreq")
        assert (applied.rate_bps, applied.rate_control) == (rates[0], "socket-pacing")
        assert applied.notes == ()
        # signal-to-noise ratio 0.1 · 1e-10 / (4e-21 · 1e6) = 2500: log2(2501) bit/s/Hz
        assert rates == pytest.approx([11.28828938e6])

    @pytest.mark.parametrize("set_rate", [None, lambda rate_bps: False])
    def test_what_cannot_be_applied_is_noted(
        self, tmp_path: Path, profile: HostProfile, set_rate: object
    ) -> None:
        applied = HostHardware(
            profile,
            sysfs=tmp_path,
            set_rate=set_rate,  # type: ignore[arg-type]
        ).apply(POINT)
        assert (applied.frequency_hz, applied.frequency_control) == (None, "none")
        assert (applied.rate_bps, applied.rate_control) == (None, "none")
        assert len(applied.notes) == 2


def test_work_on_a_physical_board_takes_its_own_time(tmp_path: Path, profile: HostProfile) -> None:
    clock = VirtualClock()
    hardware: Hardware = HostHardware(profile, sysfs=tmp_path, clock=clock)
    hardware.begin_round(1)
    hardware.has_received(1)
    hardware.has_computed(1)
    hardware.has_sent(1)
    assert hardware.has_waited_until(100.0) == clock.now_s() == 0.0
    assert hardware.describe().kind == "physical"
    assert hardware.model() == profile.board
