"""RAPL: the energy counters of x86 processors, through the kernel's powercap files.

* :func:`open_rapl`      the recorder of this machine's package counters, or why there is none
* :class:`RaplRecorder`  reads them, unwraps them, adds up the packages

Facts the code rests on: ``intel-rapl:N`` whose name begins with ``package`` is a whole processor;
its sub-zones lie inside it and ``psys`` contains it, so neither may be added; AMD uses the same
names. A counter goes from ``max_energy_range_uj`` back to zero, each zone on its own, at 61 µJ per
step of a 32-bit counter after 262 kJ. Since Linux 5.10 only root may read it.
"""

from __future__ import annotations

import threading
from pathlib import Path

from energy.clock import Clock
from energy.meters import MeterDescription, MeterUnavailableError, Reading
from energy.sysfs import read_count, read_text, why_unreadable

PACKAGE_POWER_LIMIT_W = 1000.0
"""No processor draws more; a counter that says so was reset, not wrapped."""

_REFRESH_HZ = 1000.0
_FIX = (
    "Let one group read it, for example `sudo chgrp fimi {0} && sudo chmod g+r {0}` (a tmpfiles.d "
    "rule makes that last), knowing that readable RAPL counters are a side channel "
    "(CVE-2020-8694); or declare constant_power_w in this board's profile"
)


class _Zone:
    """One package counter, unwrapped."""

    def __init__(self, folder: Path) -> None:
        self.name = read_text(folder / "name") or folder.name
        self.counter = folder / "energy_uj"
        self.range_path = folder / "max_energy_range_uj"
        self._last: tuple[float, int] | None = None
        self._total_uj = 0

    @property
    def range_uj(self) -> int | None:
        return read_count(self.range_path)

    def read(self, time_s: float, range_uj: int) -> tuple[float, bool] | None:
        """Joules since the first reading and whether they continue the last one."""
        raw = read_count(self.counter)
        if raw is None or raw > range_uj:
            return None
        last, self._last = self._last, (time_s, raw)
        if last is None:
            return 0.0, True
        step_uj = raw - last[1]
        if step_uj < 0:
            step_uj += range_uj + 1
        # One refresh more than the time between the readings: the counter moves in steps.
        most_uj = PACKAGE_POWER_LIMIT_W * 1e6 * (time_s - last[0] + 1.0 / _REFRESH_HZ)
        if step_uj > most_uj:
            return self._total_uj * 1e-6, False
        self._total_uj += step_uj
        return self._total_uj * 1e-6, True


class RaplRecorder:
    """The sum of all package counters.

    A phase during which a counter was reset, or could not be read at an edge, has no readings:
    its energy is missing, not zero. A thread reads the counters now and then so that a long phase
    cannot hide a whole turn of one; :meth:`close` ends it.

    Args:
        zones: folders of the package zones.
        clock: the clock of the readings.

    Raises:
        MeterUnavailableError: if a zone cannot be read.
    """

    def __init__(self, zones: list[Path], clock: Clock) -> None:
        self._clock = clock
        self._zones = [(zone, _range_uj(zone)) for zone in map(_Zone, zones)]
        for zone, _ in self._zones:
            if read_count(zone.counter) is None:
                raise _unavailable(zone.counter)
        self._lock = threading.Lock()
        self._readings: list[Reading] = []
        self._broken = False
        self._closed = threading.Event()
        self._read()
        turn_s = min(range_uj for _, range_uj in self._zones) * 1e-6 / PACKAGE_POWER_LIMIT_W
        self._watcher = threading.Thread(
            target=self._watch, args=(turn_s / 2.0,), name="rapl", daemon=True
        )
        if turn_s < threading.TIMEOUT_MAX:
            self._watcher.start()

    def describe(self) -> MeterDescription:
        """All packages of this machine."""
        names = ",".join(sorted(zone.name for zone, _ in self._zones))
        return MeterDescription(
            source=f"rapl:{names}",
            kind="measured",
            scope="cpu",
            rate_hz=_REFRESH_HZ,
            # Our estimate: vendors promise no accuracy.
            relative_uncertainty=0.03,
        )

    def mark(self) -> list[Reading]:
        """Readings since the last mark; empty if a counter failed or was reset in between."""
        with self._lock:
            reading = self._read()
            readings = [] if self._broken or reading is None else self._readings
            self._broken = reading is None
            self._readings = [] if reading is None else [reading]
            return readings

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._watcher.ident is not None:
            self._watcher.join(timeout=1.0)

    def _read(self) -> Reading | None:
        time_s = self._clock.now_s()
        values = [zone.read(time_s, range_uj) for zone, range_uj in self._zones]
        total_j = 0.0
        for value in values:
            if value is None:
                return None
            total_j += value[0]
            self._broken = self._broken or not value[1]
        reading = Reading(time_s=time_s, counter_j=total_j)
        self._readings.append(reading)
        return reading

    def _watch(self, period_s: float) -> None:
        while not self._closed.wait(period_s):
            with self._lock:
                self._read()


def open_rapl(sysfs: Path, clock: Clock) -> RaplRecorder:
    """The package counters under ``<sysfs>/class/powercap``.

    Raises:
        MeterUnavailableError: if there are none or they cannot be read; says what to do.
    """
    folder = sysfs / "class" / "powercap"
    zones = [
        zone
        for zone in sorted(folder.glob("intel-rapl:*"))
        if zone.name.count(":") == 1 and (read_text(zone / "name") or "").startswith("package")
    ]
    if not zones:
        raise MeterUnavailableError(
            f"no RAPL package counter under {folder}: not an x86 processor that has one, a "
            "container or virtual machine that hides it, or the intel_rapl modules are not loaded. "
            "Run outside the container, or declare constant_power_w in this board's profile"
        )
    return RaplRecorder(zones, clock)


def _range_uj(zone: _Zone) -> int:
    range_uj = zone.range_uj
    if not range_uj:
        raise _unavailable(zone.range_path)
    return range_uj


def _unavailable(path: Path) -> MeterUnavailableError:
    return MeterUnavailableError(f"{path} {why_unreadable(path)}. {_FIX.format(path)}")
