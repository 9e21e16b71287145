"""``fimi fleet update``: a signed wheel is sent to boards, which try it and keep it or go back.

The wheel goes in pieces, each of which the board confirms with how many bytes it has. So a board
that has a part of it gets the rest only. Pieces are questions of the console and no transfer: it
speaks in the coordinator's place, and a coordinator that runs beside it would answer a request for
a payload that it does not have.

* :func:`update`   one board: send, let it start again, see which code is in force then
* :class:`Wheel`   what is sent; :func:`signed_wheel` makes it
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fimi.edge_agent.service.release import SignedRelease, sign, source_digest_of
from fimi.edge_agent.service.versions import TRIAL_S
from fimi.messaging.console import Console
from fimi.messaging.errors import BrokerError, MessagingError, NotAnswered
from fimi.messaging.questions import (
    AnyQuestion,
    BoardStatus,
    StatusQuestion,
    UpdateHeld,
    UpdateOffer,
    UpdatePart,
    UpdateRequest,
)

PIECE_BYTES = 96 * 1024
"""Most bytes of the wheel in one question."""

PIECE_S = 20.0
"""How long a board may be silent over one piece, s: at 60 kbit/s it takes 18."""

PIECE_TRIES = 5
"""A piece that is not confirmed is sent so often."""

BACK_S = 240.0
"""Within this a board is back, s: in the new version, or after its trial in the one before."""

_LOOK_AGAIN_S = 0.5
_OVERHEAD = 1024


class UpdateFailedError(MessagingError):
    """A board is not in the new version; the message says why, and what it is in."""

    code = "F013"


class Wheel(Struct, frozen=True, kw_only=True):
    """A signed wheel.

    Attributes:
        data: the file.
        signed: what is signed of it.
        sha256: its digest, hexadecimal.
        sources: first digits of the digest of its modules, which a board shows in its status.
    """

    data: bytes
    signed: SignedRelease
    sha256: str
    sources: str


def signed_wheel(file: Path, key: Path, *, fleet: str, older: bool = False) -> Wheel:
    """Read a wheel and sign it for a fleet.

    Raises:
        SigningKeyError: the key or the wheel cannot be used.
        UpdateError: the library that signs is missing.
        OSError: a file cannot be read.
    """
    data = file.read_bytes()
    return Wheel(
        data=data,
        signed=sign(data, key.read_bytes(), fleet=fleet, older=older),
        sha256=hashlib.sha256(data).hexdigest(),
        sources=source_digest_of(data),
    )


def update(
    console: Console,
    board: str,
    wheel: Wheel,
    progress: Callable[[str], None],
    *,
    force: bool = False,
) -> float:
    """Send a wheel to a board, and wait until the board has reported in it.

    Args:
        console: the fleet.
        board: its id.
        wheel: the wheel.
        progress: is told how far it is.
        force: also in the middle of a run, which is broken off.

    Returns:
        How long that took, s.

    Raises:
        BoardDeclines: it does not take it; says why.
        NotAnswered: it does not answer, or is not back in time.
        UpdateFailedError: it has gone back to the version before.
    """
    began_s = time.monotonic()
    _send(console, board, wheel, progress, force)
    state = console.seen(board).state
    before = "" if state is None else state.boot_id
    console.ask(board, UpdateRequest(sha256=wheel.sha256, force=force), PIECE_S)
    progress(f"starts again; it has {TRIAL_S:.0f} s to report")
    while time.monotonic() < began_s + BACK_S:
        status = _status_of_another(console, board, before)
        if status is not None and status.sources == wheel.sources:
            if not status.update:  # its trial has ended well
                return time.monotonic() - began_s
        elif status is not None and status.update:
            raise UpdateFailedError(f"{board} is in fimi {status.version} again: {status.update}")
        time.sleep(_LOOK_AGAIN_S)
    raise NotAnswered(
        f"{board} has left for the update and is not back after {BACK_S:.0f} s: look at its log on "
        "the board (journalctl -u fimi-agent)"
    )


def _send(
    console: Console, board: str, wheel: Wheel, progress: Callable[[str], None], force: bool
) -> None:
    signed, size = wheel.signed, len(wheel.data)
    offer = UpdateOffer(statement=signed.statement, signature=signed.signature, force=force)
    here = _held(console, board, offer)
    limit = console.largest_payload()
    piece = PIECE_BYTES
    if limit is not None:
        piece = max(1024, min(piece, (limit - _OVERHEAD) * 3 // 4))  # as base64 in JSON
    said = -1
    while here < size:
        part = UpdatePart(
            sha256=wheel.sha256, offset=here, payload=wheel.data[here : here + piece], force=force
        )
        here = _held(console, board, part)
        if (percent := 100 * here // size) // 10 != said:
            said = percent // 10
            progress(f"{percent} % of {size / 1e6:.1f} MB")


def _held(console: Console, board: str, question: AnyQuestion) -> int:
    """Ask until it is answered: a question that is lost with a connection does no harm twice."""
    for left in range(PIECE_TRIES - 1, -1, -1):
        try:
            reply = console.ask(board, question, PIECE_S)
        except NotAnswered:
            if not left:
                raise
            time.sleep(_LOOK_AGAIN_S)
            continue
        if isinstance(reply, UpdateHeld):
            return reply.size_bytes
        raise NotAnswered(f"{board} answers with {type(reply).__name__}")
    raise AssertionError("unreachable")


def _status_of_another(console: Console, board: str, before: str) -> BoardStatus | None:
    """The status of a board in another start than ``before``; ``None`` while there is none."""
    state = console.seen(board).state
    if state is None or state.status == "offline" or state.boot_id == before:
        return None
    with contextlib.suppress(NotAnswered, BrokerError):
        reply = console.ask(board, StatusQuestion(), 2.0)
        return reply if isinstance(reply, BoardStatus) else None
    return None
