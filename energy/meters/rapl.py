"""RAPL: the energy counters of x86 processors, through the kernel's powercap files.

What the code relies on: a zone ``intel-rapl:N`` whose name begins with ``package`` is a whole
processor, or a die of one (``package-0-die-1``). Its sub-zones ``core`` and ``uncore`` are part of
it; ``dram`` is the memory beside it; ``psys`` contains all of them. So only zones of which none
contains another are added. Dies whose counters are one and the same register are counted once
(:mod:`fimi.energy.meters.mirrors`). AMD uses the same names; its ``core`` sees one hardware thread.
Where two zones of the top are called the same, their numbers tell them apart (``package-0@1``).
Zones ``intel-rapl-mmio`` are another view of the same packages, and are not read.
Each zone's counter returns to zero after ``max_energy_range_uj``: with 61 µJ per step and 32 bits,
after 262 kJ. Since Linux 5.10 only root may read it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from fimi.energy.joules import Scope
from fimi.energy.meters import Look, Meter, MeterDescription, MeterUnavailableError, names
from fimi.energy.meters.counter import Adder, Counter
from fimi.energy.meters.mirrors import ALIKE_J, Mirrors
from fimi.energy.meters.response import MeterResponse
from fimi.energy.sysfs import FORBIDDEN, read_count, read_text, why_unreadable

PACKAGE_POWER_LIMIT_W = 1000.0
"""No processor draws more, W; a counter that shows more was reset, not wrapped."""

SIDE_CHANNEL = (
    "readable RAPL counters are a side channel: every program of that group can learn from them "
    "what others compute (CVE-2020-8694, Platypus)"
)

_JOULES_PER_STEP = 1e-6
"""The files count microjoules; :class:`fimi.energy.meters.counter.Counter` multiplies by this."""
_REFRESH_HZ = 1000.0
_ZONE = re.compile(r"^intel-rapl:(\d+)(?::\d+)?$")
_SECOND_LOOK_S = 0.005
_LOOKS_AGAIN = 3
_SCOPES: dict[str, Scope] = {"dram": "module", "psys": "board"}
"""What else than the processor a kind of zone sees. The memory is beside the processor; the
platform's zone is what the maker of the board has wired to it."""


class Zone(Struct, frozen=True):
    """A zone of the kernel's.

    Attributes:
        name: its name among meters, for example ``"rapl:core-0"``.
        folder: where its files are.
        package: label of the package that it is or belongs to, dies included; empty for the
            platform.
        inside: names of the zones that contain it.
    """

    name: str
    folder: Path
    package: str
    inside: frozenset[str]

    @property
    def whole(self) -> bool:
        """Whether it is a package or a die of one."""
        return self.name.startswith("rapl:package")


class Rapl(Meter):
    """The sum of the counters of some zones of which none contains another.

    Raises:
        MeterUnavailableError: if a zone cannot be read.
    """

    step_j = 1e-3

    def __init__(self, zones: Sequence[Zone]) -> None:
        ranges_uj = self._ranges_uj = [_range_uj(zone.folder) for zone in zones]
        self._files = [zone.folder / "energy_uj" for zone in zones]
        for file, range_uj in zip(self._files, ranges_uj, strict=True):
            value_uj = read_count(file)
            if value_uj is None:
                raise _unavailable(file, why_unreadable(file))
            if value_uj > range_uj:
                why = f"shows {value_uj} µJ, beyond its own max_energy_range_uj of {range_uj}"
                raise _unavailable(file, why)
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
        self._short = [zone.name.partition(":")[2] for zone in zones]
        self._mirrors = Mirrors(
            self._joules(self._read()) or [0.0] * len(zones),
            [range_uj * _JOULES_PER_STEP for range_uj in ranges_uj],
            [zone.package.partition("-die-")[0] if zone.whole else zone.name for zone in zones],
        )
        if self._mirrors.found:
            time.sleep(_SECOND_LOOK_S)
            self._apart(self._read())
        self._last_j = [0.0] * len(zones)
        self._sum = Adder()
        self._unlike = ""
        self._blind: Path | None = None
        self.made_of = frozenset(zone.name for zone in zones)
        self.inside = frozenset.intersection(*(zone.inside for zone in zones))
        self.may_rest = all(_kind(each) == "uncore" for each in self._short)
        scopes = {_SCOPES.get(_kind(each), "cpu") for each in self._short}
        self._description = MeterDescription(
            source=f"rapl:{self._source()}",
            kind="measured",
            scope=max(scopes, key=("cpu", "module", "board").index),
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

    @property
    def mirrors(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a zone and the earlier one whose register it shows."""
        return tuple(
            (self._short[place], self._short[leader])
            for place, leader in enumerate(self._mirrors.of)
            if leader != place
        )

    def look(self, time_s: float) -> Look:
        """The sum of the counters; empty if one of them cannot be read."""
        raws = self._read()
        gone = self._apart(raws) if self._mirrors.found else []
        raws = self._read() if gone else raws
        pairs = zip(self._counters, raws, strict=True)
        looks = [counter.advance(raw, time_s) for counter, raw in pairs]
        of = self._mirrors.of
        counted = [each for place, each in enumerate(looks) if of[place] == place]
        lost = False
        if gone:
            apart = ", ".join(self._short[place] for place in gone)
            self._unlike = (
                f"the counters {apart} were taken for mirrors and count something else since: "
                "what they counted before is missing"
            )
            # What they have counted so far was not in the sum before this look.
            lost = any(self._last_j[place] > ALIKE_J for place in gone)
        for place, each in enumerate(looks):
            self._last_j[place] = each.counter_j or self._last_j[place]
        return self._sum.add(counted, reset=lost)

    def facts(self) -> tuple[str, ...]:
        """Which counters are mirrors."""
        return tuple(
            f"{mirror} shows the same register as {leader}: counted once"
            for mirror, leader in self.mirrors
        )

    def doubts(self) -> tuple[str, ...]:
        """Whether counters that were taken for mirrors are none."""
        return (self._unlike,) if self._unlike else ()

    def why_nothing(self) -> str:
        """The file that could not be read."""
        return "" if self._blind is None else f"{self._blind} {why_unreadable(self._blind)}"

    def _source(self) -> str:
        """The zones; mirrors behind the one that they mirror."""
        groups: dict[int, list[str]] = {}
        for place, leader in enumerate(self._mirrors.of):
            groups.setdefault(leader, []).append(self._short[place])
        return ",".join(sorted("=".join(group) for group in groups.values()))

    def _read(self) -> list[int | None]:
        raws = [read_count(file) for file in self._files]
        self._blind = next(
            (file for file, raw in zip(self._files, raws, strict=True) if raw is None), None
        )
        return raws

    def _joules(self, raws: Sequence[int | None]) -> list[float]:
        known = [
            raw * _JOULES_PER_STEP
            for raw, range_uj in zip(raws, self._ranges_uj, strict=True)
            if raw is not None and raw <= range_uj
        ]
        return known if len(known) == len(raws) else []

    def _apart(self, raws: Sequence[int | None]) -> list[int]:
        """Zones that turn out to be no mirrors: they differ in every one of several looks."""
        before = list(self._mirrors.of)
        for _ in range(_LOOKS_AGAIN):
            values_j = self._joules(raws)
            if not values_j:
                self._mirrors.of = before
                return []
            self._mirrors.of = list(before)
            gone = self._mirrors.apart(values_j)
            if not gone:
                return []
            raws = self._read()  # this process may have been held up between two files
        return gone


def zones(root: Path) -> list[Zone]:
    """Every zone under ``<root>/sys/class/powercap``: packages, their parts, memory, platform."""
    folder = root / "sys/class/powercap"
    folders = {
        path.name: path
        for pattern in ("intel-rapl:*/intel-rapl:*:*", "intel-rapl:*")
        for path in folder.glob(pattern)
        if _ZONE.match(path.name)
    }
    labels = {name: read_text(path / "name") or "" for name, path in folders.items()}
    tops = {name: label for name, label in labels.items() if label and name.count(":") == 1}
    often = list(tops.values())
    called = {
        name: label if often.count(label) == 1 else f"{label}@{name.rpartition(':')[2]}"
        for name, label in tops.items()
    }
    packages = {name for name, label in tops.items() if label.startswith("package")}
    psys = frozenset(f"rapl:{called[name]}" for name in tops.keys() - packages)
    found = []
    for name, path in sorted(folders.items()):
        top, kind = ":".join(name.split(":")[:2]), labels[name]
        if name in tops:
            package, around = (kind, psys) if name in packages else ("", frozenset())
            found.append(Zone(f"rapl:{called[name]}", path, package, around))
        elif kind and top in packages:
            around = psys if kind == "dram" else psys | {f"rapl:{called[top]}"}
            short = f"{kind}-{called[top].removeprefix('package-')}"
            found.append(Zone(f"rapl:{short}", path, tops[top], around))
    return found


def open_rapl(root: Path, part: str | None = None) -> Rapl:
    """The package counters under ``<root>/sys/class/powercap``, or one zone by its name.

    Raises:
        MeterUnavailableError: there are none or they cannot be read; says what to do.
    """
    every = sorted(zones(root), key=lambda zone: zone.name)
    chosen = [zone for zone in every if (zone.name == f"rapl:{part}" if part else zone.whole)]
    if not chosen and part and every:
        raise names.unknown(f"rapl:{part}", [zone.name for zone in every])
    if not chosen:
        raise MeterUnavailableError(
            f"no RAPL package counter under {root / 'sys/class/powercap'}: not an x86 processor "
            "that has one, a container or virtual machine that hides it, or the intel_rapl modules "
            "are not loaded "
            "(sudo modprobe intel_rapl_msr). Run outside the container, or declare "
            "constant_power_w in this board's profile"
        )
    return Rapl(chosen)


def tmpfiles_rule(paths: list[Path]) -> str:
    """Lines for ``/etc/tmpfiles.d/fimi-rapl.conf`` that let the group ``fimi`` read files."""
    return "\n".join(f"z {path} 0440 root fimi -" for path in paths)


def _kind(short: str) -> str:
    return short.partition("-")[0]


def _range_uj(zone: Path) -> int:
    path = zone / "max_energy_range_uj"
    range_uj = read_count(path)
    if not range_uj:
        without = "holds 0, so that it is not known where its counter begins anew"
        raise _unavailable(path, why_unreadable(path) if range_uj is None else without)
    return range_uj


def _unavailable(path: Path, why: str) -> MeterUnavailableError:
    if why != FORBIDDEN:
        return MeterUnavailableError(
            f"{path} {why}. This counter cannot be used: update the kernel or its "
            "intel_rapl modules, look at dmesg for their errors, or declare constant_power_w in "
            "this board's profile"
        )
    files = [path.with_name(name).resolve() for name in ("energy_uj", "max_energy_range_uj")]
    names = " ".join(map(str, files))
    return MeterUnavailableError(
        f"{path} {why}. Let one group read it: sudo groupadd -f fimi && sudo "
        f"chgrp fimi {names} && sudo chmod g+r {names} (it lasts until the next boot; "
        f"`fimi agent doctor` prints a rule that stays), knowing that {SIDE_CHANNEL}; or declare "
        "constant_power_w in this board's profile"
    )
