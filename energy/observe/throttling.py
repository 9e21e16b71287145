"""How often the processor was throttled, and by what.

==================  ===========================================================================
name                counts
==================  ===========================================================================
pi-undervoltage     beginnings, as far as sampling sees them; at least 1 if the firmware's
pi-capped           sticky bit has appeared
pi-throttled
pi-soft-limit
x86-core            ``thermal_throttle/core_throttle_count`` over all cores
x86-package         ``thermal_throttle/package_throttle_count``, the largest
orin-oc1 …          events of the over-current alarms
cpu-quota           periods in which a duty cycle stopped the agent (``cpu.stat``)
==================  ===========================================================================

A counter that cannot be read is left out; it is not zero.
"""

from __future__ import annotations

from pathlib import Path

from fimi.energy.meters.vcgencmd import Ask
from fimi.energy.sysfs import own_cgroup, read_count, read_text

PI_BITS = ("pi-undervoltage", "pi-capped", "pi-throttled", "pi-soft-limit")
_STICKY_SHIFT = 16


class Throttling:
    """The counters of this machine; ``ask`` asks a Raspberry Pi's firmware."""

    def __init__(self, root: Path, ask: Ask | None = None) -> None:
        self._root = root
        self._ask = ask
        self._pi: dict[str, int] = {}
        self._bits: int | None = None
        self._last = self.counts()

    def poll(self) -> None:
        """Read the bits that are set only for a time."""
        bits = self._pi_bits()
        if bits is None:
            return
        before, self._bits = self._bits, bits
        for place, name in enumerate(PI_BITS):
            live, sticky = 1 << place, 1 << (place + _STICKY_SHIFT)
            begun = bits & live and not (before or 0) & live
            missed = before is not None and bits & sticky and not (before & sticky or bits & live)
            self._pi[name] = self._pi.get(name, 0) + bool(begun or missed)

    def counts(self) -> dict[str, int]:
        """Every counter since the beginning."""
        self.poll()
        return {**self._pi, **self._x86(), **self._orin(), **self._quota()}

    def take(self) -> dict[str, int] | None:
        """Counts since the last take; ``None`` if this machine has no counter."""
        now, last = self.counts(), self._last
        self._last = now
        fresh = {name: value - last[name] for name, value in now.items() if name in last}
        return {name: max(0, value) for name, value in fresh.items()} or None

    def _pi_bits(self) -> int | None:
        text = read_text(self._root / "sys/devices/platform/soc/soc:firmware/get_throttled")
        if text is None and self._ask is not None:
            text = (self._ask("get_throttled") or "").strip().removeprefix("throttled=")
        try:
            return int(text, 16) if text else None
        except ValueError:
            return None

    def _x86(self) -> dict[str, int]:
        folders = list((self._root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle"))
        found = {}
        for part, whole in (("core", sum), ("package", max)):
            counts = [read_count(folder / f"{part}_throttle_count") for folder in folders]
            if known := [count for count in counts if count is not None]:
                found[f"x86-{part}"] = whole(known)
        return found

    def _orin(self) -> dict[str, int]:
        found = {}
        for folder in (self._root / "sys/class/hwmon").glob("hwmon*"):
            if read_text(folder / "name") != "soctherm_oc":
                continue
            for file in sorted(folder.glob("oc[0-9]_event_cnt")):
                if (count := read_count(file)) is not None:
                    found[f"orin-{file.name[:3]}"] = count
        return found

    def _quota(self) -> dict[str, int]:
        folder = own_cgroup(self._root)
        for entry in (read_text(folder / "cpu.stat") or "").splitlines() if folder else ():
            name, _, value = entry.partition(" ")
            if name == "nr_throttled" and value.isdecimal():
                return {"cpu-quota": int(value)}
        return {}
