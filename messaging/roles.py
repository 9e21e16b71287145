"""What a peer may be, and what it may say, by where it writes.

A broker with access rules (:mod:`fimi.messaging.credentials.rules`) lets only coordinator and
generator nodes write to all. So a state that came on ``…/all/state`` shows the role, and what a
device says of itself does not: a device is no generator node because it claims so.

* :func:`check_role`    a state must come where peers of its role send it
* :func:`check_sender`  a message must come from a peer of the right role

On a broker without access rules everybody may write everywhere, and this shows nothing.
"""

from __future__ import annotations

from fimi.messaging.errors import MessageRefused
from fimi.messaging.messages.basis import Message
from fimi.messaging.messages.peers import DeviceState, Role
from fimi.messaging.messages.synthesis import (
    SyntheticBatch,
    SyntheticProgress,
    SyntheticRequest,
    SyntheticSamples,
)
from fimi.messaging.topics import COORDINATOR, EVERYBODY

_ONLY: dict[type, Role] = {
    SyntheticRequest: "coordinator",
    SyntheticBatch: "generator",
    SyntheticProgress: "generator",
    SyntheticSamples: "generator",
}
"""Messages that peers of one role send, and nobody else checks."""


def state_recipient(role: Role) -> str:
    """To whom a peer of this role sends its state."""
    return COORDINATOR if role == "device" else EVERYBODY


def check_role(state: DeviceState, sender: str, recipient: str) -> None:
    """Whether a state came where peers of its role send it.

    Raises:
        MessageRefused: it did not; the peer claims a role that it does not have.
    """
    fits = recipient == state_recipient(state.role)
    if not fits or (state.role == "coordinator") != (sender == COORDINATOR):
        raise MessageRefused(
            f"{sender} says that it is a {state.role}, and its state came to {recipient!r}: "
            f"a {state.role} sends it to {state_recipient(state.role)!r}"
        )


def check_sender(message: Message, sender: str, role: Role | None) -> None:
    """Whether a peer of this role sends such a message.

    Args:
        message: what it sent.
        sender: its id.
        role: as its state has shown it; ``None``: it has sent none.

    Raises:
        MessageRefused: it does not.
    """
    only = _ONLY.get(type(message))
    is_one = sender == COORDINATOR if only == "coordinator" else role == only
    if only is not None and not is_one:
        raise MessageRefused(
            f"{type(message).__name__} from {sender}, which is no {only} here"
            + ("" if role is None else f" but a {role}")
        )
