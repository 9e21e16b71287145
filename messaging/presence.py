"""Which other peers are online, from their births, heartbeats, deaths and silence.

It has no clock and no network: times are arguments, and every change is returned as the
:class:`DeviceState` to deliver. A last will of an earlier start is recognised by its boot id and
ignored. A peer that sends nothing for long enough is declared offline here, because not every
broker does that.
"""

from __future__ import annotations

import threading

import msgspec
from msgspec import Struct

from fimi.messaging.messages import DeviceState


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

    def __init__(self, silent_after_s: float) -> None:
        """An empty table; a peer not heard of for ``silent_after_s`` counts as offline."""
        self.silent_after_s = silent_after_s
        self._views: dict[str, PeerView] = {}
        self._lock = threading.Lock()

    def views(self) -> dict[str, PeerView]:
        """A snapshot, by peer id."""
        with self._lock:
            return dict(self._views)

    def view(self, peer: str) -> PeerView | None:
        """One peer, or ``None`` if its state was never received."""
        with self._lock:
            return self._views.get(peer)

    def heard(self, peer: str, now_s: float) -> DeviceState | None:
        """Note another message than a state from ``peer``; returns a change to deliver, if any."""
        with self._lock:
            view = self._views.get(peer)
            if view is None:
                return None
            if view.online:
                self._views[peer] = msgspec.structs.replace(view, last_heard_s=now_s)
                return None
            if not view.silent:
                return None  # a late message of a peer that has gone offline by itself
            back = msgspec.structs.replace(view.state, status="online")
            self._views[peer] = PeerView(state=back, last_heard_s=now_s, since_s=now_s)
            return back

    def stated(self, state: DeviceState, now_s: float) -> DeviceState | None:
        """Note a state; returns it if it changes anything."""
        with self._lock:
            view = self._views.get(state.peer)
            if view is None and state.status == "offline":
                self._views[state.peer] = PeerView(state=state, last_heard_s=now_s, since_s=now_s)
                return None  # it was never online
            if view is not None:
                if state.status == "offline" and state.boot_id != view.state.boot_id:
                    return None  # the late last will of an earlier start
                if state == view.state:
                    heard_s = now_s if view.online else view.last_heard_s
                    view = msgspec.structs.replace(view, last_heard_s=heard_s, silent=False)
                    self._views[state.peer] = view
                    return None
            self._views[state.peer] = PeerView(state=state, last_heard_s=now_s, since_s=now_s)
            return state

    def silent(self, now_s: float) -> list[DeviceState]:
        """Declare peers offline that have been silent for too long; returns those changes."""
        lost = []
        with self._lock:
            for peer, view in self._views.items():
                if view.online and now_s - view.last_heard_s > self.silent_after_s:
                    state = msgspec.structs.replace(view.state, status="offline")
                    self._views[peer] = msgspec.structs.replace(
                        view, state=state, since_s=now_s, silent=True
                    )
                    lost.append(state)
        return lost

    def pardon(self, now_s: float) -> None:
        """Count every silence from ``now_s`` again, after this peer itself was offline."""
        with self._lock:
            for peer, view in self._views.items():
                if view.online:
                    self._views[peer] = msgspec.structs.replace(view, last_heard_s=now_s)
