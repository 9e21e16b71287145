"""RAPL: the energy counters of x86 processors, through the kernel's powercap files.

What the code relies on: a zone ``intel-rapl:N`` whose name begins with ``package`` is a whole
processor. Its sub-zones are part of it, and ``psys`` contains it, so neither may be added. AMD uses
the same names. Each zone's counter returns to zero after ``max_energy_range_uj``: with 61 µJ per
step and 32 bits, after 262 kJ. Since Linux 5.10 only root may read it.
"""

from __future__ import annotations

import re
from pathlib import Path

from fimi.energy.meters import Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.counter import Counter, add
from fimi.energy.meters.response import MeterResponse
from fimi.energy.sysfs import read_count, read_text, why_unreadable

PACKAGE_POWER_LIMIT_W = 1000.0
"""No processor draws more, W; a counter that shows more was reset, not wrapped."""

SIDE_CHANNEL = (
    "readable RAPL counters are a side channel: every program of that group can learn from them "
    "what others compute (CVE-2020-8694, Platypus)"
)

_JOULES_PER_STEP = 1e-6
"""The files count microjoules; :class:`fimi.energy.meters.counter.Counter` multiplies by this."""
_REFRESH_HZ = 1000.0
_SUB_ZONE = re.compile(r"^intel-rapl:\d+$")


class Rapl(Meter):
    """The sum of the counters of some package zones, by their folders.

    Raises:
        MeterUnavailableError: if a zone cannot be read.
    """

    def __init__(self, zones: list[Path]) -> None:
        ranges_uj = [_range_uj(zone) for zone in zones]
        self._files = [zone / "energy_uj" for zone in zones]
        for file, range_uj in zip(self._files, ranges_uj, strict=True):
            value_uj = read_count(file)
            if value_uj is None:
                raise _unavailable(file)
            if value_uj > range_uj:
                raise MeterUnavailableError(
                    f"{file} shows {value_uj} µJ, beyond its own max_energy_range_uj of "
                    f"{range_uj}: this counter is not to be believed"
                )
        self._counters = [
            Counter(
                _JOULES_PER_STEP,
                range_steps=range_uj,
                power_limit_w=PACKAGE_POWER_LIMIT_W,
                refresh_s=1.0 / _REFRESH_HZ,
            )
            for range_uj in ranges_uj
        ]
        self._turn_s = min(ranges_uj) * _JOULES_PER_STEP / PACKAGE_POWER_LIMIT_W
        names = ",".join(sorted(read_text(zone / "name") or zone.name for zone in zones))
        self._description = MeterDescription(
            source=f"rapl:{names}",
            kind="measured",
            scope="cpu",
            rate_hz=_REFRESH_HZ,
            # Our estimate: vendors state no accuracy.
            relative_uncertainty=0.03,
            counts=True,
            response=MeterResponse(refresh_s=1.0 / _REFRESH_HZ, origin="chip"),
        )

    @property
    def longest_period_s(self) -> float:
        """Half of the time in which a counter wraps at :data:`PACKAGE_POWER_LIMIT_W`, s."""
        return self._turn_s / 2.0

    def look(self, time_s: float) -> Look:
        """The sum of the counters; empty if one of them cannot be read."""
        pairs = zip(self._counters, self._files, strict=True)
        return add([counter.advance(read_count(file), time_s) for counter, file in pairs])


def package_zones(root: Path) -> list[Path]:
    """The folders of the package counters under ``<root>/sys/class/powercap``."""
    return [
        zone
        for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        if _SUB_ZONE.match(zone.name) and (read_text(zone / "name") or "").startswith("package")
    ]


def open_rapl(root: Path) -> Rapl:
    """The package counters under ``<root>/sys/class/powercap``.

    Raises:
        MeterUnavailableError: there are none or they cannot be read; says what to do.
    """
    zones = package_zones(root)
    if not zones:
        raise MeterUnavailableError(
            f"no RAPL package counter under {root / 'sys/class/powercap'}: not an x86 processor "
            "that has one, a container or virtual machine that hides it, or the intel_rapl modules "
            "are not loaded "
            "(sudo modprobe intel_rapl_msr). Run outside the container, or declare "
            "constant_power_w in this board's profile"
        )
    return Rapl(zones)


def tmpfiles_rule(paths: list[Path]) -> str:
    """Lines for ``/etc/tmpfiles.d/fimi-rapl.conf`` that let the group ``fimi`` read files."""
    return "\n".join(f"z {path} 0440 root fimi -" for path in paths)


def _range_uj(zone: Path) -> int:
    path = zone / "max_energy_range_uj"
    range_uj = read_count(path)
    if not range_uj:
        raise _unavailable(path)
    return range_uj


def _unavailable(path: Path) -> MeterUnavailableError:
    files = [path.with_name(name).resolve() for name in ("energy_uj", "max_energy_range_uj")]
    names = " ".join(map(str, files))
    return MeterUnavailableError(
        f"{path} {why_unreadable(path)}. Let one group read it: sudo groupadd -f fimi && sudo "
        f"chgrp fimi {names} && sudo chmod g+r {names} (it lasts until the next boot; "
        f"`fimi agent doctor` prints a rule that stays), knowing that {SIDE_CHANNEL}; or declare "
        "constant_power_w in this board's profile"
    )
