"""What a peer says of itself: that it is there, how it is, and that its id is its own.

Nothing here belongs to a run. Who may have an id: :mod:`fimi.messaging.leases`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fimi.energy.cost_model import Phase
from fimi.energy.joules import Kind, Scope
from fimi.messaging.messages.basis import Count, Message, Stage

Role = Literal["device", "generator", "coordinator"]


class DeviceState(Message, frozen=True, kw_only=True, tag="state"):
    """Birth, heartbeat and death of a peer (retained; the last will says ``offline``).

    Attributes:
        peer: id of the peer.
        role: what kind of process it is.
        status: online or offline.
        boot_id: differs after every start, so that a late last will is recognised.
        protocol: version of the conversation that it speaks; the first one did not say.
        session: how many connections this start has had, the present one included: when it has
            grown, what was under way on the one before is lost. 0 in a last will.
        goodbye: its process has ended and says so itself; in a last will it is false, because the
            peer may be back in a second.
    """

    peer: str
    role: Role
    status: Literal["online", "offline"]
    boot_id: str
    protocol: Count = 1
    session: Count = 0
    goodbye: bool = False


class Telemetry(Message, frozen=True, kw_only=True, tag="telemetry"):
    """What a device says of itself at a steady rate; the latest counts.

    Attributes:
        device: id of the device.
        boot_id: of its start.
        number: grows by one with each of them, from 1: a gap is one that was lost.
        unix_s: when it was said, by the device's clock, UNIX time, s; shown, never compared.
        stage: what the device does.
        run: the run in which it works; empty outside of one.
        round: its latest round there; 0 for none.
        power_w: what it drew when its meter was read last, W; ``None`` if unknown.
        kind: kind of that power; ``None`` for a device that has no board yet.
        source: name of the meter.
        scope: what the meter sees.
        temperature_c: of the processor, °C; ``None`` if unknown.
        phase: the phase of a round in which it drew that power; of a board without a power the one
            that it is in. An emulated board passes a phase when it ends. ``None`` between phases.
        frequency_hz: the processor's clock when it was read last, Hz; ``None`` if unknown.
        energy_j: of all phases that it has metered since it was started, J; it never falls. 0
            before the first.
    """

    device: str
    boot_id: str
    number: Annotated[int, Meta(ge=1, le=2**53)]
    unix_s: Annotated[float, Meta(ge=0, le=1e12)]
    stage: Stage
    run: str = ""
    round: Count = 0
    power_w: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    kind: Kind | None = None
    source: Annotated[str, Meta(max_length=200)] = ""
    scope: Scope | None = None
    temperature_c: Annotated[float, Meta(ge=-300, le=1000)] | None = None
    phase: Phase | None = None
    frequency_hz: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    energy_j: Annotated[float, Meta(ge=0, le=1e15)] = 0.0


class Lease(Message, frozen=True, kw_only=True, tag="lease"):
    """Who holds a peer id (retained, on the peer's own topic).

    Attributes:
        peer: the id.
        role: what kind of process holds it.
        boot_id: of the process.
        epoch: grows with every process that takes the id over.
        host: name of its machine.
        pid: its number there.
        since: when it took the id, ISO 8601, by its own clock; shown, never compared.
        held: whether it still does; false after an orderly end.
        what: what it does, for example ``"run desk-3"``; may be empty.
        nonce: of the :class:`Claim` that it answers; empty otherwise.
    """

    peer: str
    role: Role
    boot_id: str
    epoch: Annotated[int, Meta(ge=1, le=2**53)]
    host: str = ""
    pid: Count = 0
    since: str = ""
    held: bool = True
    what: str = ""
    nonce: str = ""


class Claim(Message, frozen=True, kw_only=True, tag="claim"):
    """A newcomer asks whether the holder of its id, ``peer``, is alive; answered by a lease."""

    peer: str
    nonce: str
