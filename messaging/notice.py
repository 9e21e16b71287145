"""What a peer says of itself in its lease: what it does, and whom it sets aside.

Others read it: a second process that wants the id, and people (``fimi fleet status``).
"""

from __future__ import annotations

import time

from fimi.messaging.identity import Identity
from fimi.messaging.offenders import Offender, Offenders

_NAMED = 3


class LeaseNotice:
    """What one peer says; ``what`` is what it does, for example ``"run desk-3"``."""

    def __init__(self, identity: Identity, offenders: Offenders, what: str) -> None:
        self._identity = identity
        self._offenders = offenders
        self._what = what
        self._named: tuple[str, ...] = ()

    @property
    def aside(self) -> tuple[Offender, ...]:
        """Who is set aside at present."""
        now_s = time.monotonic()
        return tuple(each for each in self._offenders.seen() if each.until_s > now_s)

    def describe(self, what: str) -> None:
        """Say something else of what it does."""
        self._what = what
        self._identity.describe(self._in_words())

    def show_aside(self) -> None:
        """Say who is set aside, if that has changed."""
        if not self._offenders.version:
            return
        named = tuple(each.sender for each in self.aside)
        if named != self._named:
            self._named = named
            self._identity.describe(self._in_words())

    def _in_words(self) -> str:
        if not (names := self._named):
            return self._what
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        said = f"sets aside {', '.join(names[:_NAMED])}{more}"
        return f"{self._what}, {said}" if self._what else said
