"""The errors between the processes.

::

    MessagingError
    ├── BrokerError                 the broker, or the connection to it
    │   ├── BrokerUnreachable       there is no answer at that host and port
    │   ├── BrokerTimeout           there is an answer, but not in time or not in MQTT
    │   ├── ClockBehind             its certificate is not valid yet by the clock of this machine
    │   ├── NotAuthorised           wrong user name or password, or refused by the broker
    │   ├── BrokerMissing           no broker program is installed
    │   ├── PortTaken               another program listens on the port
    │   └── BrokerFailed            the embedded broker did not start or ended by itself
    ├── NotConnected                used before ``connect`` or after ``close``
    ├── IdentityTaken               another process uses the peer id
    ├── SendQueueFull               offline for so long that no more messages can wait
    ├── MessageRefused              a message must not be sent, or is not valid
    ├── NotAnswered                 a board does not answer a console; says why
    ├── PeerIsUp                    a peer that is to be forgotten lives, or may do so
    ├── BoardDeclines               a board answers that it does not do what it was asked
    └── TransferError               a payload could not be fetched
        ├── TransferCancelled       because the caller no longer wants it
        ├── PayloadGone             because its holder does not serve it (any more)
        └── PayloadUnusable         because it is too large, or not what was offered
"""

# ruff: noqa: N818 - the names say what has happened, not that it is an error
from __future__ import annotations

from fimi.errors import SurroundingsError
from fimi.messaging.messages.peers import Lease


class MessagingError(SurroundingsError):
    """Base of all errors of this package."""

    code = "B010"


class BrokerError(MessagingError):
    """The broker, or the connection to it, is at fault."""


class BrokerUnreachable(BrokerError):
    """There is no answer at the broker's host and port."""

    code = "B001"


class BrokerTimeout(BrokerError):
    """Something answers at the broker's port, but not in time, or not in MQTT."""

    code = "B002"


class ClockBehind(BrokerError):
    """The broker's certificate is not valid yet by the clock of this machine.

    A board without a battery for its clock begins in the past, until the network has told it the
    time.
    """

    code = "B005"


class NotAuthorised(BrokerError):
    """The broker refuses this user, password or client id."""

    code = "B003"


class BrokerMissing(BrokerError):
    """No broker program of the wanted kind is installed."""

    code = "B006"


class PortTaken(BrokerError):
    """Another program already listens on the wanted port."""

    code = "B007"


class BrokerFailed(BrokerError):
    """The embedded broker did not start, or ended by itself."""

    code = "B008"


class NotConnected(MessagingError):
    """The peer was used before ``connect`` or after ``close``."""


class IdentityTaken(MessagingError):
    """Another process uses the peer id, or has taken it over; ``holder`` is its lease, if known."""

    code = "B009"

    def __init__(self, text: str, holder: Lease | None = None) -> None:
        super().__init__(text)
        self.holder = holder


class SendQueueFull(MessagingError):
    """The peer has been offline for so long that no more messages can wait."""

    code = "B012"


class MessageRefused(MessagingError):
    """A message must not be sent, or a received one is not valid."""

    code = "B013"


class NotAnswered(MessagingError):
    """A board does not answer a console: it is offline, older, of another protocol, or silent."""

    code = "F005"


class PeerIsUp(MessagingError):
    """A peer that the broker is to forget answers, or its last word is that it is online."""

    code = "F007"


class BoardDeclines(MessagingError):
    """A board does not do what a console has asked; its words say why."""

    code = "F006"


class TransferError(MessagingError):
    """A payload could not be fetched."""

    code = "B014"


class TransferCancelled(TransferError):
    """A payload was not fetched because the caller no longer wants it."""


class PayloadGone(TransferError):
    """The holder of a payload answers that it does not serve it; it may do so again."""


class PayloadUnusable(TransferError):
    """A payload is too large, or its holder serves something else; asking again does not help."""
