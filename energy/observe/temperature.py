"""How warm the processor is, as the kernel's thermal zones tell.

Zones are named by what they sit on (``cpu-thermal`` on a Raspberry Pi, ``CPU-therm`` on a Jetson,
``x86_pkg_temp`` on x86); those of batteries, disks and power chips say nothing about the
processor, and a Jetson's ``PMIC-Die`` shows 50 °C whatever happens.
"""

from __future__ import annotations

import re
from pathlib import Path

from energy.sysfs import read_signed, read_text

_PROCESSOR = re.compile(r"cpu|x86_pkg|soc", re.IGNORECASE)
_COLDEST_C, _HOTTEST_C = -40.0, 150.0


def processor_temperature_c(root: Path) -> float | None:
    """The hottest zone of the processor, °C; ``None`` where there is none that can be read.

    Args:
        root: of the file system.
    """
    found = []
    for zone in (root / "sys/class/thermal").glob("thermal_zone*"):
        if not _PROCESSOR.search(read_text(zone / "type") or ""):
            continue
        millidegrees = read_signed(zone / "temp")
        if millidegrees is not None and _COLDEST_C <= millidegrees * 1e-3 <= _HOTTEST_C:
            found.append(millidegrees * 1e-3)
    return max(found, default=None)
