"""A joule is never bare: it has a value, a kind, a source, a scope and an uncertainty.

:class:`Energy` is the only type in which an amount of energy leaves a meter, travels, is stored
or is shown. A sum of energies of one kind is of that kind. A sum of several kinds is ``mixed``:
only its parts say how they came to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

Kind = Literal["measured", "modelled", "emulated"]
"""``measured``: a physical meter read it. ``modelled``: a formula or a declared power gave it.
``emulated``: no physical device was involved."""

SumKind = Literal["measured", "modelled", "emulated", "mixed"]
"""The kind of a sum."""

Scope = Literal["cpu", "gpu", "module", "board", "wall"]
"""What the meter sees: the processor, the graphics card, the compute module, the whole board, or
all that the device takes from the wall."""

SCOPE_WIDTH: dict[Scope, int] = {"cpu": 0, "gpu": 0, "module": 1, "board": 2, "wall": 3}
"""How much a meter sees: the larger, the more."""


class Energy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An amount of energy and what is known about it.

    Attributes:
        value_j: joules; finite. Negative only for the difference of two energies.
        kind: how the number came to be; ``mixed`` only of a sum.
        source: the meter or formula, for example ``"rapl:package-0"``.
        scope: what part of the device it covers.
        uncertainty_j: one standard deviation, joules.
        common_j: the part of it that all figures of its meter share, as the error of the gain;
            ``None``: all of it.
    """

    value_j: float
    kind: SumKind
    source: str
    scope: Scope = "board"
    uncertainty_j: float = 0.0
    common_j: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value_j) or not math.isfinite(self.uncertainty_j):
            raise ValueError(
                f"energy from {self.source!r} is {self.value_j} J ± {self.uncertainty_j} J; "
                "a missing reading must be left out, not written as a number"
            )
        if self.uncertainty_j < 0.0:
            raise ValueError(
                f"energy from {self.source!r} has uncertainty {self.uncertainty_j} J; "
                "one standard deviation is never negative"
            )

    @property
    def shared_j(self) -> float:
        """The part of the uncertainty that all figures of its meter share, J."""
        return self.uncertainty_j if self.common_j is None else self.common_j

    @property
    def own_j(self) -> float:
        """The part of the uncertainty that it shares with no other figure, J."""
        if self.common_j is None:
            return 0.0
        return math.sqrt(max(0.0, self.uncertainty_j**2 - self.common_j**2))

    def __str__(self) -> str:
        return format_energy(self)


def total(parts: Iterable[Energy], *, one_meter: bool = False) -> Energy | None:
    """Sum of energies, or ``None`` for no parts (missing is never zero).

    The sum has the kind of its parts or ``mixed``, the widest scope, and every source of its
    parts, each named once and joined by ``+``.

    Args:
        parts: the energies to add.
        one_meter: the parts come from the same meter or meters. Then what their uncertainties
            have in common adds up, and the rest adds in quadrature. Otherwise they are independent
            and add in quadrature.
    """
    items = list(parts)
    if not items:
        return None
    kinds = {part.kind for part in items}
    own_j = math.hypot(*(part.uncertainty_j for part in items))
    common_j = None
    if one_meter:
        common_j = math.fsum(part.shared_j for part in items)
        own_j = math.hypot(common_j, *(part.own_j for part in items))
    named = dict.fromkeys(part.source for part in items)
    sources = sorted({source for each in named for source in each.split("+")})
    return Energy(
        value_j=math.fsum(part.value_j for part in items),
        kind=kinds.pop() if len(kinds) == 1 else "mixed",
        source="+".join(sources),
        scope=max(dict.fromkeys(part.scope for part in items), key=SCOPE_WIDTH.__getitem__),
        uncertainty_j=own_j,
        common_j=common_j,
    )


def share(energy: Energy, part: float) -> Energy:
    """A part of an energy, 0 to 1: from the same meter, with the same relative uncertainty."""
    return replace(
        energy,
        value_j=energy.value_j * part,
        uncertainty_j=energy.uncertainty_j * part,
        common_j=None if energy.common_j is None else energy.common_j * part,
    )


def format_joules(value_j: float) -> str:
    """Joules with three significant digits and a suitable prefix: ``12.3 J``, ``4.56 kJ``."""
    if value_j == 0.0:
        return "0 J"
    units = ((1e9, "GJ"), (1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"))
    scale, unit = next((each for each in units if abs(value_j) >= each[0] * 0.9995), (1e-6, "µJ"))
    return f"{value_j / scale:#.3g}".rstrip(".") + f" {unit}"


def format_modelled(value_j: float, more: str = "") -> str:
    """Joules that a formula gave: ``231 J (modelled)``; ``more`` stands behind the kind.

    What a plan predicts has no meter, so its kind is always ``modelled``.
    """
    return f"{format_joules(value_j)} (modelled{f'; {more}' if more else ''})"


def format_energy(energy: Energy) -> str:
    """The one way an energy is shown to a person: ``12.3 J (emulated, board)``."""
    return f"{format_joules(energy.value_j)} ({energy.kind}, {energy.scope})"
