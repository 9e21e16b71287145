"""Checks of the meters: every meter of this machine, and the one that is chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fimi.edge_agent.doctor.machine import Check, Machine, judged, open_files
from fimi.energy.clock import MonotonicClock
from fimi.energy.meters import MeterDescription, MeterUnavailableError
from fimi.energy.meters.combine import Combined
from fimi.energy.meters.detect import Found, MeterSettings, detect, open_recorder
from fimi.energy.meters.plug import UNRELIABLE_BELOW_W
from fimi.energy.meters.rapl import SIDE_CHANNEL, package_zones, tmpfiles_rule


def meters(machine: Machine) -> Iterator[Check]:
    """Every meter, and the one that would be used."""
    profile, clock = machine.profile, MonotonicClock()
    settings = profile.meters() if profile else MeterSettings()
    listed = detect(settings, machine.root, clock)
    try:
        recorder = open_recorder(settings, machine.root, clock)
        chosen = recorder.describe()
        split = recorder.split.describe().source if isinstance(recorder, Combined) else ""
        recorder.close()
        yield judged(
            "meter",
            f"{chosen.source}: {chosen.kind}, scope {chosen.scope}"
            + (f"; the processor's share from {split}" if split else ""),
            ""
            if chosen.kind == "measured"
            else "its joules are not measured; a meter below that can be mended gives better ones",
        )
    except MeterUnavailableError as error:
        auto = settings.meter == "auto"
        yield judged(
            "meter",
            "no meter can be used and no power is declared" if auto else str(error),
            "mend one of the meters below, or declare constant_power_w in the board's profile "
            "(fimi agent doctor --host-profile FILE checks it)",
            "failure",
        )
    for each in listed:
        if (found := each.description) is None:
            yield _absent(each, settings, machine.root)
        else:
            yield _usable(each, found, settings)


def _usable(each: Found, found: MeterDescription, settings: MeterSettings) -> Check:
    """The check of a meter that can be read."""
    told = [found.kind, f"scope {found.scope}"]
    if found.rate_hz:
        told.append(f"{found.rate_hz:g} Hz")
    if found.resolution_w:
        told.append(f"{found.resolution_w:g} W steps")
    told.append(f"±{found.relative_uncertainty:.0%}")
    if each.power_w is not None:
        told.append(f"{each.power_w:.3g} W now")
    side = each.name == "rapl" and os.geteuid() != 0
    weak = each.name == "plug" and each.power_w is not None and each.power_w < UNRELIABLE_BELOW_W
    fix = ""
    if weak:
        fix = (
            f"plugs are unreliable below {UNRELIABLE_BELOW_W:g} W: several boards on one plug, an "
            "INA board in the supply line, or a USB meter"
        )
    elif found.response.window_s and found.rate_hz > 1.05 * settings.rate_hz:
        fix = (
            f"a reading is the mean of {1e3 / found.rate_hz:.0f} ms, and one is taken every "
            f"{1e3 / settings.rate_hz:.0f} ms: let the chip average as long (echo "
            f"{1e3 / settings.rate_hz:.0f} | sudo tee {_INTERVAL}), and nothing is missed"
        )
    return Check(
        name=f"meter {each.name}",
        status="warning" if weak else "ok",
        found=f"{found.source} ({', '.join(told)})"
        + (f"; mind that {SIDE_CHANNEL}" if side else ""),
        fix=fix,
    )


_INTERVAL = "/sys/class/hwmon/hwmon*/update_interval"


def _absent(each: Found, settings: MeterSettings, root: Path) -> Check:
    """The check of a meter that cannot be read; a warning if the profile asks for it."""
    problem, _, fix = each.problem.partition(". ")
    closed = _closed_rapl(root) if each.name == "rapl" else []
    if closed:
        rules = tmpfiles_rule(closed).replace("\n", "\\n")
        fix = f"{open_files(rules, 'rapl')}. Mind that {SIDE_CHANNEL}"
    asked = {"plug": settings.plug, "topic": settings.topic, "replay": settings.replay}
    named = asked.get(each.name) is not None
    return Check(
        name=f"meter {each.name}",
        status="warning" if closed or named else "absent",
        found=problem,
        fix=fix,
    )


def _closed_rapl(root: Path) -> list[Path]:
    """The package counters that exist and may not be read, by their real paths."""
    files = ("energy_uj", "max_energy_range_uj")
    return [(zone / name).resolve() for zone in package_zones(root) for name in files]
