"""How warm the processor is, as the kernel's thermal zones tell.

Zones are named by what they sit on (``cpu-thermal`` on a Raspberry Pi, ``CPU-therm`` on a Jetson,
``x86_pkg_temp`` on x86); those of batteries, disks and power chips say nothing about the
processor, and a Jetson's ``PMIC-Die`` shows 50 °C whatever happens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from energy.sysfs import read_signed, read_text

_PROCESSOR = re.compile(r"cpu|x86_pkg|soc", re.IGNORECASE)
_COLDEST_C, _HOTTEST_C = -40.0, 150.0


def processor_zones(root: Path) -> tuple[Path, ...]:
    """The files that tell the processor's temperature.

    Args:
        root: of the file system.
    """
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return tuple(z / "temp" for z in zones if _PROCESSOR.search(read_text(z / "type") or ""))


def hottest_c(zones: Sequence[Path]) -> float | None:
    """The highest temperature of some zones, °C; ``None`` if none can be read."""
    found = []
    for zone in zones:
        millidegrees = read_signed(zone)
        if millidegrees is not None and _COLDEST_C <= millidegrees * 1e-3 <= _HOTTEST_C:
            found.append(millidegrees * 1e-3)
    return max(found, default=None)
