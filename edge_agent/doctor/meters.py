"""Checks of the meters: every meter of this machine, and the one that is chosen."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fimi.edge_agent.doctor.machine import Machine, judged, open_files
from fimi.energy.clock import MonotonicClock
from fimi.energy.meters import MeterDescription, MeterUnavailableError
from fimi.energy.meters.combine import Combined, WithSecond
from fimi.energy.meters.detect import (
    NAMES,
    MeterPair,
    MeterSettings,
    detect,
    open_recorder,
)
from fimi.energy.meters.names import Names, SeveralError
from fimi.energy.meters.plug import UNRELIABLE_BELOW_W
from fimi.energy.meters.pmic import measures
from fimi.energy.meters.rapl import SIDE_CHANNEL, tmpfiles_rule, zones
from fimi.energy.meters.sampler import Sampler
from fimi.energy.meters.seen import Found, doubts_now
from fimi.energy.sysfs import FORBIDDEN, why_unreadable
from fimi.messaging.questions import Check


def meters(machine: Machine) -> Iterator[Check]:
    """Every meter, and the one that would be used."""
    profile, clock = machine.profile, MonotonicClock()
    settings = profile.meters() if profile else MeterSettings()
    choices = _choices(settings)
    listed = detect(settings, machine.root, clock, also=choices, wait=time.sleep)
    try:
        # What it would warn of is in the lines below.
        recorder = open_recorder(settings, machine.root, clock, warn=lambda words: None)
        chosen = recorder.describe()
        first = recorder.first if isinstance(recorder, WithSecond) else recorder
        split = first.split.describe().source if isinstance(first, Combined) else ""
        second = recorder.second.describe().source if isinstance(recorder, WithSecond) else ""
        total = first.total if isinstance(first, Combined) else first
        samplers = [total] if isinstance(total, Sampler) else []
        outdated = "".join(sampler.meter.outdated for sampler in samplers)
        samplers += [recorder.second] if isinstance(recorder, WithSecond) else []
        doubtful = [d for each in samplers for d in _doubtful(each, listed, machine.root)]
        recorder.close()
        fix = ""
        if doubtful:
            fix = "its joules are doubtful: mend what is said here, or choose a meter below"
        elif chosen.kind != "measured":
            fix = "its joules are not measured; a meter below that can be mended gives better ones"
        yield judged(
            "meter",
            f"{chosen.source}: {chosen.kind}, scope {chosen.scope}"
            + "".join(f"; {doubt}" for doubt in doubtful)
            + (f"; the processor's share from {split}" if split else "")
            + (f"; beside it {second}" if second else ""),
            fix,
        )
        if chosen.kind == "measured" and not chosen.source.startswith("declared"):
            yield _response(chosen, outdated)
    except MeterUnavailableError as error:
        auto = settings.meter == "auto" and not isinstance(error, SeveralError)
        yield judged(
            "meter",
            "no meter can be used and no power is declared" if auto else str(error),
            "mend one of the meters below, or declare constant_power_w in the board's profile "
            "(fimi agent doctor --host-profile FILE checks it)",
            "failure",
        )
    own = {each if isinstance(each, str) else " + ".join(each) for each in choices} - {*NAMES}
    shares = {f"{each.name}-cpu": each.problem for each in listed}
    for each in listed:
        if (found := each.description) is not None:
            yield _usable(each, found, settings)
        # What is said once is enough: of a choice in its line, of a share by its family.
        elif each.name not in own and each.problem != shares.get(each.name):
            yield _absent(each, settings, machine.root)


def _choices(settings: MeterSettings) -> tuple[Names, ...]:
    """What the profile chooses, one by one."""
    choice = settings.meter
    both = (choice.total, choice.split) if isinstance(choice, MeterPair) else (choice,)
    named = both if settings.second is None else (*both, settings.second)
    return tuple(names for names in named if names not in ("auto", ()))


def _response(chosen: MeterDescription, outdated: str) -> Check:
    """What is known of how late the chosen meter is, and how more can be known."""
    if outdated:
        again = "learn it again: fimi agent doctor --host-profile FILE --step-load"
        return judged("meter response", f"{chosen.response}; {outdated}", again)
    known = chosen.response.origin != "assumed"
    return Check(
        name="meter response",
        status="ok" if known else "absent",
        found=str(chosen.response)
        + ("" if known else ": what is usual for such a meter; this one was not tried"),
        fix=""
        if known
        else "learn it with a load of known edges: fimi agent doctor --host-profile FILE "
        "--step-load (seconds for a chip, a minute or more for a plug)",
    )


def _usable(each: Found, found: MeterDescription, settings: MeterSettings) -> Check:
    """The check of a meter that can be read."""
    told = [found.kind, f"scope {found.scope}"]
    if found.rate_hz:
        told.append(f"{found.rate_hz:g} Hz")
    if found.resolution_w:
        told.append(f"{found.resolution_w:.2g} W steps")
    told.append(f"±{found.relative_uncertainty:.0%}")
    if each.power_w is not None:
        # A counter that is new every 0.1 s is known to a fifth over half a second.
        counted = f"{each.power_w:.2g} W over {each.over_s:.2g} s"
        told.append(counted if each.over_s else f"{each.power_w:.3g} W now")
    told += each.facts
    family = each.name.partition(":")[0]
    side = family == "rapl" and os.geteuid() != 0
    weak = family == "plug" and each.power_w is not None and 0.0 < each.power_w < UNRELIABLE_BELOW_W
    fix = ""
    if each.doubts:
        fix = f"doubtful: {'; '.join(each.doubts)}"
    elif weak:
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
        status="warning" if weak or each.doubts else "ok",
        found=f"{found.source} ({', '.join(told)})"
        + (f"; mind that {SIDE_CHANNEL}" if side else ""),
        fix=fix,
    )


def _doubtful(sampler: Sampler, listed: Sequence[Found], root: Path) -> tuple[str, ...]:
    """What speaks against what the chosen meter shows now."""
    same = (
        each.doubts
        for each in listed
        if each.description is not None and each.description.source == sampler.describe().source
    )
    return next(same, doubts_now(sampler.meter, sampler.last, root))


_INTERVAL = "/sys/class/hwmon/hwmon*/update_interval"


def _absent(each: Found, settings: MeterSettings, root: Path) -> Check:
    """The check of a meter that cannot be read; a warning if the profile asks for it."""
    problem, _, fix = each.problem.partition(". ")
    rapl = each.name == "rapl"
    closed = _closed_rapl(root) if rapl and FORBIDDEN in problem else []
    broken = bool(rapl and zones(root)) or (each.name.startswith("pmic") and measures(root))
    if closed:
        rules = tmpfiles_rule(closed).replace("\n", "\\n")
        fix = f"{open_files(rules, 'rapl')}. Mind that {SIDE_CHANNEL}"
    if each.choices:
        mind = fix.partition("Write one of these lines")[0].strip()
        fix = "\n".join(
            [
                *filter(None, [mind]),
                "Write one of these lines into the board's profile:",
                *each.choices,
            ]
        )
    asked = {"plug": settings.plug, "topic": settings.topic, "replay": settings.replay}
    named = asked.get(each.name) is not None
    return Check(
        name=f"meter {each.name}",
        status="warning" if named or broken or each.ambiguous else "absent",
        found=problem,
        fix=fix,
    )


def _closed_rapl(root: Path) -> list[Path]:
    """The counters that exist and may not be read, by their real paths."""
    names = ("energy_uj", "max_energy_range_uj")
    files = [(zone.folder / name).resolve() for zone in zones(root) for name in names]
    return [file for file in files if why_unreadable(file) == FORBIDDEN]
