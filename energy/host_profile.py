"""The profile of a physical board, from a file that its user writes: nothing in it is guessed.

* :class:`HostProfile`    its cost parameters, its meter and its controls
* :class:`RemoteProfile`  what it may be told from afar
* :class:`MeterProfile`   its meter alone, for a machine that only meters
* :func:`load_profile`    reads and checks that file
* :func:`load_meters`     the same for its meter

Keys of a profile beyond those of the example, all optional: ``meter_scope``, ``meter_rate_hz``,
``second_meter``, ``meter_response``,
``replay``, ``frequency_control``, ``rate_control``, and tables ``[plug]``
(:class:`fimi.energy.meters.plug.PlugSettings`), ``[topic]``
(:class:`fimi.energy.meters.elsewhere.topic.TopicSettings`), ``[remote]`` and, instead of a file's
name, ``[replay]`` (:class:`fimi.energy.meters.live.ReplaySettings`).

Measured operating points, which ``fimi calibrate`` adds, are tables ``[[board.compute.points]]``
with the keys of :class:`fimi.energy.cost_model.ComputePoint`, such as
``setting = { cpu_hz = { policy0 = 1.5e9 }, gpu_hz = 306e6 }``; ``all`` in ``cpu_hz`` stands for
every cluster. Where there are any, plans choose from them, and the law (κ,
``linear_power_w_per_hz``, P_act) is not used. A profile from before there were points has
``table_frequencies_hz`` and ``table_power_w``, which are read as points.

A profile in TOML (JSON has the same keys)::

    name = "raspberry-pi-4"
    constant_power_w = 5.0            # only where no meter can be read: joules become "modelled"
    meter = "auto"                    # or a name, a list, or { total = "plug", split = "rapl" }

    [board]
    idle_power_w = 2.7

    [board.compute]
    cycles_per_sample = 4.0e6
    capacitance_w_per_hz3 = 4.3e-28
    active_power_w = 0.9
    frequency_min_hz = 600e6
    frequency_max_hz = 1800e6

    [board.link]
    channel_gain = 1e-10
    noise_density_w_per_hz = 4e-21
    transmit_power_max_w = 0.1
    downlink_rate_bps = 20e6
    receive_power_w = 0.3
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from fimi.energy import units
from fimi.energy.control import rate
from fimi.energy.control.cpufreq import EVERY_CLUSTER
from fimi.energy.control.frequency import Choice
from fimi.energy.cost_model import BoardModel, NonNegative, Positive, formula_power_w
from fimi.energy.joules import Scope
from fimi.energy.meters.detect import MeterPair, MeterSettings
from fimi.energy.meters.elsewhere.topic import TopicSettings
from fimi.energy.meters.live import ReplaySettings
from fimi.energy.meters.names import Names
from fimi.energy.meters.plug import PlugSettings
from fimi.energy.meters.sampler import DEFAULT_RATE_HZ
from fimi.energy.step_load.kept import KeptResponse
from fimi.errors import InputError

log = logging.getLogger(__name__)


class ProfileError(InputError, ValueError):
    """A board's profile is missing or wrong; the message says where and what to do."""

    code = "M001"


class MeterProfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The keys of a profile that are about meters: all that a machine needs which only meters.

    Attributes:
        meter: which meter to use: ``auto``, a name that ``fimi agent doctor`` lists, a list of
            names that are added up, or ``{total = …, split = …}`` for one meter of the whole and
            one of the processor's share.
        second_meter: another meter, by its name, or several that are added up; it is recorded
            beside the first one and is in no sum.
        meter_response: responses of meters that ``fimi agent doctor --step-load`` has learned, by
            the source of the meter (:mod:`fimi.energy.step_load.kept`).
        meter_scope: scope of a named chip or rail of which it is not known, of a sum, or of a
            recording.
        meter_rate_hz: how often to read it, Hz.
        constant_power_w: declared power of the board, W, used where no meter can be read.
        plug: where the plug is found that supplies the board.
        topic: an MQTT topic on which another machine publishes what it reads.
        replay: a recorded CSV file, for ``meter = "replay"``, or a table that says more about it.
    """

    meter: Names | MeterPair = "auto"
    second_meter: Names | None = None
    meter_response: dict[str, KeptResponse] = {}
    meter_scope: Scope | None = None
    meter_rate_hz: Annotated[float, Meta(gt=0, le=100)] = DEFAULT_RATE_HZ
    constant_power_w: Positive | None = None
    plug: PlugSettings | None = None
    topic: TopicSettings | None = None
    replay: str | ReplaySettings | None = None

    def meters(self) -> MeterSettings:
        """What they say."""
        return MeterSettings(
            meter=self.meter,
            scope=self.meter_scope,
            rate_hz=self.meter_rate_hz,
            plug=self.plug,
            topic=self.topic,
            replay=self.replay,
            constant_power_w=self.constant_power_w,
            second=self.second_meter,
            responses=self.meter_response,
        )


class RemoteProfile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the board may be told from afar (``fimi fleet``) that changes its machine.

    Attributes:
        allow: ``calibrate``: calibrate itself, and replace its profile; ``restart``: start its
            agent again; ``update``: take over a signed version of its agent.
    """

    allow: tuple[Literal["calibrate", "restart", "update"], ...] = ()


class HostProfile(MeterProfile, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The profile of a physical board, as its user writes it.

    Attributes:
        name: name of the board, for example ``"raspberry-pi-4"``.
        board: calibrated cost parameters.
        frequency_control: how to cap the frequency; ``auto``: cpufreq, else a power mode (Jetson),
            else a duty cycle.
        rate_control: how to limit the uplink; ``auto`` paces the agent's own connection, ``tc``
            caps the whole interface.
        remote: what it may be told from afar.
    """

    name: str
    board: BoardModel
    frequency_control: Choice = "auto"
    rate_control: rate.Choice = "auto"
    remote: RemoteProfile = RemoteProfile()


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    ".json": msgspec.json.decode,
    ".toml": msgspec.toml.decode,
}
_OLD_TABLE = ("table_frequencies_hz", "table_power_w")


_WHOLE = (
    ". A profile has name, [board], [board.compute] and [board.link], and tables such as [plug] or "
    "[topic] behind them: docs/calibration.md, 'A host instead of an emulated board', shows a "
    "whole one. With name and [board.link] alone, fimi calibrate measures the rest"
)
_Profile = TypeVar("_Profile", bound=MeterProfile)


class _OldTable(Struct, frozen=True, kw_only=True):
    """The table of measured powers in an older profile, among the keys of its processor."""

    cycles_per_sample: Positive
    table_frequencies_hz: tuple[Positive, ...] = ()
    table_power_w: tuple[NonNegative, ...] = ()


log = logging.getLogger(__name__)


def load_profile(path: Path) -> HostProfile:
    """Read a board's profile, TOML or JSON by the file's ending.

    Raises:
        ProfileError: there is no such file, it cannot be parsed, a key is unknown, missing or of
            the wrong type, or a value cannot be in the unit that its name says.
    """
    profile = _load(path, HostProfile)
    _check_units(path, profile.board)
    return profile


def load_meters(path: Path) -> MeterSettings:
    """The keys about meters of a profile, which may have no board.

    Raises:
        ProfileError: as :func:`load_profile`.
    """
    return _load(path, MeterProfile).meters()


def _load(path: Path, wanted: type[_Profile]) -> _Profile:
    """Read a profile, or one without a board where ``MeterProfile`` is enough."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ProfileError(
            f"{path}: no such file. A physical board needs a profile with its calibrated cost "
            "parameters (cycles per sample, κ, idle power, link): they differ from board to board "
            "and are never guessed. The keys are in the docstring of fimi.energy.host_profile"
        ) from None
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix not in _DECODERS:
        raise ProfileError(f"{path}: a profile's name ends in .toml or .json")
    tree: Any = None
    try:
        tree = _with_points(_DECODERS[path.suffix](data), path)
        whole = wanted is HostProfile or (isinstance(tree, dict) and "board" in tree)
        profile: Any = msgspec.convert(tree, HostProfile if whole else MeterProfile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: {error}{_why(str(error), tree)}") from error
    for key, value in _numbers(msgspec.to_builtins(profile)):
        if not math.isfinite(value):
            raise ProfileError(f"{path}: {key} is {value}; a profile holds finite numbers only")
    return cast("_Profile", profile)


def _why(error: str, tree: Any) -> str:
    """Why the value that an error's path (``$.board.compute.key``) leads to is refused, if known.

    It is the end of a sentence: the value, the reason and what to do; empty for other errors.
    """
    if "missing required field" in error:
        return _WHOLE
    _, found, keys = error.partition("`$.")
    value: Any = tree
    for key in keys.split("`")[0].split(".") if found else ():
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, int | float):
        return ""
    said = units.reason(keys.split("`")[0].rsplit(".", 1)[-1], value)
    return f": it is {value:g}; {said}" if said else ""


def _with_points(tree: Any, path: Path) -> Any:
    """A profile as it was read, with the table of an older one as points.

    Raises:
        ProfileError: there are points as well, or the table is not whole.
    """
    board = tree.get("board") if isinstance(tree, dict) else None
    compute = board.get("compute") if isinstance(board, dict) else None
    if not isinstance(compute, dict) or not any(key in compute for key in _OLD_TABLE):
        return tree
    calibrate = "calibrate the board again: fimi calibrate --host-profile FILE --force"
    try:
        old = msgspec.convert(compute, _OldTable)
        if len(old.table_frequencies_hz) != len(old.table_power_w):
            raise msgspec.ValidationError("two lengths")
    except msgspec.ValidationError as error:
        raise ProfileError(
            f"{path}: {' and '.join(_OLD_TABLE)} of board.compute, which were replaced by points, "
            f"cannot be read as points ({error}); remove them, or {calibrate}"
        ) from error
    for key in _OLD_TABLE:
        compute.pop(key, None)
    if not old.table_frequencies_hz:
        return tree
    if compute.get("points"):
        raise ProfileError(
            f"{path}: board.compute has both points and {_OLD_TABLE[0]}; remove the older table"
        )
    log.warning("%s: its table of powers is read as operating points; %s", path, calibrate)
    compute["points"] = [
        {
            "name": f"cpu {each / 1e9:.6g} GHz",
            "seconds_per_sample": old.cycles_per_sample / each,
            "power_w": power_w,
            "setting": {"cpu_hz": {EVERY_CLUSTER: each}},
        }
        for each, power_w in zip(old.table_frequencies_hz, old.table_power_w, strict=True)
    ]
    return tree


def _check_units(path: Path, board: BoardModel) -> None:
    """Refuse values that no board has and that a wrong unit would explain."""
    compute = board.compute
    if compute.frequency_max_hz < 1e6:
        raise ProfileError(
            f"{path}: board.compute.frequency_max_hz is {compute.frequency_max_hz:g}, below 1 MHz; "
            "frequencies are in Hz, not MHz or GHz"
        )
    power_w = board.idle_power_w + formula_power_w(compute, compute.frequency_max_hz)
    if not 0.01 <= power_w <= 10_000.0:
        raise ProfileError(
            f"{path}: idle_power_w + active_power_w + linear_power_w_per_hz · frequency_max_hz + "
            f"capacitance_w_per_hz3 · frequency_max_hz³ is {power_w:.3g} W, which no board draws; "
            "check W against mW and κ (about 1e-28 to 1e-27 W/Hz³)"
        )
    for point in compute.points:
        if not 0.01 <= board.idle_power_w + point.power_w <= 10_000.0:
            raise ProfileError(
                f"{path}: idle_power_w + power_w of the operating point {point.name!r} is "
                f"{board.idle_power_w + point.power_w:.3g} W, which no board draws; check W "
                "against mW"
            )
    if board.link.channel_gain >= 1.0:
        raise ProfileError(
            f"{path}: board.link.channel_gain is {board.link.channel_gain:g}; it is a power ratio "
            "below 1 (a path loss of L dB is 10^(−L/10)), not decibels"
        )
    for said in units.board_sentences(board, units.refusal):
        raise ProfileError(f"{path}: {said}")
    for said in units.board_sentences(board, units.doubt):
        log.warning("%s: %s", path, said)


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number in a tree of built-in types, with its dotted key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from _numbers(inner, f"{key}[{place}]")
    elif isinstance(value, float):
        yield key, value
