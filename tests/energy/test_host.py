from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import msgspec
import pytest
from boards_of_files import ORIN_GPU_HZ, Answers, cooling, gpu, policy

import fimi.energy.host_profile
from fimi.energy.clock import VirtualClock
from fimi.energy.cost_model import ComputePoint, ComputeSetting, OperatingPoint
from fimi.energy.hardware import Hardware, Observation
from fimi.energy.host import HostHardware, UnknownPointError
from fimi.energy.host_profile import HostProfile, load_profile
from fimi.energy.ledger import Ledger
from fimi.energy.meters import MeterUnavailableError

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
POINT = OperatingPoint(frequency_hz=1.0e9, bandwidth_hz=1e6, transmit_power_w=0.1, time_split=0.5)


def write(path: Path, text: str = EXAMPLE) -> Path:
    path.write_text("\n".join(line.strip() for line in text.splitlines()), encoding="utf-8")
    return path


@pytest.fixture
def profile(tmp_path: Path) -> HostProfile:
    return load_profile(write(tmp_path / "profile.toml"))


def with_rapl(sysfs: Path) -> Path:
    zone = sysfs / "sys" / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "energy_uj").write_text("0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    return zone / "energy_uj"


def with_cpufreq(sysfs: Path) -> Path:
    policy = sysfs / "sys" / "devices" / "system" / "cpu" / "cpufreq" / "policy0"
    policy.mkdir(parents=True)
    (policy / "scaling_max_freq").write_text("1800000\n")
    return policy / "scaling_max_freq"


class Connection:
    """The agent's connection, as far as its sending rate goes."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.asked: list[float | None] = []

    def set_pacing(self, rate_bps: float | None) -> str:
        self.asked.append(rate_bps)
        return "socket-pacing" if self.works else ""

    def pacing_bps(self) -> float | None:
        return self.asked[-1] if self.works and self.asked else None


class TestMeter:
    def test_rapl_comes_first(self, tmp_path: Path, profile: HostProfile) -> None:
        counter, clock = with_rapl(tmp_path), VirtualClock()
        with HostHardware(
            profile, root=tmp_path, state=tmp_path / "state", clock=clock
        ) as hardware:
            ledger = Ledger(hardware.clock, hardware.recorder)
            with ledger.phase("compute"):
                clock.advance(2.0)
                counter.write_text("7000000\n")
            (record,) = ledger.take()
        assert record.energy is not None
        assert record.energy.value_j == pytest.approx(7.0)
        assert (record.energy.kind, record.energy.scope) == ("measured", "cpu")

    def test_a_meter_that_dies_is_told_once_and_in_the_next_report(
        self, tmp_path: Path, profile: HostProfile, caplog: pytest.LogCaptureFixture
    ) -> None:
        counter, clock = with_rapl(tmp_path), VirtualClock()
        with HostHardware(
            profile, root=tmp_path, state=tmp_path / "state", clock=clock
        ) as hardware:
            assert hardware.observed().doubts == ()
            counter.unlink()
            ledger = Ledger(hardware.clock, hardware.recorder)
            for _ in range(4):
                with ledger.phase("compute"):
                    clock.advance(1.0)
            (doubt,) = hardware.observed().doubts
            counter.write_text("9000000\n")
            with ledger.phase("compute"):
                clock.advance(1.0)
            (after,) = hardware.observed().doubts
            assert hardware.observed().doubts == ()
        assert "energy_uj does not exist" in doubt
        assert "it showed nothing for" in after
        said = [r.message for r in caplog.records if "the meter" in r.message]
        assert [words.split(":")[0] for words in said] == ["the meter rapl"] * 2
        assert "shows nothing any more" in said[0]
        assert "reads again" in said[1]

    def test_a_list_in_the_profile_is_a_sum(self, tmp_path: Path) -> None:
        path = write(tmp_path / "profile.toml")
        text = path.read_text()
        listed = 'meter = ["rapl:package-0", "rapl:dram-0"]'
        path.write_text(re.sub(r"^ *meter = .*$", listed, text, count=1, flags=re.MULTILINE))
        counter = with_rapl(tmp_path)
        memory = counter.parent.with_name("intel-rapl:0:0")
        memory.mkdir()
        for name, text in (("name", "dram"), ("energy_uj", "5"), ("max_energy_range_uj", "99")):
            (memory / name).write_text(f"{text}\n")
        with HostHardware(load_profile(path), root=tmp_path, state=tmp_path / "state") as hardware:
            described = hardware.describe().meter
        assert described.source == "rapl:package-0+rapl:dram-0"
        assert described.scope == "module"

    def test_a_declared_power_is_modelled(self, tmp_path: Path, profile: HostProfile) -> None:
        meter = HostHardware(profile, root=tmp_path, state=tmp_path / "state").describe().meter
        assert (meter.kind, meter.source) == ("modelled", "declared:5W")

    def test_the_profile_may_insist(self, tmp_path: Path, profile: HostProfile) -> None:
        insist = msgspec.structs.replace
        with pytest.raises(MeterUnavailableError, match="no RAPL"):
            HostHardware(insist(profile, meter="rapl"), root=tmp_path, state=tmp_path / "state")
        with_rapl(tmp_path)
        declared = HostHardware(
            insist(profile, meter="declared"), root=tmp_path, state=tmp_path / "state"
        )
        assert declared.describe().meter.kind == "modelled"

    @pytest.mark.parametrize("meter", ["auto", "declared"])
    def test_nothing_to_read_and_nothing_declared(
        self, tmp_path: Path, profile: HostProfile, meter: str
    ) -> None:
        bare = msgspec.structs.replace(profile, constant_power_w=None, meter=meter)
        with pytest.raises(MeterUnavailableError, match="constant_power_w"):
            HostHardware(bare, root=tmp_path, state=tmp_path / "state")


class TestControl:
    def test_apply_and_restore(self, tmp_path: Path, profile: HostProfile) -> None:
        ceiling, uplink = with_cpufreq(tmp_path), Connection()
        with HostHardware(
            profile, root=tmp_path, state=tmp_path / "state", uplink=uplink
        ) as hardware:
            applied = hardware.apply(POINT)
            assert ceiling.read_text() == "1000000\n"
        assert ceiling.read_text() == "1800000\n"
        assert (applied.frequency_hz, applied.frequency_control) == (1e9, "cpufreq")
        assert (applied.rate_bps, applied.rate_control) == (uplink.asked[0], "socket-pacing")
        assert applied.notes == ()
        # signal-to-noise ratio 0.1 · 1e-10 / (4e-21 · 1e6) = 2500: log2(2501) bit/s/Hz
        assert uplink.asked[0] == pytest.approx(11.28828938e6)
        assert uplink.asked[1:] == [None], "the limit is lifted at the end"

    def test_the_plans_rate_counts_not_ones_own_link_budget(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        uplink = Connection()
        with HostHardware(
            profile, root=tmp_path, state=tmp_path / "state", uplink=uplink
        ) as hardware:
            hardware.apply(msgspec.structs.replace(POINT, rate_bps=139e3))
        assert uplink.asked == [139e3, None]

    @pytest.mark.parametrize("uplink", [None, Connection(works=False)])
    def test_what_cannot_be_applied_is_noted(
        self, tmp_path: Path, profile: HostProfile, uplink: Connection | None
    ) -> None:
        only = msgspec.structs.replace(profile, frequency_control="cpufreq")
        with HostHardware(only, root=tmp_path, state=tmp_path / "state", uplink=uplink) as hardware:
            applied = hardware.apply(POINT)
        assert (applied.frequency_hz, applied.frequency_control) == (None, "none")
        assert (applied.rate_bps, applied.rate_control) == (None, "none")
        assert len(applied.notes) == 2

    def test_the_profile_may_leave_everything_alone(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        ceiling, uplink = with_cpufreq(tmp_path), Connection()
        alone = msgspec.structs.replace(profile, frequency_control="none", rate_control="none")
        with HostHardware(
            alone, root=tmp_path, state=tmp_path / "state", uplink=uplink
        ) as hardware:
            applied = hardware.apply(POINT)
            assert ceiling.read_text() == "1800000\n"
        assert (applied.frequency_hz, applied.frequency_control) == (1.8e9, "none")
        assert uplink.asked == []


class TestReach:
    """A plan can only ask for what this machine can set: the device publishes that."""

    def test_without_control_there_is_one_frequency(
        self, tmp_path: Path, profile: HostProfile, caplog: pytest.LogCaptureFixture
    ) -> None:
        with HostHardware(profile, root=tmp_path, state=tmp_path / "state") as hardware:
            compute = hardware.model().compute
            point = msgspec.structs.replace(POINT, frequency_hz=compute.frequency_max_hz)
            applied = hardware.apply(point)
        assert compute.frequency_min_hz == compute.frequency_max_hz == 1.8e9
        assert compute.cycles_per_sample == profile.board.compute.cycles_per_sample
        assert (applied.frequency_control, applied.frequency_hz) == ("none", None)
        assert not any("frequency" in note for note in applied.notes), "it gets what it asks for"
        assert "fixed at 1.8 GHz: no cpufreq policy" in caplog.text

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
    def test_a_cap_that_may_only_be_read_is_what_it_runs_at(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        ceiling = with_cpufreq(tmp_path)
        ceiling.write_text("1500000\n")
        ceiling.chmod(0o444)
        with HostHardware(profile, root=tmp_path, state=tmp_path / "state") as hardware:
            compute = hardware.model().compute
        assert compute.frequency_min_hz == compute.frequency_max_hz == 1.5e9

    def test_who_leaves_the_clock_alone_publishes_what_it_is(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        with_cpufreq(tmp_path).write_text("1500000\n")
        alone = msgspec.structs.replace(profile, frequency_control="none")
        with HostHardware(alone, root=tmp_path, state=tmp_path / "state") as hardware:
            compute = hardware.model().compute
        assert (compute.frequency_min_hz, compute.frequency_max_hz) == (1.5e9, 1.5e9)

    def test_no_further_than_the_kernel_goes(self, tmp_path: Path, profile: HostProfile) -> None:
        policy = with_cpufreq(tmp_path).parent
        (policy / "scaling_available_frequencies").write_text("1000000 1500000 2000000\n")
        with HostHardware(profile, root=tmp_path, state=tmp_path / "state") as hardware:
            compute = hardware.model().compute
        assert compute.frequency_steps_hz == (1e9, 1.5e9)
        assert (compute.frequency_min_hz, compute.frequency_max_hz) == (1e9, 1.5e9)


class TestMeasuredPoints:
    """A profile with measured points: the plan names one, and all of it is set."""

    @pytest.fixture
    def measured(self, profile: HostProfile) -> HostProfile:
        settings = {
            "low": ComputeSetting(cpu_hz={"policy0": 0.6e9}, gpu_hz=306e6),
            "high": ComputeSetting(cpu_hz={"policy0": 1.8e9}),
            "one core": ComputeSetting(cores=1),
        }
        times = {"low": 10e-3, "high": 2e-3, "one core": 5e-3}
        points = tuple(
            ComputePoint(name=name, seconds_per_sample=times[name], power_w=1.0, setting=setting)
            for name, setting in settings.items()
        )
        insist, board = msgspec.structs.replace, profile.board
        return insist(profile, board=insist(board, compute=insist(board.compute, points=points)))

    @pytest.fixture
    def clocks(self, tmp_path: Path) -> tuple[Path, Path]:
        folder = policy(tmp_path, 0, 600_000, 1_800_000)
        return folder / "scaling_max_freq", gpu(tmp_path, "17000000.gpu", ORIN_GPU_HZ) / "max_freq"

    def test_the_named_point_is_set_and_given_back(
        self, tmp_path: Path, measured: HostProfile, clocks: tuple[Path, Path]
    ) -> None:
        before = [file.read_text() for file in clocks]
        with HostHardware(measured, root=tmp_path, state=tmp_path / "state") as hardware:
            assert hardware.left_out == {}
            assert len(hardware.model().compute.points) == 3
            applied = hardware.apply(msgspec.structs.replace(POINT, setting="low"))
            assert [int(file.read_text()) for file in clocks] == [600_000, 306_000_000]
            assert (applied.point, applied.frequency_control) == ("low", "cpufreq, devfreq")
            # C = 4e6 cycles in 10 ms a sample
            assert applied.frequency_hz == pytest.approx(4e8)
            assert applied.setting == ComputeSetting(cpu_hz={"policy0": 0.6e9}, gpu_hz=306e6)
            seen = hardware.observed()
            assert seen.cap_hz == pytest.approx(4e8)
            applied = hardware.apply(msgspec.structs.replace(POINT, setting="one core"))
            assert [file.read_text() for file in clocks] == before
            assert len(os.sched_getaffinity(0)) == 1
            assert (applied.point, applied.frequency_control) == ("one core", "affinity")
        assert len(os.sched_getaffinity(0)) > 1 or os.cpu_count() == 1
        assert [file.read_text() for file in clocks] == before

    def test_a_frequency_without_a_name_means_the_cheapest_point_that_is_fast_enough(
        self, tmp_path: Path, measured: HostProfile, clocks: tuple[Path, Path]
    ) -> None:
        with HostHardware(measured, root=tmp_path, state=tmp_path / "state") as hardware:
            applied = hardware.apply(msgspec.structs.replace(POINT, frequency_hz=1.5e9))
        assert (applied.point, applied.frequency_hz) == ("high", pytest.approx(2e9))

    def test_an_unknown_name(
        self, tmp_path: Path, measured: HostProfile, clocks: tuple[Path, Path]
    ) -> None:
        with HostHardware(measured, root=tmp_path, state=tmp_path / "state") as hardware:
            with pytest.raises(UnknownPointError, match=r"'turbo'.*'low', 'high', 'one core'"):
                hardware.apply(msgspec.structs.replace(POINT, setting="turbo"))
            assert clocks[0].read_text() == "1800000\n"

    def test_a_name_for_a_board_without_points(self, tmp_path: Path, profile: HostProfile) -> None:
        with (
            HostHardware(profile, root=tmp_path, state=tmp_path / "state") as hardware,
            pytest.raises(UnknownPointError, match="has none"),
        ):
            hardware.apply(msgspec.structs.replace(POINT, setting="low"))

    def test_points_that_cannot_be_set_are_not_published(
        self, tmp_path: Path, measured: HostProfile, caplog: pytest.LogCaptureFixture
    ) -> None:
        policy(tmp_path, 0, 600_000, 1_800_000)
        with HostHardware(measured, root=tmp_path, state=tmp_path / "state") as hardware:
            assert [p.name for p in hardware.model().compute.points] == ["high", "one core"]
            assert "no GPU under" in hardware.left_out["low"]
            assert "'low' is left out of plans" in caplog.text
            applied = hardware.apply(msgspec.structs.replace(POINT, setting="low"))
        assert applied.point == ""
        assert "no GPU under" in applied.notes[0]
        assert applied.setting is not None
        assert applied.setting.cpu_hz == {"policy0": 0.6e9}, "the rest of it is set"

    def test_a_point_that_heat_holds_below_its_clock_is_watched_all_the_same(
        self,
        tmp_path: Path,
        measured: HostProfile,
        clocks: tuple[Path, Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        cap_file = clocks[0]
        with HostHardware(
            measured, root=tmp_path, state=tmp_path / "state", watch_period_s=0
        ) as hardware:
            answers = Answers(monkeypatch)
            cooling(tmp_path, 0, "cpufreq-cpu0", 1, 1)

            def hold(path: Path) -> None:
                if path == cap_file:
                    with path.open("w") as file:
                        file.write("1200000\n")

            answers.after_writes = hold
            applied = hardware.apply(msgspec.structs.replace(POINT, setting="high"))
            assert applied.point == "", "it is not in force"
            assert applied.frequency_control == "cpufreq"
            assert applied.frequency_hz == pytest.approx(2e9 * 1.2 / 1.8)
            assert (
                "clamped by heat (cooling device cpufreq-cpu0 at step 1 of 1)" in applied.notes[0]
            )
            assert hardware.observed().cap_hz == pytest.approx(2e9 * 1.2 / 1.8)
            cooling(tmp_path, 0, "cpufreq-cpu0", 0, 1)
            with cap_file.open("w") as file:
                file.write("1800000\n")
            assert hardware.observed().cap_hz == pytest.approx(2e9)
            answers.after_writes = lambda path: None
        assert cap_file.read_text() == "1800000\n"

    def test_a_board_that_is_left_alone_offers_the_point_that_is_in_force(
        self, tmp_path: Path, measured: HostProfile, clocks: tuple[Path, Path]
    ) -> None:
        alone = msgspec.structs.replace(measured, frequency_control="none")
        with HostHardware(alone, root=tmp_path, state=tmp_path / "state") as hardware:
            names = [p.name for p in hardware.model().compute.points]
            applied = hardware.apply(msgspec.structs.replace(POINT, setting="high"))
            low = hardware.apply(msgspec.structs.replace(POINT, setting="low"))
        assert names[0] == "high"
        assert (applied.point, applied.frequency_control) == ("high", "none")
        assert low.point == ""
        assert "is not set" in low.notes[0]
        assert clocks[0].read_text() == "1800000\n"

    def test_without_any_point_the_law_is_left(self, tmp_path: Path, measured: HostProfile) -> None:
        insist, compute = msgspec.structs.replace, measured.board.compute
        only = insist(compute, points=compute.points[:1])
        board = insist(measured, board=insist(measured.board, compute=only))
        with HostHardware(board, root=tmp_path, state=tmp_path / "state") as hardware:
            published = hardware.model().compute
        assert published.points == ()
        assert published.frequency_min_hz == published.frequency_max_hz == 1.8e9

    def test_the_achieved_speed_is_the_points_by_the_clock_that_was_reached(
        self, tmp_path: Path, measured: HostProfile, clocks: tuple[Path, Path]
    ) -> None:
        (clocks[0].parent / "scaling_cur_freq").write_text("1500000\n")
        with HostHardware(
            measured, root=tmp_path, state=tmp_path / "state", watch_period_s=0
        ) as hardware:
            if hardware._watch._cycles is not None:
                pytest.skip("this kernel counts cycles: the clock is the real one")
            hardware.apply(msgspec.structs.replace(POINT, setting="high"))
            processor_s = itertools.count(1_000_000, 1_000_000)  # the clock counts while it is busy
            hardware._watch._busy_s = lambda: float(next(processor_s))
            hardware._watch.sample()
            seen = hardware.observed()
            assert seen.frequency_source == "cpufreq"
            assert seen.frequency_hz == pytest.approx(2e9 * 1.5 / 1.8)
            hardware.apply(msgspec.structs.replace(POINT, setting="low"))
            (clocks[1].parent / "cur_freq").write_text("153000000\n")
            hardware._watch.sample()
            seen = hardware.observed()
            assert seen.frequency_source == "devfreq"
            assert seen.frequency_hz == pytest.approx(4e8 * 153 / 306)


class TestObserved:
    def test_throttling_cap_and_the_monitors_cost(
        self, tmp_path: Path, profile: HostProfile
    ) -> None:
        with_rapl(tmp_path)
        with_cpufreq(tmp_path)
        throttle = tmp_path / "sys/devices/system/cpu/cpu0/thermal_throttle"
        throttle.mkdir(parents=True)
        (throttle / "core_throttle_count").write_text("3\n")
        uplink = Connection()
        with HostHardware(
            profile, root=tmp_path, state=tmp_path / "state", uplink=uplink, broker_host="127.0.0.1"
        ) as hardware:
            hardware.apply(POINT)
            hardware.recorder.mark()
            (throttle / "core_throttle_count").write_text("5\n")
            seen = hardware.observed()
            assert seen.throttled == {"x86-core": 2}
            assert (seen.cap_hz, seen.rate_limit_bps) == (1e9, uplink.asked[0])
            assert seen.link is not None
            assert seen.link.interface == "lo"
            assert seen.monitor is not None
            assert seen.monitor.looks >= 2
            assert seen.monitor.cpu_s > 0.0
            assert seen.monitor_energy is not None
            assert seen.monitor_energy.kind == "modelled"
            assert hardware.observed().throttled == {"x86-core": 0}
            assert msgspec.json.decode(msgspec.json.encode(seen), type=Observation) == seen

    def test_nothing_to_see(self, tmp_path: Path, profile: HostProfile) -> None:
        with HostHardware(profile, root=tmp_path, state=tmp_path / "state") as hardware:
            seen = hardware.observed()
        assert (seen.throttled, seen.link, seen.monitor, seen.cap_hz) == (None, None, None, None)


def test_work_on_a_physical_board_takes_its_own_time(tmp_path: Path, profile: HostProfile) -> None:
    clock = VirtualClock()
    hardware: Hardware = HostHardware(profile, root=tmp_path, state=tmp_path / "state", clock=clock)
    hardware.begin_round(1)
    hardware.has_received(1)
    hardware.has_computed(1)
    hardware.has_sent(1)
    assert hardware.has_waited_until(100.0) == clock.now_s() == 0.0
    assert hardware.describe().kind == "physical"
    assert hardware.model().link == profile.board.link
