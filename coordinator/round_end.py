"""What ends a round before everybody is done: small rules that compose.

A rule knows nothing but what became of the round so far (:class:`SoFar`), and says when it ends the
round, as seconds since the round began; never is infinity. It looks back only: what happens after
that moment does not change it. So the same rule decides while a round goes on, for real devices,
and afterwards, for emulated ones, whose own clocks say what came first.

* :class:`SoFar`        who is done, and what every board draws
* :class:`BoardDraw`    joules of one board since the round began
* :class:`AtDeadline`   after some seconds
* :class:`WithUpdates`  once there are so many updates
* :class:`AtJoules`     once all boards together took so many joules
* ``a | b``             as soon as one of two rules would end it
* ``a & b``             once both would
* ``a.and_after(s)``    some seconds after a rule would
* :func:`early`         the rules of a configuration beside the deadline
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain

from msgspec import Struct

from fimi.coordinator.settings import RoundSettings
from fimi.energy.cost_model import PhaseCost
from fimi.energy.ledger import PhaseRecord

NEVER_S = math.inf


class BoardDraw(Struct, frozen=True):
    """What one board takes in a round: known or predicted stretches, then a constant power.

    Attributes:
        stretches: seconds and joules, one after another from the round's beginning.
        after_w: power after the last of them, W.
    """

    stretches: tuple[tuple[float, float], ...] = ()
    after_w: float = 0.0

    @classmethod
    def predicted(cls, costs: Iterable[PhaseCost]) -> BoardDraw:
        """By the cost model; after its phases the board idles on."""
        found = tuple(costs)
        idle_w = [c.board_j / c.duration_s for c in found if c.phase == "idle" and c.duration_s > 0]
        return cls(
            tuple((cost.duration_s, cost.board_j) for cost in found),
            idle_w[-1] if idle_w else 0.0,
        )

    def with_report(self, phases: Iterable[PhaseRecord]) -> BoardDraw:
        """As it was reported; idling is a prediction, which an unread phase counts as as well."""
        idle_w = self.after_w
        told = (
            (p.duration_s, p.energy.value_j if p.energy else idle_w * p.duration_s) for p in phases
        )
        return BoardDraw(tuple(told), idle_w)

    @property
    def steps(self) -> Iterable[tuple[float, float, float]]:
        """Changes: when, s; by how much the power changes, W; joules that are taken at once."""
        at_s, power_w = 0.0, 0.0
        for duration_s, joules in self.stretches:
            if duration_s <= 0.0:
                yield at_s, 0.0, max(0.0, joules)
                continue
            now_w = max(0.0, joules) / duration_s
            yield at_s, now_w - power_w, 0.0
            at_s, power_w = at_s + duration_s, now_w
        yield at_s, max(0.0, self.after_w) - power_w, 0.0


class SoFar(Struct, frozen=True, kw_only=True):
    """A round so far.

    Attributes:
        invited: how many devices take part.
        updates_s: when each update was there, seconds since the round began.
        draws: of every board of the fleet, taking part or resting.
    """

    invited: int
    updates_s: tuple[float, ...] = ()
    draws: tuple[BoardDraw, ...] = ()


class EndRule(Struct, frozen=True):
    """When a round ends."""

    def ends_s(self, so_far: SoFar) -> float:
        """Seconds since the round began, or infinity."""
        raise NotImplementedError

    def why(self, so_far: SoFar) -> str:
        """What ends it, in words that follow "it ended at"."""
        raise NotImplementedError

    def __or__(self, other: EndRule) -> EndRule:
        return AnyOf((self, other))

    def __and__(self, other: EndRule) -> EndRule:
        return AllOf((self, other))

    def and_after(self, seconds: float) -> EndRule:
        """The same so many seconds later."""
        return LaterBy(self, seconds)


class AtDeadline(EndRule, frozen=True):
    """After ``limit_s`` seconds."""

    limit_s: float

    def ends_s(self, so_far: SoFar) -> float:
        """The limit."""
        return self.limit_s

    def why(self, so_far: SoFar) -> str:
        """With the limit."""
        return f"its deadline of {self.limit_s:g} s"


class WithUpdates(EndRule, frozen=True):
    """Once there are ``least`` updates; below 1 it is a share of those who take part."""

    least: float

    def count(self, invited: int) -> int:
        """How many updates that are, at least 1."""
        wanted = self.least * invited if self.least < 1.0 else self.least
        return max(1, math.ceil(wanted - 1e-9))

    def ends_s(self, so_far: SoFar) -> float:
        """When the last of so many came."""
        count = self.count(so_far.invited)
        if len(so_far.updates_s) < count:
            return NEVER_S
        return sorted(so_far.updates_s)[count - 1]

    def why(self, so_far: SoFar) -> str:
        """With the number."""
        return f"its quorum of {self.count(so_far.invited)} of {so_far.invited} updates"


class AtJoules(EndRule, frozen=True):
    """Once all boards took ``limit_j`` joules."""

    limit_j: float

    def ends_s(self, so_far: SoFar) -> float:
        """When the sum of all boards comes to the limit."""
        at_s = power_w = taken_j = 0.0
        steps = sorted(chain.from_iterable(draw.steps for draw in so_far.draws))
        for when_s, change_w, joules in [*steps, (NEVER_S, 0.0, 0.0)]:
            if power_w > 0.0 and taken_j + power_w * (when_s - at_s) >= self.limit_j:
                return at_s + max(0.0, self.limit_j - taken_j) / power_w
            if when_s < NEVER_S:
                taken_j += power_w * (when_s - at_s) + joules
                at_s, power_w = when_s, max(0.0, power_w + change_w)
                if taken_j >= self.limit_j:
                    return at_s
        return NEVER_S

    def why(self, so_far: SoFar) -> str:
        """With the limit."""
        return f"its budget of {self.limit_j:g} J"


class AnyOf(EndRule, frozen=True):
    """As soon as one of these rules would end it."""

    rules: tuple[EndRule, ...]

    def ends_s(self, so_far: SoFar) -> float:
        """The earliest of their moments."""
        return min(rule.ends_s(so_far) for rule in self.rules)

    def why(self, so_far: SoFar) -> str:
        """Of the earliest."""
        return min(self.rules, key=lambda rule: rule.ends_s(so_far)).why(so_far)


class AllOf(EndRule, frozen=True):
    """Once all of these rules would end it."""

    rules: tuple[EndRule, ...]

    def ends_s(self, so_far: SoFar) -> float:
        """The latest of their moments."""
        return max(rule.ends_s(so_far) for rule in self.rules)

    def why(self, so_far: SoFar) -> str:
        """All of them."""
        return " and ".join(rule.why(so_far) for rule in self.rules)


class LaterBy(EndRule, frozen=True):
    """``seconds`` after another rule would end it."""

    rule: EndRule
    seconds: float

    def ends_s(self, so_far: SoFar) -> float:
        """Its moment and so many seconds."""
        return self.rule.ends_s(so_far) + self.seconds

    def why(self, so_far: SoFar) -> str:
        """With the seconds."""
        return f"{self.rule.why(so_far)} and {self.seconds:g} s more"


def early(settings: RoundSettings) -> EndRule | None:
    """What ends a round before its deadline and before everybody is done; ``None`` for nothing."""
    rules: list[EndRule] = []
    if settings.round_quorum:
        quorum: EndRule = WithUpdates(settings.round_quorum)
        grace_s = settings.round_quorum_grace_s
        rules.append(quorum.and_after(grace_s) if grace_s else quorum)
    if settings.round_budget_j:
        rules.append(AtJoules(settings.round_budget_j))
    if len(rules) < 2:
        return rules[0] if rules else None
    return AnyOf(tuple(rules))
