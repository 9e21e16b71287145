"""Which meters this machine has, why others cannot be used, and which one is chosen.

* :class:`MeterSettings`  what the board's profile says about meters
* :func:`detect`          every meter, usable or not
* :func:`open_recorder`   the recorder of the chosen one
* :func:`chosen_meters`   the meters of that, without recorders
* :func:`open_meter`      a meter by its name (:mod:`fimi.energy.meters.names`)

``auto`` takes the meter that sees most of the device (plug or topic, board, module, processor) and
adds the processor's share where a second meter sees it; a declared power comes last. It takes a
chip for the whole board only if it is the only one of its kind, and passes over a meter that shows
0 W. ``auto`` never takes a graphics card: its joules are not those of the device.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from fimi.energy.clock import Clock
from fimi.energy.joules import Scope
from fimi.energy.meters import (
    DeclaredPower,
    Look,
    Meter,
    MeterUnavailableError,
)
from fimi.energy.meters.battery import batteries, open_battery
from fimi.energy.meters.combine import Combined, WithSecond
from fimi.energy.meters.elsewhere.topic import TopicMeter, TopicSettings
from fimi.energy.meters.hwmon import hwmon_names, open_hwmon
from fimi.energy.meters.ina3221 import find_rails, open_ina3221
from fimi.energy.meters.live import ReplaySettings, open_replay
from fimi.energy.meters.names import Names, SeveralError, family, line, part
from fimi.energy.meters.nvml import nvml_names, open_nvml
from fimi.energy.meters.plausibility import limits
from fimi.energy.meters.plug import Plug, PlugSettings
from fimi.energy.meters.pmic import measures, open_pmic
from fimi.energy.meters.rapl import Rapl, open_rapl, zones
from fimi.energy.meters.sampler import DEFAULT_RATE_HZ, Sampler
from fimi.energy.meters.seen import AGAIN_S, Found, look_again, look_at
from fimi.energy.meters.sums import MeterSum
from fimi.energy.step_load.kept import KeptResponse, outdated
from fimi.energy.sysfs import Value

log = logging.getLogger(__name__)

TOTALS = ("plug", "topic", "hwmon", "ina3221", "pmic", "battery", "rapl")
"""What ``auto`` tries for the total, in this order."""

SPLITS = ("ina3221-cpu", "pmic-cpu", "rapl")
"""What ``auto`` tries for the processor's share."""

NAMES = (*TOTALS, "ina3221-cpu", "pmic-cpu", "nvml", "replay", "declared")

_PARTED = ("rapl", "ina3221", "hwmon", "pmic", "battery", "nvml", "plug")
"""Families whose meters have parts that can be named."""


class MeterPair(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two meters: one for totals, one for the processor's share.

    Attributes:
        total: name of the wider meter, or a list of names that are added up.
        split: the same of the processor's.
    """

    total: Names
    split: Names


class MeterSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a board's profile (:class:`fimi.energy.host_profile.HostProfile`) says about meters.

    ``meter`` is ``auto``, a name (:mod:`fimi.energy.meters.names`), a list of names that are added
    up, or a pair of these. ``second`` is recorded beside it. ``responses`` are those that were
    learned, by the source of the meter.
    """

    meter: Names | MeterPair = "auto"
    scope: Scope | None = None
    rate_hz: float = DEFAULT_RATE_HZ
    plug: PlugSettings | None = None
    topic: TopicSettings | None = None
    replay: str | ReplaySettings | None = None
    constant_power_w: float | None = None
    second: Names | None = None
    responses: dict[str, KeptResponse] = {}


MeterRecorder = Sampler | Combined | WithSecond | DeclaredPower
"""The recorders of physical boards."""


def detect(
    settings: MeterSettings,
    root: Path,
    clock: Clock,
    *,
    also: Sequence[Names] = (),
    wait: Callable[[float], object] | None = None,
) -> tuple[Found, ...]:
    """Try every meter, in the order in which ``auto`` would take them, every part, and ``also``.

    ``wait`` lets so many seconds pass between two looks at counters, once for all of them. Without
    it their power is not known.
    """
    found: list[Found] = []
    counters: dict[int, tuple[Meter, Look, float]] = {}
    with contextlib.ExitStack() as opened:
        for names in dict.fromkeys((*NAMES, *_parts(root), *also)):
            name = names if isinstance(names, str) else " + ".join(names)
            try:
                if names == "declared":
                    description = _declared(settings, clock).describe()
                    found.append(Found(name=name, description=description))
                    continue
                meter = open_sum(names, settings, root, clock)
            except MeterUnavailableError as error:
                found.append(_refused(name, error))
                continue
            opened.enter_context(contextlib.closing(meter))
            now_s = clock.now_s()
            look = meter.look(now_s)
            found.append(look_at(name, meter, look, root))
            if look.power_w is None:
                counters[len(found) - 1] = (meter, look, now_s)
            else:
                meter.close()
        if counters and wait is not None:
            wait(AGAIN_S)
            for place, (meter, look, then_s) in counters.items():
                found[place] = look_again(found[place], meter, look, then_s, root, clock)
    return tuple(found)


def _refused(name: str, error: MeterUnavailableError) -> Found:
    several = isinstance(error, SeveralError)
    choices = error.choices if isinstance(error, SeveralError) else ()
    return Found(
        name=name, description=None, problem=str(error), ambiguous=several, choices=choices
    )


def open_recorder(
    settings: MeterSettings,
    root: Path,
    clock: Clock,
    warn: Callable[[str], object] = log.warning,
) -> MeterRecorder:
    """The recorder of the chosen meter, and of the second one where the profile names one.

    ``warn`` is told which meters ``auto`` passes over, and which learned response is not used.

    Raises:
        MeterUnavailableError: one of them cannot be used, or ``auto`` finds none; says what to do.
    """
    first = _open_first(settings, root, clock, warn)
    if settings.second is None:
        return first
    with contextlib.ExitStack() as opened:
        opened.enter_context(contextlib.closing(first))
        if isinstance(first, DeclaredPower):
            raise MeterUnavailableError(
                f"{line(settings.second)} is to be the second meter, and there is no first one: "
                "the power is declared. Make it the first"
            )
        meter = opened.enter_context(
            contextlib.closing(open_sum(settings.second, settings, root, clock))
        )
        _warn_outdated(meter, warn)
        second = Sampler(meter, clock, rate_hz=settings.rate_hz, board=limits(root))
        opened.enter_context(contextlib.closing(second))
        both = WithSecond(first, second)
        opened.pop_all()
    return both


def _open_first(
    settings: MeterSettings, root: Path, clock: Clock, warn: Callable[[str], object]
) -> Sampler | Combined | DeclaredPower:
    board = limits(root)

    def sampler(names: Names) -> Sampler:
        meter = open_sum(names, settings, root, clock)
        _warn_outdated(meter, warn)
        return Sampler(meter, clock, rate_hz=settings.rate_hz, board=board)

    choice = settings.meter
    if isinstance(choice, MeterPair):
        return _combined(choice, sampler)
    if choice == "declared":
        return _declared(settings, clock)
    if choice != "auto":
        return sampler(choice)
    problems = []
    for name in TOTALS:
        try:
            total = sampler(name)
        except MeterUnavailableError as error:
            problems.append(f"{name}: {error}")
            asked = {"plug": settings.plug, "topic": settings.topic}.get(name) is not None
            if asked and isinstance(error, SeveralError):
                raise
            if asked or isinstance(error, SeveralError) or (name == "pmic" and measures(root)):
                warn(f"a meter of this board is not used: {error}")
            continue
        if name not in ("plug", "topic") and _at_zero(total):
            total.close()
            source = total.describe().source
            problems.append(f"{name}: {source} shows 0 W, and what runs draws more")
            warn(problems[-1])
            continue
        return _with_split(total, sampler)
    if settings.constant_power_w is not None:
        return _declared(settings, clock)
    raise MeterUnavailableError(
        "no meter can be read here and the profile declares no constant_power_w:\n  "
        + "\n  ".join(problems)
    )


def _warn_outdated(meter: Meter, warn: Callable[[str], object]) -> None:
    if meter.outdated:
        again = "Learn it again: fimi agent doctor --host-profile FILE --step-load"
        warn(f"{meter.describe().source}: {meter.outdated}. {again}")


def chosen_meters(settings: MeterSettings, root: Path, clock: Clock) -> list[Meter]:
    """The meters of :func:`open_recorder`, open and without recorders.

    Raises:
        MeterUnavailableError: as there, or the power is declared.
    """
    recorder = open_recorder(settings, root, clock)
    if isinstance(recorder, DeclaredPower):
        raise MeterUnavailableError(
            "the power of this board is declared: there is no meter to learn about"
        )
    samplers = []
    first = recorder.first if isinstance(recorder, WithSecond) else recorder
    samplers += [first.total, first.split] if isinstance(first, Combined) else [first]
    samplers += [recorder.second] if isinstance(recorder, WithSecond) else []
    return [sampler.release() for sampler in samplers]


def usable(settings: MeterSettings, root: Path, clock: Clock) -> tuple[str, ...]:
    """Names of all meters that can be read now, each thing once; not recordings."""
    found: dict[str, str] = {}
    for each in detect(settings, root, clock):
        described = each.description
        if described is not None and described.rate_hz > 0.0 and each.name != "replay":
            found.setdefault(described.source, each.name)
    return tuple(found.values())


def open_meter(name: str, settings: MeterSettings, root: Path, clock: Clock) -> Meter:
    """A meter by its name.

    Raises:
        MeterUnavailableError: it cannot be used, or no meter has this name.
    """
    of = part(name)
    impossible_w = limits(root).impossible_w
    openers: dict[str, Callable[[], Meter]] = {
        "rapl": lambda: open_rapl(root, of),
        "ina3221": lambda: open_ina3221(root, of, settings.scope if of else None),
        "ina3221-cpu": lambda: open_ina3221(root, "cpu"),
        "pmic": lambda: open_pmic(root, of),
        "pmic-cpu": lambda: open_pmic(root, "cpu"),
        "hwmon": lambda: open_hwmon(root, of, settings.scope if of else None),
        "battery": lambda: open_battery(root, of),
        "nvml": lambda: open_nvml(part=of),
        "plug": lambda: Plug(
            _named(settings.plug, "plug; a table [plug] with model, topic and host"), of
        ),
        "topic": lambda: TopicMeter(
            _named(settings.topic, "topic; a table [topic]"), clock, impossible_w=impossible_w
        ),
        "replay": lambda: open_replay(
            settings.replay, clock, scope=settings.scope or "board", impossible_w=impossible_w
        ),
    }
    opener = openers.get(family(name))
    if opener is None or (of and family(name) not in _PARTED) or name.endswith(":"):
        raise MeterUnavailableError(
            f"there is no meter {name!r}; there are {', '.join(NAMES)}, and parts of "
            f"{', '.join(_PARTED)}, for example hwmon:<driver>: fimi agent doctor lists their names"
        )
    return _with_learned(opener(), settings)


def _with_learned(meter: Meter, settings: MeterSettings) -> Meter:
    """A meter with the response that was learned of it, if one was and the chip is set as then."""
    if (kept := settings.responses.get(meter.describe().source)) is not None:
        meter.outdated = outdated(kept, meter.stated)
        if not meter.outdated:
            meter.adopt(kept.response)
    return meter


def open_sum(names: Names, settings: MeterSettings, root: Path, clock: Clock) -> Meter:
    """A meter by its name, or the sum of several.

    Raises:
        MeterUnavailableError: one cannot be used, or they may not be added.
    """
    if isinstance(names, str):
        return open_meter(names, settings, root, clock)
    if not names:
        raise MeterUnavailableError('the list of meters is empty: write meter = "auto", or names')
    if bare := {"auto", "declared"} & set(names):
        raise MeterUnavailableError(
            f"{bare.pop()!r} cannot be a part of a sum: {line(names)}. List names of meters"
        )
    if len(names) == 1:
        return open_meter(names[0], settings, root, clock)
    with contextlib.ExitStack() as opened:
        meters = [
            opened.enter_context(contextlib.closing(open_meter(name, settings, root, clock)))
            for name in names
        ]
        summed = MeterSum(meters, settings.scope)
        _refuse_mirrors(summed.made_of, root)
        opened.pop_all()
    return _with_learned(summed, settings)


def _refuse_mirrors(made_of: frozenset[str], root: Path) -> None:
    """Refuse a sum of zones that show the same register."""
    chosen = [zone for zone in zones(root) if zone.name in made_of and zone.whole]
    mirrors = Rapl(chosen).mirrors if len(chosen) > 1 else ()
    if mirrors:
        pairs = ", ".join(f"{mirror} is {leader}" for mirror, leader in mirrors)
        raise MeterUnavailableError(
            f"these counters are one and the same register, shown several times ({pairs}): added "
            f"up, every joule would be counted again. Write {line('rapl')}, which counts it once"
        )


def _parts(root: Path) -> list[str]:
    """Names of parts, of every family that has more than the doctor's line of the family says."""
    rapl = [zone.name for zone in zones(root)]
    rails = [f"ina3221:{rail.name}" for rail in find_rails(root)]
    cells = [f"battery:{folder.name}" for folder in batteries(root)]
    families = (rapl, rails, cells, nvml_names())
    return [*hwmon_names(root), *(name for names in families if len(names) > 1 for name in names)]


def _at_zero(total: Sampler) -> bool:
    """Whether a meter of the whole device or module shows no power at all."""
    described = total.describe()
    return described.scope != "cpu" and total.last.power_w == 0.0


def _combined(pair: MeterPair, sampler: Callable[[Names], Sampler]) -> Combined:
    with contextlib.ExitStack() as opened:
        total = opened.enter_context(contextlib.closing(sampler(pair.total)))
        split = opened.enter_context(contextlib.closing(sampler(pair.split)))
        both = Combined(total, split)
        opened.pop_all()
    return both


def _with_split(total: Sampler, sampler: Callable[[Names], Sampler]) -> Sampler | Combined:
    """The total together with the processor's share, where a narrower meter sees it."""
    if total.describe().scope == "cpu":
        return total
    for name in SPLITS:
        try:
            split = sampler(name)
        except MeterUnavailableError:
            continue
        try:
            return Combined(total, split)
        except MeterUnavailableError:
            split.close()
    return total


def _declared(settings: MeterSettings, clock: Clock) -> DeclaredPower:
    if settings.constant_power_w is None:
        raise MeterUnavailableError(
            "no power is declared: measure what the board draws with any plug or USB meter and "
            "write constant_power_w into its profile; its joules will be labelled modelled"
        )
    return DeclaredPower(settings.constant_power_w, clock)


def _named(value: Value | None, what: str) -> Value:
    if value is None:
        raise MeterUnavailableError(f"the profile names no {what} does")
    return value
