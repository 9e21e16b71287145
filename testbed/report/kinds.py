"""Which words say of what kind joules are, where devices of several kinds meet.

Joules of one kind and scope are said to be so once, in a heading or on an axis. In a fleet of
physical and emulated devices each number says it for itself, and a total is ``mixed`` and names its
parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from energy.joules import Energy, SumKind, format_energy, format_joules
from testbed.report.text import MISSING

_ORDER: tuple[SumKind, ...] = ("measured", "modelled", "emulated", "mixed")


def alike(energies: Iterable[Energy | None]) -> bool:
    """Whether one heading can speak for all of them."""
    return len({(e.kind, e.scope) for e in energies if e is not None}) <= 1


def heading(energies: Iterable[Energy | None]) -> str:
    """What a column says of its joules: ``emulated, board``, or that each says it for itself."""
    known = [energy for energy in energies if energy is not None]
    if not known:
        return MISSING
    return f"{known[0].kind}, {known[0].scope}" if alike(known) else "each of its kind"


def cell(energy: Energy | None, *, bare: bool) -> str:
    """Joules in a table: bare under a heading that says their kind, else with it."""
    if energy is None:
        return MISSING
    return format_joules(energy.value_j) if bare else format_energy(energy)


def word(energy: Energy | None, among: Iterable[Energy | None]) -> str:
    """What tells an energy from the others: its kind, its scope, or both."""
    if energy is None:
        return MISSING
    known = [each for each in among if each is not None]
    words = [
        mine
        for mine, others in (
            (energy.kind, {each.kind for each in known}),
            (energy.scope, {each.scope for each in known}),
        )
        if len(others) > 1
    ]
    return ", ".join(words)


def parts(energies: Iterable[Energy | None]) -> str:
    """How much of a mixed total is of which kind: ``30.3 J measured + 8.00 J emulated``.

    Empty where there is one kind only.
    """
    by_kind: dict[SumKind, list[float]] = {}
    for energy in energies:
        if energy is not None:
            by_kind.setdefault(energy.kind, []).append(energy.value_j)
    if len(by_kind) < 2:
        return ""
    return " + ".join(
        f"{format_joules(math.fsum(by_kind[kind]))} {kind}" for kind in _ORDER if kind in by_kind
    )
