"""Which other peers are online, from their births, heartbeats, deaths and silence.

It has no clock and no network: times are arguments, and every change is returned as the
:class:`DeviceState` to deliver. A last will of an earlier start is recognised by its boot id and
ignored. A peer that sends nothing for long enough is declared offline here, because not every
broker does that.

An offline state counts only after :data:`HOLD_S`. A broker that is stopped in an orderly way
publishes the last wills of all peers before it closes the own connection, and a peer that loses its
connection for an instant comes back: neither is a change. Whether a peer said itself that it has
ended (``goodbye``) stays in the state that is delivered: only who did not say so may be back soon.
What was under way to a peer that is back is lost: :meth:`Presence.has_reconnected` tells it from
the number of its connection.
"""

from __future__ import annotations

import threading

import msgspec
from msgspec import Struct

from fimi.messaging.messages.peers import DeviceState

MAX_PEERS = 10_000
"""Most peers that are followed; of more, those that have been offline for longest are forgotten."""
HOLD_S = 1.0
"""How long an offline state waits for the peer to come back, s."""


class PeerView(Struct, frozen=True, kw_only=True):
    """The state of another peer.

    Attributes:
        state: its last valid state.
        last_heard_s: time of its last message of any kind, on the monotonic clock, s.
        since_s: when ``state`` last changed between online and offline, or to a new start, s.
        silent: whether it was declared offline because it was silent.
    """

    state: DeviceState
    last_heard_s: float
    since_s: float
    silent: bool = False

    @property
    def online(self) -> bool:
        """Whether it counts as online."""
        return self.state.status == "online"


class Presence:
    """The table of peers. Safe to use from several threads."""

    def __init__(self, silent_after_s: float, hold_s: float = HOLD_S) -> None:
        """An empty table; a peer not heard of for ``silent_after_s`` counts as offline."""
        self.silent_after_s = silent_after_s
        self._hold_s = hold_s
        self._views: dict[str, PeerView] = {}
        self._going: dict[str, float] = {}
        self._goodbye: set[str] = set()
        self._lock = threading.Lock()

    def views(self) -> dict[str, PeerView]:
        """A snapshot, by peer id."""
        with self._lock:
            return dict(self._views)

    def view(self, peer: str) -> PeerView | None:
        """One peer, or ``None`` if its state was never received."""
        with self._lock:
            return self._views.get(peer)

    def absent_s(self, peer: str, now_s: float) -> float | None:
        """For how long a peer has been offline, s; ``None`` if it is not known to be."""
        view = self.view(peer)
        return None if view is None or view.online else now_s - view.since_s

    def heard(self, peer: str, now_s: float) -> DeviceState | None:
        """Note another message than a state from ``peer``; returns a change to deliver, if any."""
        with self._lock:
            view = self._views.get(peer)
            if view is None:
                return None
            if view.online:  # a late message is no reason to doubt that it goes
                self._views[peer] = msgspec.structs.replace(view, last_heard_s=now_s)
                return None
            if not view.silent:
                return None  # a late message of a peer that has gone offline by itself
            back = msgspec.structs.replace(view.state, status="online", goodbye=False)
            self._views[peer] = PeerView(state=back, last_heard_s=now_s, since_s=now_s)
            return back

    def is_news(self, state: DeviceState) -> bool:
        """Whether a state that was not noted yet changes anything; a heartbeat does not."""
        with self._lock:
            view = self._views.get(state.peer)
            if view is None:
                return True
            if state.status == "offline":
                going = state.peer in self._going and not state.goodbye
                return view.online and state.boot_id == view.state.boot_id and not going
            return state != view.state or state.peer in self._going

    def has_reconnected(self, state: DeviceState) -> bool:
        """Whether a state that was not noted yet tells of a new start or a new connection."""
        with self._lock:
            view = self._views.get(state.peer)
        if view is None or state.status == "offline":
            return False
        known = view.state
        return (state.boot_id, state.session) != (known.boot_id, known.session)

    def stated(self, state: DeviceState, now_s: float) -> DeviceState | None:
        """Note a state; returns it if it changes anything now; another connection does not."""
        with self._lock:
            view = self._views.get(state.peer)
            if view is None and not self._has_room():
                return None
            if state.status == "offline":
                if view is None:  # it was never online
                    self._views[state.peer] = PeerView(
                        state=state, last_heard_s=now_s, since_s=now_s
                    )
                elif state.boot_id != view.state.boot_id:
                    pass  # the late last will of an earlier start
                elif view.online:
                    self._going.setdefault(state.peer, now_s + self._hold_s)
                    if state.goodbye:
                        self._goodbye.add(state.peer)
                else:
                    self._views[state.peer] = msgspec.structs.replace(view, silent=False)
                return None
            self._going.pop(state.peer, None)
            self._goodbye.discard(state.peer)
            if view is not None and state == msgspec.structs.replace(
                view.state, session=state.session
            ):
                self._views[state.peer] = msgspec.structs.replace(
                    view, state=state, last_heard_s=now_s, silent=False
                )
                return None
            self._views[state.peer] = PeerView(state=state, last_heard_s=now_s, since_s=now_s)
            return state

    def _has_room(self) -> bool:
        """Whether one more peer can be followed, if need be instead of one that is offline."""
        if len(self._views) < MAX_PEERS:
            return True
        gone = [peer for peer, view in self._views.items() if not view.online]
        if not gone:
            return False
        del self._views[min(gone, key=lambda peer: self._views[peer].last_heard_s)]
        return True

    def lost(self, now_s: float) -> list[DeviceState]:
        """The peers that count as offline from now on: gone, or silent for too long."""
        lost = []
        with self._lock:
            for peer, view in self._views.items():
                if not view.online:
                    continue
                gone = self._going.get(peer, float("inf")) <= now_s
                silent = now_s - view.last_heard_s > self.silent_after_s
                if gone or silent:
                    self._going.pop(peer, None)
                    state = msgspec.structs.replace(
                        view.state, status="offline", goodbye=peer in self._goodbye
                    )
                    self._goodbye.discard(peer)
                    self._views[peer] = msgspec.structs.replace(
                        view, state=state, since_s=now_s, silent=not gone
                    )
                    lost.append(state)
        return lost

    def next_s(self) -> float:
        """When :meth:`lost` will have a peer that has said that it goes."""
        with self._lock:
            return min(self._going.values(), default=float("inf"))

    def pardon(self, now_s: float, *, wills: bool = True) -> None:
        """Count every silence from ``now_s`` again, after this peer itself could hear nothing.

        Args:
            now_s: the present time, s.
            wills: whether last wills that came just now are forgotten as well: this peer was
                offline, perhaps because the broker was stopped.
        """
        with self._lock:
            if wills:
                self._going.clear()
            for peer, view in self._views.items():
                if view.online:
                    self._views[peer] = msgspec.structs.replace(view, last_heard_s=now_s)
