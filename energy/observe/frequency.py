"""The achieved frequency of the processor, and its temperature.

The achieved frequency may differ from the one that was set: firmware, heat and undervoltage slow a
processor down, and the kernel's files do not show it (on a Raspberry Pi ``scaling_cur_freq`` shows
the last request). The most reliable source is used: cycles counted for this process; else the
firmware's measurement on a Raspberry Pi; else the kernel's figure. The last two are sampled, and
only samples in which this process was busy count.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from fimi.energy.clusters import clusters, is_off
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.meters.vcgencmd import Ask
from fimi.energy.observe.cycles import Cycles
from fimi.energy.observe.throttling import Throttling
from fimi.energy.sysfs import complete, read_count, read_signed, read_text

_PROCESSOR = re.compile(r"cpu|x86_pkg|soc", re.IGNORECASE)
_COLDEST_C, _HOTTEST_C = -40.0, 150.0
PERIOD_S = 0.5
_BUSY_SHARE = 0.3
_CLOCK = re.compile(r"^frequency\(\d+\)=(\d+)$")


class AchievedClock(Struct, frozen=True, kw_only=True):
    """The achieved frequency and where it was read.

    Attributes:
        frequency_hz: while this process was busy; ``None`` if unknown.
        source: ``cycles``, ``firmware`` or ``cpufreq``.
        temperature_c: mean of all samples, °C; ``None`` if unknown.
        gpu_hz: mean clock of the GPU while this process was busy, Hz; ``None`` if unknown.
    """

    frequency_hz: float | None
    source: str
    temperature_c: float | None = None
    gpu_hz: float | None = None


class FrequencyWatch:
    """Samples clock and throttling by a thread until it is closed.

    Args:
        ask: asks a Raspberry Pi's firmware.
        throttling: polled as well, because some of its bits are set only for a time.
        period_s: time between two samples, s; 0 for those by :meth:`sample` only.
        busy_s: gives the CPU time of this process so far, s.
        gpu_hz: gives the present clock of the GPU, Hz; ``None`` while it is off.
    """

    def __init__(
        self,
        root: Path,
        ask: Ask | None,
        throttling: Throttling,
        *,
        period_s: float = PERIOD_S,
        busy_s: Callable[[], float] = time.process_time,
        gpu_hz: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._root = root
        self._ask = ask
        self._throttling = throttling
        self._busy_s = busy_s
        self._lock = threading.Lock()
        self._samples_hz: list[float] = []
        self._gpu_hz = gpu_hz
        self._samples_gpu_hz: list[float] = []
        self._zones = processor_zones(root)
        self._samples_c: list[float] = []
        self.last_c: float | None = None
        """The last temperature, °C; ``None`` if it could not be read."""
        self.last_hz: float | None = None
        """The last clock while this process worked, Hz; ``None`` if it could not be read."""
        self._last = (time.monotonic(), busy_s())
        self._closed = threading.Event()
        self._cycles: Cycles | None = None
        with contextlib.suppress(MeterUnavailableError):
            self._cycles = Cycles()
        self._thread: threading.Thread | None = None
        if period_s > 0.0:
            self._thread = threading.Thread(
                target=self._run, args=(period_s,), name="watch", daemon=True
            )
            self._thread.start()

    def sample(self) -> None:
        """Read the frequency, the temperature and the throttling bits."""
        with self._lock:
            self._throttling.poll()
            self.last_c = hottest_c(self._zones)
            if self.last_c is not None:
                self._samples_c.append(self.last_c)
            now_s, busy_s = time.monotonic(), self._busy_s()
            last_s, last_busy_s = self._last
            self._last = (now_s, busy_s)
            if busy_s - last_busy_s < _BUSY_SHARE * (now_s - last_s):
                return
            if (gpu_hz := self._gpu_hz()) is not None:
                self._samples_gpu_hz.append(gpu_hz)
            self.last_hz = self._now_hz()
            if self._cycles is None and self.last_hz is not None:
                self._samples_hz.append(self.last_hz)

    def take(self) -> AchievedClock:
        """The achieved frequency since the last take."""
        with self._lock:
            mean_hz, mean_c = _mean(self._samples_hz), _mean(self._samples_c)
            gpu_hz = _mean(self._samples_gpu_hz)
            self._samples_hz, self._samples_c, self._samples_gpu_hz = [], [], []
            source = "firmware" if self._ask is not None else "cpufreq"
            if self._cycles is not None:
                mean_hz, source = self._cycles.take_hz(), "cycles"
            elif not mean_hz:
                source = ""
            return AchievedClock(
                frequency_hz=mean_hz, source=source, temperature_c=mean_c, gpu_hz=gpu_hz
            )

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._cycles is not None:
            self._cycles.close()
            self._cycles = None

    def _now_hz(self) -> float | None:
        if self._ask is not None:
            answer = _CLOCK.match((self._ask("measure_clock arm") or "").strip())
            return float(answer[1]) if answer else None
        policies = [each for each in clusters(self._root) if not is_off(each)]
        now_khz = complete(read_count(policy / "scaling_cur_freq") or None for policy in policies)
        return max(now_khz) * 1e3 if now_khz else None

    def _run(self, period_s: float) -> None:
        while not self._closed.wait(period_s):
            self.sample()


def _mean(samples: Sequence[float]) -> float | None:
    return sum(samples) / len(samples) if samples else None


def processor_zones(root: Path) -> tuple[Path, ...]:
    """The files with the processor's temperature."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return tuple(z / "temp" for z in zones if _PROCESSOR.search(read_text(z / "type") or ""))


def hottest_c(zones: Sequence[Path]) -> float | None:
    """The highest temperature of some zones, °C; ``None`` if none can be read."""
    found_c = [read * 1e-3 for zone in zones if (read := read_signed(zone)) is not None]
    return max((each for each in found_c if _COLDEST_C <= each <= _HOTTEST_C), default=None)
