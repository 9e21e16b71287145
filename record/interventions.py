"""What an experimenter asks of a run that goes on, and what becomes of it.

* :data:`Request`          pause, go on, stop, exclude or include a device, plan again, deadline
* :class:`AskFor`, :class:`LookAt`  what goes to a coordinator: a request, or a question about one
* :class:`ControlAnswer`   what it says: accepted, done, refused
* :class:`ControlState`    what requests have made of the run so far
* :class:`Intervention`    one of them as the record has it
* :func:`words`            a request in words; :func:`after_round`  when it is served

A request is served between two rounds, so it is accepted first and done later. The coordinator
serves them in :mod:`fimi.coordinator.controls`; these types are what all sides share.
"""

from __future__ import annotations

import getpass
import socket
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

RefusalKind = Literal["", "no-plan", "over", "unfit"]
LONGEST_BY = 200
"""Characters that say who asks."""
LONGEST_DEADLINE_S = 86_400.0

By = Annotated[str, Meta(min_length=1, max_length=LONGEST_BY)]
DeviceId = Annotated[str, Meta(min_length=1, max_length=200)]


class _Request(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="do"):
    """Base of all requests; the tag is the word on the command line."""


class PauseRun(_Request, frozen=True, kw_only=True, tag="pause"):
    """Begin no further round until somebody asks to go on."""


class GoOn(_Request, frozen=True, kw_only=True, tag="resume"):
    """End the pause."""


class StopRun(_Request, frozen=True, kw_only=True, tag="stop"):
    """End the run as Ctrl-C does; it can be gone on with."""


class ExcludeDevice(_Request, frozen=True, kw_only=True, tag="exclude"):
    """Let a device rest from the next round on, and leave it out of plans.

    Attributes:
        device: its id.
    """

    device: DeviceId


class IncludeDevice(_Request, frozen=True, kw_only=True, tag="include"):
    """Take a device in again that was excluded.

    Attributes:
        device: its id.
    """

    device: DeviceId


class PlanAgain(_Request, frozen=True, kw_only=True, tag="replan"):
    """Plan frequency, bandwidth and power again, with the boards as they are known now."""


class SetDeadline(_Request, frozen=True, kw_only=True, tag="deadline"):
    """Another ``plan.deadline_s`` for the rounds from now on; the fleet is planned again.

    Attributes:
        deadline_s: on the fleet's clock, s.
    """

    deadline_s: Annotated[float, Meta(gt=0, le=LONGEST_DEADLINE_S)]


Request = PauseRun | GoOn | StopRun | ExcludeDevice | IncludeDevice | PlanAgain | SetDeadline
"""What can be asked of a run that goes on."""


class AskFor(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ask", tag_field="control"
):
    """Asks for something.

    Attributes:
        request: for what.
        by: who asks, in words, for the record: ``"the dashboard"``.
    """

    request: Request
    by: By


class LookAt(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="look", tag_field="control"
):
    """Asks what became of an earlier request.

    Attributes:
        number: as the first answer had it.
    """

    number: Annotated[int, Meta(ge=1, le=2**53)]


class ControlAnswer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became of a request so far.

    Attributes:
        number: of the request; 0 for one that was refused at once.
        state: ``accepted``: it will be served after ``after_round``; ``done``: it was; ``refused``:
            nothing was changed.
        after_round: after which round; 0: before the first.
        words: the same in a sentence; of what was refused, the reason.
        refusal: why it was refused: ``no-plan`` meets the limits, the run is ``over``, or it does
            not fit (``unfit``); empty if it was not.
    """

    number: int
    state: Literal["accepted", "done", "refused"]
    after_round: int
    words: str
    refusal: RefusalKind = ""


class PendingRequest(Struct, frozen=True, kw_only=True):
    """A request that was accepted and is not served yet.

    Attributes:
        number: of the request, counted from 1 in this process.
        request: for what.
        by: who asked.
        at: UNIX time, s.
    """

    number: int
    request: Request
    by: str
    at: float


class Pausing(Struct, frozen=True, kw_only=True):
    """A run pauses.

    Attributes:
        after_round: since the end of which round; 0: before the first.
        by: who asked for it.
        at: since when, UNIX time, s.
    """

    after_round: int
    by: str
    at: float


class ControlState(Struct, frozen=True, kw_only=True):
    """What requests have made of a run, and which of them are not served yet.

    Attributes:
        paused: the pause that goes on; ``None`` for none.
        excluded: devices that were excluded, to who asked for it.
        deadline_s: of the rounds from now on, where it was set; ``None``: as configured.
        pending: requests that were accepted, in order.
    """

    paused: Pausing | None = None
    excluded: dict[str, str] = {}
    deadline_s: float | None = None
    pending: tuple[PendingRequest, ...] = ()


class Intervention(Struct, frozen=True, kw_only=True):
    """A request that was served, as the record has it.

    Attributes:
        after_round: after which round; 0: before the first.
        request: for what.
        by: who asked, in words.
        asked_at: when, UNIX time, s.
        at: when it was served, UNIX time, s.
        done: whether it was done; else it was refused, and nothing was changed.
        words: what became of it; of what was refused, the reason.
        paused_s: of a pause that has ended with it, wall time, s; else ``None``.
        planned: whether the fleet has another plan since then.
    """

    after_round: int
    request: Request
    by: str
    asked_at: float
    at: float
    done: bool
    words: str
    paused_s: float | None = None
    planned: bool = False


def words(request: Request) -> str:
    """A request in words: ``exclude device-03``."""
    match request:
        case ExcludeDevice() | IncludeDevice():
            return f"{verb(request)} {request.device}"
        case SetDeadline():
            return f"set the deadline to {request.deadline_s:g} s"
        case GoOn():
            return "go on"
        case PlanAgain():
            return "plan again"
    return verb(request)


def after_round(number: int) -> str:
    """When something is done between rounds, in words."""
    return f"after round {number}" if number else "before round 1"


def verb(request: Request) -> str:
    """Its word on the command line."""
    return str(type(request).__struct_config__.tag)


def login(what: str) -> str:
    """Who asks from this process: ``command line (anna on lab-pc)``, as far as that is known.

    Args:
        what: by which way.
    """
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user, and no variable that names one
        name = "unknown user"
    return f"{what} ({name} on {socket.gethostname()})"[:LONGEST_BY]


decode = msgspec.json.Decoder(AskFor | LookAt).decode
"""Reads what goes to a coordinator; raises :class:`msgspec.DecodeError` or ValidationError."""
