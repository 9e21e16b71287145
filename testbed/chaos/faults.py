"""The faults of a script: what happens to which proxy or process, and when.

When a fault happens is one of ``at_s`` (once), ``every_s`` (again and again, first after that time)
and ``per_minute`` (at random, so many times a minute on average). It begins between ``from_s`` and
``until_s``, and lasts ``for_s``: a number, two numbers to draw from, or to the end if left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

from fimi.testbed.chaos.connection import Way
from fimi.testbed.chaos.frames import MessageFaults
from fimi.testbed.chaos.line import LinkShape

Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
Positive = Annotated[float, Meta(gt=0.0, le=1e9)]


class Fault(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What all faults say.

    Attributes:
        at_s: when it happens, once, s after the start.
        every_s: time between two of them, s.
        per_minute: how many a minute there are on average, at random times.
        from_s: no earlier than this, s after the start; ``every_s`` counts from here.
        until_s: none begins later, s; ``None``: no limit.
        for_s: how long it lasts, s; two numbers: drawn evenly between them; ``None``: to the end.
    """

    at_s: Seconds | None = None
    every_s: Positive | None = None
    per_minute: Annotated[float, Meta(gt=0.0, le=6000.0)] | None = None
    from_s: Seconds = 0.0
    until_s: Seconds | None = None
    for_s: float | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("at_s", "every_s", "per_minute") if getattr(self, name)]
        given += ["at_s"] if self.at_s == 0.0 else []
        if len(given) != 1:
            raise ValueError(
                f"a fault says when it happens by one of at_s, every_s and per_minute; here "
                f"{' and '.join(given) if given else 'none'} is given"
            )
        lasts = self.for_s if isinstance(self.for_s, tuple) else (self.for_s or 0.0,)
        if not all(0.0 <= each <= 1e9 for each in lasts):
            raise ValueError(f"for_s = {self.for_s}: it lasts 0 s or longer, and 1e9 s at most")
        if lasts[0] > lasts[-1]:
            raise ValueError(f"for_s = {list(lasts)}: the first number is the smaller one")

    def times(self, dice: random.Random) -> Iterator[tuple[float, float | None]]:
        """When it happens and for how long, s; for ever if it has no end."""
        limit_s = math.inf if self.until_s is None else self.until_s
        at_s = self.from_s if self.at_s is None else self.at_s
        while True:
            if self.every_s is not None:
                at_s += self.every_s
            elif self.per_minute is not None:
                at_s += dice.expovariate(self.per_minute / 60.0)
            if at_s > limit_s:
                return
            lasts = self.for_s
            yield at_s, dice.uniform(*lasts) if isinstance(lasts, tuple) else lasts
            if self.at_s is not None:
                return


class LinkFault(Fault, frozen=True, kw_only=True):
    """A fault of a proxy, ``proxy``."""

    proxy: str


class Cut(LinkFault, frozen=True, kw_only=True, tag="cut"):
    """All connections end; while it lasts, new ones are reset at once. Left out, it lasts 0 s.

    Attributes:
        how: ``"reset"`` as a router that has forgotten them, ``"close"`` as a broker that ends.
    """

    how: Literal["reset", "close"] = "reset"


class HalfOpen(LinkFault, frozen=True, kw_only=True, tag="half-open"):
    """What comes on the connections of this moment is swallowed; new ones work.

    Attributes:
        way: ``"up"`` from the peers to the broker, ``"down"`` back, or ``"both"``.
    """

    way: Way = "both"


class Freeze(LinkFault, frozen=True, kw_only=True, tag="freeze"):
    """Nothing moves and nothing is lost, on old connections and new ones.

    Attributes:
        way: as of :class:`HalfOpen`.
    """

    way: Way = "both"


class Slow(LinkFault, frozen=True, kw_only=True, tag="slow"):
    """The link is slow. With ``down_bps`` alone the peers are slow consumers of the broker.

    Attributes:
        up_bps: rate from the peers to the broker, bit/s; ``None``: as it is.
        down_bps: rate back, bit/s.
    """

    up_bps: Annotated[float, Meta(ge=1.0)] | None = None
    down_bps: Annotated[float, Meta(ge=1.0)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.up_bps is None and self.down_bps is None:
            raise ValueError("a slow link needs up_bps, down_bps or both")


class Delay(LinkFault, frozen=True, kw_only=True, tag="delay"):
    """Everything comes later, in both ways.

    Attributes:
        delay_s: by how much, s.
        jitter_s: up to how much more, drawn for each piece, s.
    """

    delay_s: Annotated[float, Meta(ge=0.0, le=60.0)]
    jitter_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.0


class Messages(LinkFault, frozen=True, kw_only=True, tag="messages"):
    """Published messages come twice, or out of order; the fields of :class:`MessageFaults`."""

    duplicate: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    reorder: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    depth: Annotated[int, Meta(ge=1, le=1000)] = 3
    hold_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.3

    def faults(self) -> MessageFaults:
        """What is to happen."""
        return MessageFaults(
            duplicate=self.duplicate, reorder=self.reorder, depth=self.depth, hold_s=self.hold_s
        )


class ProcessFault(Fault, frozen=True, kw_only=True):
    """A fault of a process, ``process``."""

    process: str


class Kill(ProcessFault, frozen=True, kw_only=True, tag="kill"):
    """SIGKILL; after ``for_s`` its command is started again. Without ``for_s`` it stays away."""


class Stop(ProcessFault, frozen=True, kw_only=True, tag="stop"):
    """SIGSTOP; after ``for_s`` SIGCONT. A process that consumes nothing, and misses its timers."""


class FullDisk(ProcessFault, frozen=True, kw_only=True, tag="full-disk"):
    """The small file system of the process (``disk`` of its part of the script) is full."""


class FileLimit(ProcessFault, frozen=True, kw_only=True, tag="file-limit"):
    """No file of the process may grow beyond a size: writing fails with EFBIG.

    Attributes:
        limit_bytes: that size.
    """

    limit_bytes: Annotated[int, Meta(ge=0)] = 0


class ClockJump(ProcessFault, frozen=True, kw_only=True, tag="clock"):
    """The time of day of a process with ``own_clock`` jumps; durations go on as they did.

    Attributes:
        jump_s: by how much, s; negative: back.
    """

    jump_s: Annotated[float, Meta(ge=-1e9, le=1e9)]


AnyFault = (
    Cut
    | HalfOpen
    | Freeze
    | Slow
    | Delay
    | Messages
    | Kill
    | Stop
    | FullDisk
    | FileLimit
    | ClockJump
)


def target_of(fault: Fault) -> str:
    """Name of the proxy or process that a fault happens to."""
    if isinstance(fault, LinkFault):
        return fault.proxy
    assert isinstance(fault, ProcessFault)
    return fault.process


def kind_of_fault(fault: Fault) -> str:
    """The word for it in a script."""
    return str(type(fault).__struct_config__.tag)


def slower(shapes: tuple[LinkShape, LinkShape], fault: Slow | Delay) -> tuple[LinkShape, LinkShape]:
    """A link with a fault, up and down."""
    from msgspec.structs import replace

    up, down = shapes
    if isinstance(fault, Delay):
        worse = {"delay_s": fault.delay_s, "jitter_s": fault.jitter_s}
        return replace(up, **worse), replace(down, **worse)
    if fault.up_bps is not None:
        up = replace(up, rate_bps=fault.up_bps)
    if fault.down_bps is not None:
        down = replace(down, rate_bps=fault.down_bps)
    return up, down
