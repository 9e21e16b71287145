"""A script of faults: a TOML file with proxies, processes and faults.

:func:`read_script` reads and checks one, :func:`timeline` says what will happen when. The same file
and seed give the same timeline, whatever the machine does meanwhile. :data:`EXAMPLE` is one that
says what there is.
"""

from __future__ import annotations

import heapq
import random
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from fimi.errors import InputError
from fimi.testbed.chaos.faults import (
    AnyFault,
    ClockJump,
    Fault,
    FullDisk,
    Kill,
    LinkFault,
    Messages,
    Slow,
    target_of,
)
from fimi.testbed.chaos.line import LinkShape
from fimi.testbed.nearest import hint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class ScriptError(InputError):
    """A script of faults cannot be used; the message says what, where, and what to do."""

    code = "X007"


class ProxyPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[proxy.NAME]``: a link between peers and the broker.

    Attributes:
        broker: ``host:port`` of the broker; left out: that of ``--broker`` or ``FIMI_BROKER``.
        listen: ``address:port`` where peers connect; port 0 is a free one.
        up: what the way from the peers to the broker is like.
        down: what the way back is like.
    """

    broker: str = ""
    listen: str = "127.0.0.1:0"
    up: LinkShape = LinkShape()
    down: LinkShape = LinkShape()


class Disk(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A small file system that only one process sees, in memory.

    Attributes:
        folder: where the process sees it; must exist.
        size_bytes: its size.
    """

    folder: str
    size_bytes: Annotated[int, Meta(ge=4096, le=1 << 32)] = 16 << 20


class ProcessPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[process.NAME]``: a process that faults happen to.

    Attributes:
        command: starts it; it is ended when the script ends. One text, or a list of words.
        pid: id of a process that runs already.
        pid_file: file with the id of such a process, read at each fault.
        through: name of a proxy: ``FIMI_BROKER`` of the command names that in the broker's place,
            or its bundle does.
        bundle: file with the credentials of the command; it gets ``FIMI_BUNDLE`` then, and no
            ``FIMI_BROKER``.
        start_s: when the command is started, s after the start.
        output: file for what the command prints; appended. Left out: nowhere.
        own_clock: whether its clock can jump; needs a C compiler.
        disk: a file system that can become full.
    """

    command: str | tuple[str, ...] = ()
    pid: Annotated[int, Meta(gt=1)] | None = None
    pid_file: str = ""
    through: str = ""
    bundle: str = ""
    start_s: Annotated[float, Meta(ge=0.0, le=1e9)] = 0.0
    output: str = ""
    own_clock: bool = False
    disk: Disk | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The command as words."""
        if isinstance(self.command, str):
            return tuple(shlex.split(self.command))
        return self.command


class Script(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A script.

    Attributes:
        seed: of everything that is drawn.
        proxy: proxies by name.
        process: processes by name.
        fault: what happens.
    """

    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    proxy: dict[Name, ProxyPart] = {}
    process: dict[Name, ProcessPart] = {}
    fault: tuple[AnyFault, ...] = ()


class Happening(Struct, frozen=True, kw_only=True, order=True):
    """One fault of the timeline.

    Attributes:
        at_s: when it begins, s after the start.
        index: which ``[[fault]]`` it is of, from 0.
        number: how-manyth of that, from 1.
        for_s: how long it lasts, s; ``None``: to the end.
    """

    at_s: float
    index: int
    number: int
    for_s: float | None


def read_script(path: Path) -> Script:
    """Read a script from a file.

    Raises:
        ScriptError: it cannot be read, or something in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ScriptError(
            f"{path} cannot be read: {why}; 'fimi chaos example' prints a script"
        ) from error
    return parse_script(text, str(path))


def parse_script(text: str, name: str) -> Script:
    """A script from TOML; ``name`` stands in errors.

    Raises:
        ScriptError: something in it is wrong.
    """
    try:
        read: dict[str, Any] = tomllib.loads(text)
        script = msgspec.convert(read, Script)
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"{name} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ScriptError(f"{name}: {error}; 'fimi chaos example' shows every key") from error
    return checked(script, name)


def checked(script: Script, name: str) -> Script:
    """The script, if its names fit together.

    Raises:
        ScriptError: they do not.
    """
    for each, part in script.process.items():
        where = f"{name}: process.{each}"
        try:
            words = part.words
        except ValueError as error:
            raise ScriptError(f"{where}.command: {error}; check its quotes") from error
        if sum((bool(words), part.pid is not None, bool(part.pid_file))) != 1:
            raise ScriptError(f"{where}: give one of command, pid and pid_file")
        if not words and any((part.own_clock, part.disk, part.through, part.output, part.bundle)):
            raise ScriptError(
                f"{where}: own_clock, disk, through, output and bundle are of a process that is "
                "started here: give its command"
            )
        if part.through and part.through not in script.proxy:
            raise ScriptError(
                f"{where}.through: there is no proxy {part.through!r}: "
                f"{_known(part.through, script.proxy)}"
            )
    for number, fault in enumerate(script.fault):
        _check_fault(script, fault, f"{name}: fault[{number}]")
    return script


def _check_fault(script: Script, fault: Fault, where: str) -> None:
    target = target_of(fault)
    word = "proxy" if isinstance(fault, LinkFault) else "process"
    known = script.proxy if isinstance(fault, LinkFault) else script.process
    if target not in known:
        raise ScriptError(f"{where}: there is no {word} {target!r}: {_known(target, known)}")
    part = known[target]
    if isinstance(part, ProxyPart):
        return
    if isinstance(fault, FullDisk) and part.disk is None:
        raise ScriptError(
            f"{where}: process.{target} has no file system of its own; give it "
            'disk = {folder = "…", size_bytes = …}'
        )
    if isinstance(fault, ClockJump) and not part.own_clock:
        raise ScriptError(f"{where}: process.{target} needs own_clock = true")
    if isinstance(fault, Kill) and fault.for_s is not None and not part.words:
        raise ScriptError(
            f"{where}: a process with a pid alone cannot be started again; give process.{target} "
            "a command, or leave for_s out"
        )


def _known(name: str, known: Mapping[str, object]) -> str:
    return hint(name, known) if known else "the script has none"


def needs(script: Script, proxy: str) -> tuple[bool, bool]:
    """Whether a proxy must look into messages, and whether it will be slow."""
    faults = [each for each in script.fault if target_of(each) == proxy]
    part = script.proxy[proxy]
    slow = part.up.rate_bps is not None or part.down.rate_bps is not None
    return (
        any(isinstance(each, Messages) for each in faults),
        slow or any(isinstance(each, Slow) for each in faults),
    )


def timeline(script: Script) -> Iterator[Happening]:
    """What will happen, in the order of time; it may have no end."""

    def of(index: int, fault: Fault) -> Iterator[Happening]:
        dice = random.Random(f"{script.seed} {index}")
        for number, (at_s, for_s) in enumerate(fault.times(dice), 1):
            yield Happening(at_s=at_s, index=index, number=number, for_s=for_s)

    parts = [of(index, fault) for index, fault in enumerate(script.fault)]
    return heapq.merge(*parts, key=lambda each: (each.at_s, each.index, each.number))


def with_seed(script: Script, seed: int | None) -> Script:
    """The script with another seed, if one is given."""
    return script if seed is None else replace(script, seed=seed)


EXAMPLE = """\
# A script of faults for 'fimi chaos run'. Times are in seconds after the start.
seed = 7                                # the same seed: the same faults at the same times

# Links between peers and the broker. Peers connect to 'listen' in the broker's place.
[proxy.wifi]
# broker = "127.0.0.1:1883"             # left out: that of --broker or FIMI_BROKER
listen = "127.0.0.1:1884"               # port 0: a free one, which is printed
up = {rate_bps = 20e6, delay_s = 0.002, jitter_s = 0.003}
down = {rate_bps = 20e6, buffer_bytes = 65536}

# Processes. A command is started here, and ended when the script ends; pid = 1234 and
# pid_file = "/run/mosquitto.pid" name a process that runs already.
[process.agent]
command = "fimi agent run --id device-01 --cache cache-01"
through = "wifi"                        # its FIMI_BROKER names the proxy
# bundle = "device-01.bundle"           # or its FIMI_BUNDLE, a copy of this one, does
output = "agent.log"
# own_clock = true                      # its clock can jump; needs a C compiler
# disk = {folder = "cache-01", size_bytes = 8000000}    # can become full

# What happens: once (at_s), again and again (every_s), or at random (per_minute).
[[fault]]
kind = "cut"                            # all connections are reset
proxy = "wifi"
every_s = 3.0
for_s = 0.2                             # nobody gets in for so long

[[fault]]
kind = "half-open"                      # what comes is swallowed, nobody is told
proxy = "wifi"
way = "up"                              # up: to the broker, down: from it, both
at_s = 20.0
for_s = 30.0                            # then these connections are reset

[[fault]]
kind = "freeze"                         # nothing moves, nothing is lost
proxy = "wifi"
per_minute = 0.5
for_s = [1.0, 12.0]                     # drawn between the two
until_s = 300.0                         # none begins later

[[fault]]
kind = "slow"                           # with down_bps alone: a slow consumer
proxy = "wifi"
down_bps = 200e3
at_s = 60.0
for_s = 20.0

[[fault]]
kind = "delay"
proxy = "wifi"
delay_s = 0.3
at_s = 90.0
for_s = 10.0

[[fault]]
kind = "messages"                       # not where the connection is encrypted
proxy = "wifi"
duplicate = 0.05                        # share of messages that come twice
reorder = 0.05                          # share that later ones overtake
at_s = 0.0                              # without for_s: to the end

[[fault]]
kind = "kill"                           # SIGKILL, and its command again after for_s
process = "agent"
per_minute = 1.0
for_s = [0.5, 3.0]

[[fault]]
kind = "stop"                           # SIGSTOP, and SIGCONT after for_s
process = "agent"
at_s = 120.0
for_s = 5.0

[[fault]]
kind = "file-limit"                     # no file of the process may grow: EFBIG
process = "agent"
at_s = 150.0
for_s = 5.0

# [[fault]]
# kind = "full-disk"                    # the process's 'disk' is full: ENOSPC
# process = "agent"
# at_s = 170.0
# for_s = 5.0

# [[fault]]
# kind = "clock"                        # its time of day jumps
# process = "agent"
# jump_s = -3600.0
# at_s = 180.0
"""
