"""CPU cycles of this process, counted by the processor (``perf_event_open``).

Cycles over the time that the threads were running give the achieved frequency, whatever was set. A
process may count its own cycles while ``kernel.perf_event_paranoid`` is at most 2. Virtual machines
often have no such counter. Threads that are started after the counter are counted too.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from fimi.energy.meters import MeterUnavailableError

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_HARDWARE, _SOFTWARE = 0, 1
_CPU_CYCLES, _TASK_CLOCK = 0, 1
_INHERIT, _EXCLUDE_KERNEL = 1 << 1, 1 << 5
_CLOSE_ON_EXEC = 8
_ATTRIBUTES_BYTES = 64  # PERF_ATTR_SIZE_VER0


class Cycles:
    """Counts cycles and running time from now on.

    Raises:
        MeterUnavailableError: this kernel or machine does not count them; says why.
    """

    def __init__(self) -> None:
        self._clock = _open(_SOFTWARE, _TASK_CLOCK)
        try:
            self._cycles = _open(_HARDWARE, _CPU_CYCLES)
        except MeterUnavailableError:
            os.close(self._clock)
            raise
        self._last = (0, 0)

    def take_hz(self) -> float | None:
        """Cycles per second of running since the last take; ``None`` if nothing ran."""
        cycles, running_ns = _read(self._cycles), _read(self._clock)
        last_cycles, last_ns = self._last
        self._last = (cycles, running_ns)
        if running_ns - last_ns < 1_000_000:
            return None
        return (cycles - last_cycles) / ((running_ns - last_ns) * 1e-9)

    def close(self) -> None:
        """Stop counting."""
        os.close(self._cycles)
        os.close(self._clock)


def _open(kind: int, event: int) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None or not hasattr(os, "sched_getaffinity"):
        raise MeterUnavailableError(f"no cycle counter on {platform.system()} {platform.machine()}")
    flags = _INHERIT | (_EXCLUDE_KERNEL if kind == _HARDWARE else 0)
    # type, size, event, period, sample and read format (none), flags
    attributes = struct.pack("=IIQQQQQ", kind, _ATTRIBUTES_BYTES, event, 0, 0, 0, flags)
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES_BYTES)
    library = ctypes.CDLL(None, use_errno=True)
    file: int = library.syscall(number, buffer, 0, -1, -1, _CLOSE_ON_EXEC)
    if file < 0:
        why = os.strerror(ctypes.get_errno())
        raise MeterUnavailableError(
            f"the kernel does not count cycles for this process ({why}): a virtual machine without "
            "such a counter, or kernel.perf_event_paranoid above 2 (sudo sysctl "
            "kernel.perf_event_paranoid=2)"
        )
    return file


def _read(file: int) -> int:
    (value,) = struct.unpack("=Q", os.read(file, 8))
    return int(value)
