"""Clock, throttling and link against trees of files."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from worlds import write

from fimi.energy.control.programs import ProgramResult
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.observe import cycles
from fimi.energy.observe.cycles import Cycles
from fimi.energy.observe.frequency import FrequencyWatch, hottest_c, processor_zones
from fimi.energy.observe.link import LinkState, link_state, route_interface
from fimi.energy.observe.throttling import Throttling

IW = """Connected to aa:bb:cc:dd:ee:ff (on wlan0)
\tSSID: lab
\tsignal: -57 dBm
\ttx bitrate: 72.2 MBit/s MCS 7 short GI
"""


class TestCycles:
    def test_the_kernels_interface_counts_running_time(self) -> None:
        try:
            file = cycles._open(cycles._SOFTWARE, cycles._TASK_CLOCK)
        except MeterUnavailableError as error:
            pytest.skip(str(error))
        before_ns, began_s = cycles._read(file), time.thread_time()
        while time.thread_time() - began_s < 0.02:
            pass
        assert cycles._read(file) - before_ns == pytest.approx(20e6, rel=0.5)

    def test_a_plausible_clock(self) -> None:
        try:
            counter = Cycles()
        except MeterUnavailableError as error:
            pytest.skip(str(error))
        began_s = time.thread_time()
        while time.thread_time() - began_s < 0.05:
            pass
        clock_hz = counter.take_hz()
        counter.close()
        assert clock_hz is not None
        assert 1e8 < clock_hz < 1e10


class Busy:
    """A process whose CPU time the test decides."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def no_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, event: int) -> int:
        raise MeterUnavailableError("no cycle counter here")

    monkeypatch.setattr(cycles, "_open", refuse)


@pytest.mark.usefixtures("no_cycles")
class TestClock:
    def test_only_busy_samples_count(self, tmp_path: Path) -> None:
        now = write(tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", 600000)
        busy = Busy()
        watch = FrequencyWatch(tmp_path, None, Throttling(tmp_path), period_s=0.0, busy_s=busy)
        watch.sample()  # idle at 600 MHz
        for khz in (1400000, 1000000):
            write(now, khz)
            busy.seconds += 1.0
            watch.sample()
        clock = watch.take()
        assert (clock.frequency_hz, clock.source) == (pytest.approx(1.2e9), "cpufreq")
        assert watch.take().frequency_hz is None, "taken once"
        watch.close()

    def test_the_firmware_is_believed_on_a_pi(self, tmp_path: Path) -> None:
        write(tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", 1800000)
        answers = {"measure_clock arm": "frequency(48)=1000212240"}
        busy = Busy()
        watch = FrequencyWatch(
            tmp_path, answers.get, Throttling(tmp_path), period_s=0.0, busy_s=busy
        )
        busy.seconds = 1.0
        watch.sample()
        clock = watch.take()
        watch.close()
        assert (clock.frequency_hz, clock.source) == (1000212240.0, "firmware")

    @pytest.mark.parametrize("text", ["<unknown>", "", "-1"])
    def test_garbage_is_unknown(self, tmp_path: Path, text: str) -> None:
        write(tmp_path / "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", text)
        busy = Busy()
        watch = FrequencyWatch(tmp_path, None, Throttling(tmp_path), period_s=0.0, busy_s=busy)
        busy.seconds = 1.0
        watch.sample()
        assert watch.take().frequency_hz is None
        watch.close()


class TestTemperature:
    def zone(self, root: Path, number: int, kind: str, text: object) -> Path:
        folder = root / f"sys/class/thermal/thermal_zone{number}"
        write(folder / "type", kind)
        return write(folder / "temp", text)

    def test_the_processors_zones_and_no_others(self, tmp_path: Path) -> None:
        assert hottest_c(processor_zones(tmp_path)) is None
        self.zone(tmp_path, 0, "PMIC-Die", 100000)
        assert hottest_c(processor_zones(tmp_path)) is None
        self.zone(tmp_path, 1, "CPU-therm", 48500)
        self.zone(tmp_path, 2, "cpu-thermal", 51000)
        assert hottest_c(processor_zones(tmp_path)) == 51.0

    @pytest.mark.parametrize("text", ["", "hot", "-274000", "4294967295", "200000"])
    def test_garbage_is_no_temperature(self, tmp_path: Path, text: str) -> None:
        self.zone(tmp_path, 0, "x86_pkg_temp", text)
        assert hottest_c(processor_zones(tmp_path)) is None

    def test_the_mean_since_the_last_take(self, tmp_path: Path) -> None:
        temp = self.zone(tmp_path, 0, "cpu-thermal", 40000)
        watch = FrequencyWatch(tmp_path, None, Throttling(tmp_path), period_s=0.0)
        for text in (50000, 70000, "garbage"):
            write(temp, text)
            watch.sample()
        assert watch.take().temperature_c == 60.0
        assert watch.take().temperature_c is None, "taken once"
        watch.close()


class TestThrottling:
    def test_x86_counts_per_take(self, tmp_path: Path) -> None:
        folders = [tmp_path / f"sys/devices/system/cpu/cpu{i}/thermal_throttle" for i in (0, 1)]
        for folder in folders:
            write(folder / "core_throttle_count", 10)
            write(folder / "package_throttle_count", 4)
        throttling = Throttling(tmp_path)
        write(folders[0] / "core_throttle_count", 13)
        for folder in folders:
            write(folder / "package_throttle_count", 5)
        assert throttling.take() == {"x86-core": 3, "x86-package": 1}
        assert throttling.take() == {"x86-core": 0, "x86-package": 0}
        write(folders[0] / "core_throttle_count", "garbage")
        write(folders[1] / "core_throttle_count", 2)
        assert throttling.take() == {"x86-core": 0, "x86-package": 0}, "a reset is not negative"

    def test_pi_bits_come_and_go_between_takes(self, tmp_path: Path) -> None:
        file = write(tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled", "0")
        throttling = Throttling(tmp_path)
        for bits in ("50005", "50000", "50004", "50000"):
            write(file, bits)
            throttling.poll()
        assert throttling.take() == {
            "pi-undervoltage": 1,
            "pi-capped": 0,
            "pi-throttled": 2,
            "pi-soft-limit": 0,
        }
        write(file, "d0000")  # soft limit came and went unseen; its sticky bit tells
        taken = throttling.take()
        assert taken is not None
        assert taken["pi-soft-limit"] == 1

    def test_jetson_and_a_duty_cycle(self, tmp_path: Path) -> None:
        write(tmp_path / "sys/class/hwmon/hwmon1/name", "soctherm_oc")
        events = write(tmp_path / "sys/class/hwmon/hwmon1/oc1_event_cnt", 0)
        write(tmp_path / "proc/self/cgroup", "0::/fimi.scope")
        stat = write(tmp_path / "sys/fs/cgroup/fimi.scope/cpu.stat", "nr_periods 5\nnr_throttled 2")
        throttling = Throttling(tmp_path)
        write(events, 7)
        write(stat, "nr_periods 9\nnr_throttled 6")
        assert throttling.take() == {"orin-oc1": 7, "cpu-quota": 4}

    def test_no_count_is_not_zero(self, tmp_path: Path) -> None:
        assert Throttling(tmp_path).take() is None
        write(tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled", "xyz")
        assert Throttling(tmp_path).take() is None


class TestLink:
    def run(self, arguments: Sequence[str]) -> ProgramResult:
        return ProgramResult(0, IW, "")

    def test_wire(self, tmp_path: Path) -> None:
        speed = write(tmp_path / "sys/class/net/eth0/speed", 1000)
        assert link_state(tmp_path, "eth0", self.run) == LinkState(interface="eth0", rate_bps=1e9)
        for unknown in ("-1", "garbage", "0"):
            write(speed, unknown)
            assert link_state(tmp_path, "eth0", self.run).rate_bps is None

    def test_radio(self, tmp_path: Path) -> None:
        (tmp_path / "sys/class/net/wlan0/wireless").mkdir(parents=True)
        state = link_state(tmp_path, "wlan0", self.run)
        assert (state.rate_bps, state.signal_dbm) == (pytest.approx(72.2e6), -57.0)
        write(
            tmp_path / "proc/net/wireless",
            "Inter-| sta-|   Quality\n face | tus | link level\n wlan0: 0000   53.  -61.  -256  0",
        )
        without = link_state(tmp_path, "wlan0", lambda _: ProgramResult(127, "", "no iw"))
        assert (without.rate_bps, without.signal_dbm) == (None, -61.0)

    def test_the_interface_towards_the_broker(self, tmp_path: Path) -> None:
        def word(address: str) -> str:
            return f"{struct.unpack('=I', bytes(map(int, address.split('.'))))[0]:08X}"

        rows = [
            ("eth0", "0.0.0.0", "0.0.0.0"),
            ("wlan0", "192.168.4.0", "255.255.255.0"),
        ]
        lines = [f"{n}\t{word(t)}\t0\t3\t0\t0\t0\t{word(m)}\t0\t0\t0" for n, t, m in rows]
        write(tmp_path / "proc/net/route", "\n".join(["Iface\tDestination", *lines]))
        assert route_interface(tmp_path, "192.168.4.7") == "wlan0"
        assert route_interface(tmp_path, "192.168.5.7") == "eth0"
        assert route_interface(tmp_path, "127.0.0.1") == "lo"
        (tmp_path / "proc/net/route").unlink()
        assert route_interface(tmp_path, "192.168.5.7") is None
