"""What a run needs to go on after its coordinator was killed, beside what its record holds.

Every transition is written before it is said to anybody. A :class:`Checkpoint` is kept in the run
store under a few keys, so that a small change is a small write; what belongs to a finished round is
written together with it, in one transaction.

* :class:`RunPart`      the instance, and the epoch of the last coordinator
* :class:`DevicePart`   one device: its share, its profile, its answer to the plan
* :class:`PlanPart`     the plan of the fleet, and each device's plan
* :class:`RoundPart`    the clock, the model's digest, the boards as fitted, after the last round
* :class:`ControlPart`  what people have changed in the run
* :class:`InterimPart`  an export that is not part of the run when it goes on
* :class:`HeldUpdate`   an update that came late and waits for a round that takes it in
* :class:`Checkpoint`   all of them
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fimi.coordinator.adaptation import AdaptationState
from fimi.coordinator.learning_adaptation import LearningState
from fimi.messaging.messages.documents import Heard
from fimi.messaging.messages.facts import PlanApplied, Profile
from fimi.messaging.messages.orders import DevicePlan
from fimi.messaging.messages.synthesis import SyntheticBatch, SyntheticRequest
from fimi.optim.plans import Plan
from fimi.record.checkpoint_parts import LARGE
from fimi.record.interventions import Pausing

Part = TypeVar("Part", bound=Struct)


class RunPart(Struct, frozen=True, kw_only=True):
    """The run.

    Attributes:
        instance: its random id.
        epoch: of its last coordinator.
    """

    instance: str
    epoch: int


class DevicePart(Struct, frozen=True, kw_only=True):
    """One device that was invited.

    Attributes:
        index: its number in the run, from 0.
        profile: that it has published; ``None`` before.
        applied: its answer to its plan; ``None`` before.
        refused: why it does not take part; empty if it does.
        since_round: the first round that it has a plan for; ``None`` before.
        prepared_s: how long it received its batch, s, once that is in the run store.
    """

    index: int
    profile: Profile | None = None
    applied: PlanApplied | None = None
    refused: str = ""
    since_round: int | None = None
    prepared_s: float | None = None


class PlanPart(Struct, frozen=True, kw_only=True):
    """The plan in force.

    Attributes:
        plan: of the fleet; ``None`` where devices do not train.
        server_counts: images per class for the server.
        devices: each device's plan; empty as long as the batches are not there.
        fleet_time_s: of the fleet's clock when the first round begins, s; ``None`` before the
            devices have their batches.
        synthetic_use: share of the synthetic samples that rounds train on.
        update_bytes: size of an update in the devices' plans; 0 before there are any.
    """

    plan: Plan | None
    server_counts: tuple[int, ...] = ()
    devices: dict[str, DevicePlan] = {}
    fleet_time_s: float | None = None
    synthetic_use: float = 1.0
    update_bytes: int = 0


class RoundPart(Struct, frozen=True, kw_only=True):
    """The state after a round.

    Attributes:
        number: of the round; 0 before the first.
        fleet_time_s: of the fleet's clock, s.
        model: SHA-256 of the global model as stored; empty for the first one.
        adaptation: boards and residuals; ``None`` where devices do not train.
        learning: learning curve and errors; ``None`` where no error is planned.
        heard: what is stored of each device's facts.
    """

    number: int = 0
    fleet_time_s: float = 0.0
    model: str = ""
    adaptation: AdaptationState | None = None
    learning: LearningState | None = None
    heard: dict[str, Heard] = {}


class ControlPart(Struct, frozen=True, kw_only=True):
    """What people have changed in a run that goes on.

    Attributes:
        paused: the pause that goes on; ``None`` for none.
        excluded: devices that rest, to who asked for it.
        deadline_s: of the rounds from now on, where it was set, s.
    """

    paused: Pausing | None = None
    excluded: dict[str, str] = {}
    deadline_s: float | None = None


class InterimPart(Struct, frozen=True, kw_only=True):
    """The export of a run that was interrupted: when the run goes on, it is as if never made.

    Attributes:
        number: of the round after which it was made; 0: there is none.
    """

    number: int = 0


class HeldUpdate(Struct, frozen=True, kw_only=True):
    """An update that was ready after its round was over; the update itself is stored beside it.

    Attributes:
        device: whose.
        round: of which round.
        due_s: when its device was done, on the fleet's clock, s; 0 where it was pulled afterwards.
        samples: that it was trained on; ``None`` until its device has reported them.
        pieces: in so many the update is stored.
    """

    device: str
    round: int
    due_s: float = 0.0
    samples: float | None = None
    pieces: int = 0


class Checkpoint(Struct, frozen=True, kw_only=True):
    """All of it, as read from a run store.

    Attributes:
        run: the run.
        devices: by id.
        plan: the plan in force; ``None`` before there is one.
        batches: what the generator node has delivered, by :func:`receiver`.
        requests: what it was asked for then; the same request gives the same bytes again.
        rounds: the state after the last round.
        controls: what people have changed.
        interim: an export that was made when the run was interrupted.
        late: updates that wait for a round that takes them in.
    """

    run: RunPart
    devices: dict[str, DevicePart] = {}
    plan: PlanPart | None = None
    batches: dict[str, SyntheticBatch] = {}
    requests: dict[str, SyntheticRequest] = {}
    rounds: RoundPart = RoundPart()
    controls: ControlPart = ControlPart()
    interim: InterimPart = InterimPart()
    late: tuple[HeldUpdate, ...] = ()


_DEVICE, _BATCH, _REQUEST, _LATE = "device:", "batch:", "request:", "late:"
PIECE_BYTES = 1 << 20
"""Of a late update that are stored together."""
_encode = msgspec.msgpack.Encoder().encode


def of_run(part: RunPart) -> dict[str, bytes]:
    """The run, as keys and bytes for the run store."""
    return {"run": _encode(part)}


def of_device(device: str, part: DevicePart) -> dict[str, bytes]:
    """A device, as keys and bytes for the run store."""
    return {_DEVICE + device: _encode(part)}


def of_plan(part: PlanPart) -> dict[str, bytes]:
    """The plan, as keys and bytes for the run store."""
    return {"plan": _encode(part)}


def receiver(device: str, skip: tuple[int, ...] = ()) -> str:
    """Who a batch is for: a device, or the server, whose batches come in parts."""
    return f"{device}+{sum(skip)}" if skip else device


def of_batch(to: str, batch: SyntheticBatch, request: SyntheticRequest) -> dict[str, bytes]:
    """A batch for a :func:`receiver`, as keys and bytes for the run store."""
    return {_BATCH + to: _encode(batch), _REQUEST + to: _encode(request)}


def of_rounds(part: RoundPart) -> dict[str, bytes]:
    """The state after a round, as keys and bytes for the run store."""
    return {"rounds": _encode(part)}


def of_controls(part: ControlPart) -> dict[str, bytes]:
    """What people have changed, as keys and bytes for the run store."""
    return {"controls": _encode(part)}


def of_interim(part: InterimPart) -> dict[str, bytes]:
    """An export that does not count when the run goes on, as keys and bytes for the run store."""
    return {"interim": _encode(part)}


def of_held(held: HeldUpdate, update: bytes | Path) -> Iterator[dict[str, bytes]]:
    """A late update, as keys and bytes for the run store.

    Args:
        held: what is known of it, :func:`in_pieces`.
        update: its bytes, or a file of them.

    Yields:
        A part after another: an update is stored in pieces, so that no copy of all of it is in
        memory. They belong into one transaction.
    """
    own, *pieces = held_keys(held)
    yield {own: _encode(held)}
    with update.open("rb") if isinstance(update, Path) else io.BytesIO(update) as file:
        for key in pieces:
            yield {key: file.read(PIECE_BYTES)}


def in_pieces(held: HeldUpdate, update: bytes | Path) -> HeldUpdate:
    """A late update with the number of its pieces."""
    size = update.stat().st_size if isinstance(update, Path) else len(update)
    return replace(held, pieces=-(-size // PIECE_BYTES))


def held_keys(held: HeldUpdate) -> list[str]:
    """The keys of a late update that is stored: of what is known of it, and of its pieces."""
    own = f"{_LATE}{held.round}:{held.device}"
    return [own, *(f"{LARGE}{own}:{number}" for number in range(held.pieces))]


def read(stored: Mapping[str, bytes]) -> Checkpoint:
    """The checkpoint in a run store.

    Args:
        stored: keys and bytes.

    Raises:
        ValueError: there is none, or it cannot be read; says which part and why.
    """
    if "run" not in stored:
        raise ValueError("it holds no checkpoint: it was made by an older version of fimi")
    return Checkpoint(
        run=_part(stored, "run", RunPart),
        devices=_parts(stored, _DEVICE, DevicePart),
        batches=_parts(stored, _BATCH, SyntheticBatch),
        requests=_parts(stored, _REQUEST, SyntheticRequest),
        plan=_part(stored, "plan", PlanPart) if "plan" in stored else None,
        rounds=_part(stored, "rounds", RoundPart) if "rounds" in stored else RoundPart(),
        controls=_part(stored, "controls", ControlPart) if "controls" in stored else ControlPart(),
        interim=_part(stored, "interim", InterimPart) if "interim" in stored else InterimPart(),
        late=tuple(_parts(stored, _LATE, HeldUpdate).values()),
    )


def _parts(stored: Mapping[str, bytes], prefix: str, kind: type[Part]) -> dict[str, Part]:
    return {
        key[len(prefix) :]: _part(stored, key, kind)
        for key in sorted(stored)
        if key.startswith(prefix)
    }


def _part(stored: Mapping[str, bytes], key: str, kind: type[Part]) -> Part:
    try:
        return msgspec.msgpack.decode(stored[key], type=kind)
    except (msgspec.DecodeError, ValueError) as error:
        raise ValueError(f"its checkpoint cannot be read ({key}: {error})") from error
