"""The state in which a peer shows itself to others, encoded: birth, heartbeat, goodbye, last will.

All four are one retained message on one topic, so that the latest counts. A device sends it to the
coordinator; coordinator and generator node send theirs to all peers. So the number of heartbeats
grows with the fleet and not with its square.
"""

from __future__ import annotations

import msgspec

from fimi.learning.data.contract import PROTOCOL
from fimi.messaging import topics
from fimi.messaging.messages.peers import DeviceState, Role
from fimi.messaging.roles import state_recipient
from fimi.messaging.transfers.wire import encode_message


class OwnState:
    """The state of one peer, encoded.

    Attributes:
        topic: on which it goes.
        online: its birth and heartbeat, with the number of the present connection; empty before
            the first one.
        will: its last will: a connection has ended.
        goodbye: its process ends, and says so itself.
    """

    def __init__(self, *, fleet: str, peer: str, role: Role, boot_id: str) -> None:
        """A peer that has not been connected yet."""
        self._recipient = state_recipient(role)
        self._state = DeviceState(
            peer=peer, role=role, status="online", boot_id=boot_id, protocol=PROTOCOL
        )
        self.topic = topics.topic(fleet, peer, self._recipient, "state")
        self.online = b""
        offline = msgspec.structs.replace(self._state, status="offline")
        self.will = self._encode(offline)
        self.goodbye = self._encode(msgspec.structs.replace(offline, goodbye=True))

    def has_connected(self) -> None:
        """There is a connection, or another one than before."""
        self._state = msgspec.structs.replace(self._state, session=self._state.session + 1)
        self.online = self._encode(self._state)

    def _encode(self, state: DeviceState) -> bytes:
        return encode_message(state, sender=state.peer, recipient=self._recipient)
