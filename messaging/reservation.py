"""One study at a time on a fleet: its process holds the fleet from its first run to its last.

Between two runs of a study nobody has the coordinator's id, and the boards cool down. So that no
second study begins there, a study keeps a lease of its own (:mod:`fimi.messaging.leases`), from the
coordinator to itself: whoever may act as coordinator may hold the fleet. The id itself is free for
the coordinators of the study, and for one that a person starts in a pause.
"""

from __future__ import annotations

import contextlib
import secrets

from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import IdentityTaken
from fimi.messaging.identity import Identity
from fimi.messaging.link import Link
from fimi.messaging.paho_clients import CONNECT_TIMEOUT_S
from fimi.messaging.topics import COORDINATOR

_GOODBYE_S = 2.0


class Reservation:
    """A fleet, held for a study. A context manager.

    Args:
        address: of the broker.
        fleet: name of the fleet.
        what: the study, for others that want the fleet.

    Attributes:
        lost: why the fleet is no longer held: another study has taken it while this process was
            suspended; ``None`` as long as it is.
    """

    def __init__(self, address: BrokerAddress, *, fleet: str, what: str) -> None:
        self._address = address
        self._identity = Identity(
            fleet=fleet,
            peer=COORDINATOR,
            role="coordinator",
            boot_id=secrets.token_hex(8),
            what=what,
            of_study=True,
            on_lost=self._on_lost,
        )
        self._link: Link | None = None
        self.lost: IdentityTaken | None = None

    def __enter__(self) -> Reservation:
        """Take the fleet.

        Raises:
            IdentityTaken: another study has it; says which one.
            BrokerError: the broker does not answer, or its access rules forbid it.
        """
        self._link = self._identity.take(self._address, CONNECT_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        if self._link is None:
            return
        if self.lost is None and (said := self._identity.release()) is not None:
            with contextlib.suppress(ValueError, RuntimeError):  # the broker is away: it finds out
                said.wait_for_publish(_GOODBYE_S)
        self._link.close()
        self._link = None

    @property
    def is_away(self) -> bool:
        """Whether the connection to the broker is lost at the moment."""
        return self._link is not None and self._link.away_s is not None

    def _on_lost(self, error: IdentityTaken) -> None:
        self.lost = error
