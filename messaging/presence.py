"""Who is there: births, heartbeats, deaths and silences of the other peers.

Pure bookkeeping; times come in as arguments and every change goes out as the
:class:`DeviceState` to deliver. A death notice (last will) of an earlier start is recognised by its
boot id and ignored. A peer that says nothing for long enough is declared offline here, because not
every broker does.
"""

from __future__ import annotations

import threading

import msgspec
from msgspec import Struct

from fimi.messaging.messages import DeviceState


class PeerView(Struct, frozen=True, kw_only=True):
    """What is known of another peer.

    Attributes:
        state: the last state that was believed.
        last_heard_s: when anything at all came from it, seconds on the monotonic clock.
        since_s: when ``state`` last changed between online and offline, or to a new start.
        silent: it was declared offline for its silence; it did not say so itself.
    """

    state: DeviceState
    last_heard_s: float
    since_s: float
    silent: bool = False

    @property
    def online(self) -> bool:
        """Whether it is believed to be there."""
        return self.state.status == "online"


class Presence:
    """The table of peers. Safe to use from several threads."""

    def __init__(self, silent_after_s: float) -> None:
        """An empty table.

        Args:
            silent_after_s: a peer not heard of for this long counts as offline.
        """
        self.silent_after_s = silent_after_s
        self._views: dict[str, PeerView] = {}
        self._lock = threading.Lock()

    def views(self) -> dict[str, PeerView]:
        """A snapshot, by peer id."""
        with self._lock:
            return dict(self._views)

    def view(self, peer: str) -> PeerView | None:
        """One peer, or ``None`` if its state was never heard."""
        with self._lock:
            return self._views.get(peer)

    def heard(self, peer: str, now_s: float) -> DeviceState | None:
        """Something other than a state came from ``peer``; returns a change to deliver, if any."""
        with self._lock:
            view = self._views.get(peer)
            if view is None:
                return None
            if view.online:
                self._views[peer] = msgspec.structs.replace(view, last_heard_s=now_s)
                return None
            if not view.silent:
                return None  # a straggler of a peer that has said goodbye
            back = msgspec.structs.replace(view.state, status="online")
            self._views[peer] = PeerView(state=back, last_heard_s=now_s, since_s=now_s)
            return back

    def stated(self, state: DeviceState, now_s: float) -> DeviceState | None:
        """A state was heard; returns it if it changes anything."""
        with self._lock:
            view = self._views.get(state.peer)
            if view is None and state.status == "offline":
                self._views[state.peer] = PeerView(state=state, last_heard_s=now_s, since_s=now_s)
                return None  # nobody is missed who was never there
            if view is not None:
                if state.status == "offline" and state.boot_id != view.state.boot_id:
                    return None  # the late death notice of an earlier start
                if state == view.state:
                    last_heard_s = now_s if view.online else view.last_heard_s
                    self._views[state.peer] = msgspec.structs.replace(
                        view, last_heard_s=last_heard_s, silent=False
                    )
                    return None
            self._views[state.peer] = PeerView(state=state, last_heard_s=now_s, since_s=now_s)
            return state

    def silent(self, now_s: float) -> list[DeviceState]:
        """Declare whoever has been silent for too long offline; returns those changes."""
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
        """Nobody can be blamed for a silence that was our own: count from ``now_s`` again."""
        with self._lock:
            for peer, view in self._views.items():
                if view.online:
                    self._views[peer] = msgspec.structs.replace(view, last_heard_s=now_s)
