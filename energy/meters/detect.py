"""Which meters this machine has, why others cannot be used, and which one is chosen.

* :class:`MeterSettings`  what the board's profile says about meters
* :func:`detect`          every meter, usable or not
* :func:`open_recorder`   the recorder of the chosen one

``auto`` takes the meter that sees most of the device (plug or topic, board, module, processor) and
adds the processor's share where a second meter sees it; a declared power comes last. ``auto`` never
takes a graphics card: its joules are not those of the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fimi.energy.clock import Clock
from fimi.energy.joules import Scope
from fimi.energy.meters import DeclaredPower, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.battery import open_battery
from fimi.energy.meters.combine import Combined
from fimi.energy.meters.elsewhere.topic import TopicMeter, TopicSettings
from fimi.energy.meters.hwmon import CHIPS, find_hwmon, open_hwmon
from fimi.energy.meters.ina3221 import open_ina3221
from fimi.energy.meters.live import ReplaySettings, open_replay
from fimi.energy.meters.nvml import open_nvml
from fimi.energy.meters.plug import Plug, PlugSettings
from fimi.energy.meters.pmic import open_pmic
from fimi.energy.meters.rapl import open_rapl
from fimi.energy.meters.sampler import DEFAULT_RATE_HZ, Sampler
from fimi.energy.sysfs import Value

TOTALS = ("plug", "topic", "hwmon", "ina3221", "pmic", "battery", "rapl")
"""What ``auto`` tries for the total, in this order."""

SPLITS = ("ina3221-cpu", "pmic-cpu", "rapl")
"""What ``auto`` tries for the processor's share."""

NAMES = (*TOTALS, "ina3221-cpu", "pmic-cpu", "nvml", "replay", "declared")


class MeterPair(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two meters: one for totals, one for the processor's share.

    Attributes:
        total: name of the wider meter.
        split: name of the processor's.
    """

    total: str
    split: str


class MeterSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a board's profile (:class:`fimi.energy.host_profile.HostProfile`) says about meters.

    ``meter`` is ``auto``, one of :data:`NAMES`, ``hwmon:<driver>``, or a pair of these.
    """

    meter: str | MeterPair = "auto"
    scope: Scope | None = None
    rate_hz: float = DEFAULT_RATE_HZ
    plug: PlugSettings | None = None
    topic: TopicSettings | None = None
    replay: str | ReplaySettings | None = None
    constant_power_w: float | None = None


class Found(Struct, frozen=True, kw_only=True):
    """A meter, or why it cannot be used.

    Attributes:
        name: name by which it is chosen.
        description: what it is; ``None`` if it cannot be used.
        power_w: present power, W; ``None`` for counters.
        problem: why it cannot be used, and what to do.
    """

    name: str
    description: MeterDescription | None
    power_w: float | None = None
    problem: str = ""


MeterRecorder = Sampler | Combined | DeclaredPower
"""The recorders of physical boards."""


def detect(settings: MeterSettings, root: Path, clock: Clock) -> tuple[Found, ...]:
    """Try every meter, in the order in which ``auto`` would take them."""
    named = [f"hwmon:{name}" for name in find_hwmon(root) if name not in CHIPS]
    found = []
    for name in (*NAMES, *named):
        power_w = None
        try:
            if name == "declared":
                description = _declared(settings, clock).describe()
            else:
                meter = open_meter(name, settings, root, clock)
                description, power_w = meter.describe(), meter.look(clock.now_s()).power_w
                meter.close()
            found.append(Found(name=name, description=description, power_w=power_w))
        except MeterUnavailableError as error:
            found.append(Found(name=name, description=None, problem=str(error)))
    return tuple(found)


def open_recorder(settings: MeterSettings, root: Path, clock: Clock) -> MeterRecorder:
    """The recorder of the chosen meter.

    Raises:
        MeterUnavailableError: it cannot be used, or ``auto`` finds none; says what to do.
    """

    def sampler(name: str) -> Sampler:
        return Sampler(open_meter(name, settings, root, clock), clock, rate_hz=settings.rate_hz)

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
            return _with_split(sampler(name), sampler)
        except MeterUnavailableError as error:
            problems.append(f"{name}: {error}")
    if settings.constant_power_w is not None:
        return _declared(settings, clock)
    raise MeterUnavailableError(
        "no meter can be read here and the profile declares no constant_power_w:\n  "
        + "\n  ".join(problems)
    )


def open_meter(name: str, settings: MeterSettings, root: Path, clock: Clock) -> Meter:
    """A meter by its name.

    Raises:
        MeterUnavailableError: it cannot be used, or no meter has this name.
    """
    driver = name.partition(":")[2] or None
    openers: dict[str, Callable[[], Meter]] = {
        "rapl": lambda: open_rapl(root),
        "ina3221": lambda: open_ina3221(root),
        "ina3221-cpu": lambda: open_ina3221(root, "cpu"),
        "pmic": lambda: open_pmic(root),
        "pmic-cpu": lambda: open_pmic(root, "cpu"),
        "hwmon": lambda: open_hwmon(root, driver, settings.scope if driver else None),
        "battery": lambda: open_battery(root),
        "nvml": open_nvml,
        "plug": lambda: Plug(
            _named(settings.plug, "plug; a table [plug] with model, topic and host")
        ),
        "topic": lambda: TopicMeter(_named(settings.topic, "topic; a table [topic]"), clock),
        "replay": lambda: open_replay(settings.replay, clock, scope=settings.scope or "board"),
    }
    opener = openers.get(name.partition(":")[0])
    if opener is None or (driver and not name.startswith("hwmon:")):
        raise MeterUnavailableError(
            f"there is no meter {name!r}; there are {', '.join(NAMES)} and hwmon:<driver>"
        )
    return opener()


def _combined(pair: MeterPair, sampler: Callable[[str], Sampler]) -> Combined:
    with contextlib.ExitStack() as opened:
        total = opened.enter_context(contextlib.closing(sampler(pair.total)))
        split = opened.enter_context(contextlib.closing(sampler(pair.split)))
        both = Combined(total, split)
        opened.pop_all()
    return both


def _with_split(total: Sampler, sampler: Callable[[str], Sampler]) -> Sampler | Combined:
    """The total together with the processor's share, where a narrower meter sees it."""
    if total.describe().scope == "cpu":
        return total
    for name in SPLITS:
        try:
            return Combined(total, sampler(name))
        except MeterUnavailableError:
            continue
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
