"""Numbers and kinds of joules as text, the same in the terminal and on the page.

Names of devices come from the network. :func:`fimi.record.clean.clean` removes control characters
from all of them before they are used in a report; HTML is escaped where it is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from fimi.energy.joules import (
    Energy,
    SumKind,
    format_energy,
    format_joules,
    format_modelled,
)
from fimi.record.fairness import Fairness
from fimi.record.sums import Compared, Gap, Sum, is_told, most

MISSING = "–"
"""Shown where there is no number; missing is never zero."""


def cross_entropy(value: float | None) -> str:
    """A loss: ``0.123``, or that it was not finite."""
    return "not finite" if value is None else f"{value:.3f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share between 0 and 1: ``93.1 %``."""
    return MISSING if share is None else f"{100 * share:.{digits}f} %"


def signed_percent(value: float | None) -> str:
    """An error in percent with its sign: ``+3.1 %``."""
    return MISSING if value is None else f"{value:+.1f} %".replace("-", "−")


def small_percent(value: float | None) -> str:
    """A percentage that may be tiny: ``0.42 %``, ``< 0.0001 %``."""
    if value is None:
        return MISSING
    if 0 < abs(value) < 1e-4:
        return "< 0.0001 %"
    return f"{value:.2g} %" if abs(value) < 0.1 else f"{value:.2f} %"


def percent_value(value: float | None, digits: int = 1) -> str:
    """A percentage without a sign."""
    return MISSING if value is None else f"{value:.{digits}f} %"


def joules(value_j: float | None) -> str:
    """``12.3 J``; what is left of rounding errors is ``0 J``.

    Only where the kind stands beside it: in the heading of a column, or behind the last of several.
    """
    if value_j is None:
        return MISSING
    return format_joules(_rounded(value_j))


def modelled(value_j: float | None, more: str = "") -> str:
    """Joules of a plan or a prediction: ``231 J (modelled)``, ``231 J (modelled; −2.7 %)``.

    Args:
        value_j: the joules; ``None`` where they are not known.
        more: stands behind the kind.
    """
    if value_j is None:
        return MISSING
    return format_modelled(_rounded(value_j), more)


def _rounded(value_j: float) -> float:
    return value_j if abs(value_j) >= 1e-9 else 0.0


_JOULES = ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"))


def plus_minus(energy: Energy) -> str:
    """An energy with its uncertainty and its kind: ``12.3 ± 0.4 J (emulated, board)``.

    One that is not more than two standard deviations is ``below resolution (0.40 ± 1.1 J, …)``.
    """
    value_j, deviation_j = energy.value_j, energy.uncertainty_j
    largest_j = max(abs(value_j), deviation_j)
    scale, unit = next(
        (each for each in _JOULES if largest_j >= each[0] * 0.9995),
        (1e-6, "µJ"),
    )
    digits = 3 if abs(value_j) >= deviation_j else 2
    told = f"{value_j / scale:#.{digits}g}".rstrip(".").replace("-", "−")
    said = f"{told} ± {deviation_j / scale:.2g} {unit}"
    if is_told(energy):
        return f"{said} ({energy.kind}, {energy.scope})"
    return f"below resolution ({said}, {energy.kind}, {energy.scope})"


def exposed_in_words(exposed: str) -> str:
    """What was open to others on the way to the broker of a run, with what follows from it."""
    return f"the broker was used {exposed}; results are what its messages said (--insecure)"


def above_rest(total: Sum) -> str:
    """A dynamic energy, which always has its uncertainty; with gaps as :func:`whole`."""
    if total.value is not None:
        return plus_minus(total.value)
    return whole(total)


def whole(total: Sum) -> str:
    """A sum with its kind; empty where there was nothing to add.

    With gaps: ``unknown; 165 J (emulated, board) known, without compute in round 2 of device-01``,
    and what these can hold at most, where that is known: ``: at most 31.0 J (modelled, board)``.
    """
    if total.value is not None or not total.missing:
        return format_energy(total.value) if total.value else ""
    known = f"; {format_energy(total.known)} known" if total.known else ""
    bound = f": at most {format_energy(total.unknown_max)}" if total.unknown_max else ""
    return f"unknown{known}, without {gaps(total.missing)}{bound}"


def at_least(total: Sum) -> str:
    """A sum, or what is known of it: ``at least 165 J (emulated, board)``.

    ``unknown`` where nothing of it is known; empty where there was nothing to add.
    """
    if total.value is not None or not total.missing:
        return whole(total)
    return f"at least {format_energy(total.known)}" if total.known else "unknown"


def predicted(compared: Compared, total: Sum, more: str = "") -> str:
    """What was predicted of a sum: ``predicted 184 J (modelled; +6.9 %)``, or of which part of it.

    Args:
        compared: prediction against measurement.
        total: the sum.
        more: stands behind the error.
    """
    if compared.measured is None:
        return "predicted nothing of it"
    error = signed_percent(compared.error_percent) + more
    if not compared.missing:
        return f"predicted {modelled(compared.predicted_j, error)}"
    lacking = [gap for gap in compared.missing if gap not in total.missing]
    unpredicted = f", without {gaps(lacking)}, not predicted" if lacking else ""
    return (
        f"predicted {modelled(compared.predicted_j, error)} for the "
        f"{format_energy(compared.measured)} of which both are known{unpredicted}"
    )


def gaps(missing: Iterable[Gap], most: int = 3) -> str:
    """What is missing: ``compute in round 2 of device-01, rounds 3–4 of device-02 (absent)``."""
    told: dict[tuple[str, str], list[Gap]] = {}
    for gap in missing:
        why = (
            " (absent)" if gap.absent else " (not resolved by its meter)" if gap.unresolved else ""
        )
        told.setdefault((gap.device, why), []).append(gap)
    found = [
        f"{_phases_and_rounds(own)} of {device}{why}" for (device, why), own in sorted(told.items())
    ]
    more = f" and of {len(found) - most} more devices" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def gaps_by_device(missing: Iterable[Gap]) -> dict[str, str]:
    """The same device by device: ``compute in round 2, absent in rounds 3–4: at most 31.0 J``."""
    found: dict[str, list[Gap]] = {}
    for gap in missing:
        found.setdefault(gap.device, []).append(gap)
    said = {}
    for device, own in sorted(found.items()):
        bound = most(own)
        at_most = f": at most {format_energy(bound)}" if bound else ""
        said[device] = f"{_phases_and_rounds(own, 'absent')}{at_most}"
    return said


def _phases_and_rounds(missing: Iterable[Gap], absent: str = "") -> str:
    """``compute in round 2, rounds 3–4``; ``absent`` stands for the phase of an absent device."""
    phases: dict[str, list[int]] = {}
    for gap in missing:
        phases.setdefault(gap.phase or (absent if gap.absent else ""), []).append(gap.round)
    return ", ".join(
        f"{phase} in {rounds_in_words(rounds)}" if phase else rounds_in_words(rounds)
        for phase, rounds in sorted(phases.items())
    )


def rounds_in_number(count: int) -> str:
    """``1 round``, ``40 rounds``."""
    return "1 round" if count == 1 else f"{count} rounds"


def rounds_in_words(rounds: Iterable[int]) -> str:
    """``rounds 4, 6–9`` and ``preparation``, which is round 0."""
    spans: list[list[int]] = []
    numbers = sorted(set(rounds))
    for number in (n for n in numbers if n > 0):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = ["preparation"] if 0 in numbers else []
    if spans:
        said = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in spans)
        words.append(f"round{'s' if len(spans) > 1 or spans[0][0] < spans[0][1] else ''} {said}")
    return ", ".join(words)


def hertz(value_hz: float | None) -> str:
    """``1.80 GHz``, ``123 kHz``."""
    return _scaled(value_hz, "Hz")


def byte_count(value: float | None) -> str:
    """``1.25 MB``, ``80.0 kB``."""
    return _scaled(value, "B")


def bits_per_second(value_bps: float | None) -> str:
    """``1.25 Mbit/s``, ``80.0 kbit/s``."""
    return _scaled(value_bps, "bit/s")


def _scaled(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale * 0.9995:
            return f"{value / scale:#.3g}".rstrip(".") + f" {prefix}{unit}"
    return f"{value:.3g} {unit}"


def seconds(value_s: float | None) -> str:
    """``1.23 ms``, ``3.21 s``, ``12.3 s``, ``4 min 05 s``."""
    if value_s is None:
        return MISSING
    if abs(value_s) < 1e-6:
        return "0 s"
    if value_s >= 99.95:
        minutes, rest = divmod(round(value_s), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
    scale, unit = (1.0, "s") if value_s >= 0.01 else (1e3, "ms")
    return f"{scale * value_s:#.3g}".rstrip(".") + f" {unit}"


_ORDER: tuple[SumKind, ...] = ("measured", "modelled", "emulated", "mixed")


def fairness_words(found: Fairness) -> str:
    """How evenly a model serves the devices; empty where that is not known."""
    if found.std is None:
        return ""
    unknown = sum(each is None for each in found.devices.values())
    left_out = f"; {unknown} of {len(found.devices)} not known" if unknown else ""
    return (
        f"worst {percent(found.worst)} ({found.worst_device}), mean {percent(found.mean)}, "
        f"standard deviation {100 * found.std:.1f} points{left_out}; of classes, weighted by each "
        "device's labels"
    )


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


def sum_cell(total: Sum, *, bare: bool) -> str:
    """The same of a sum; one with gaps as ``unknown; 9.80 J known``."""
    if not total.missing:
        return cell(total.value, bare=bare)
    return f"unknown; {cell(total.known, bare=bare)} known" if total.known else "unknown"


def word(energy: Energy | None, among: Iterable[Energy | None]) -> str:
    """How an energy differs from the others: its kind, its scope, or both."""
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
