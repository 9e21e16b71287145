"""Lengths of figures as people write them: ``88mm``, ``8.8cm``, ``3.5in``, ``252pt``."""

from __future__ import annotations

import re

_UNITS = {"mm": 1e-3, "cm": 1e-2, "in": 0.0254, "pt": 0.0254 / 72.0}
_LENGTH = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(mm|cm|in|pt)\s*")
SMALLEST_M, LARGEST_M = 0.03, 0.5


def length_m(text: str) -> float:
    """A length as ``88mm``, ``3.5in``, ``8.8cm`` or ``252pt``, in metres.

    Raises:
        ValueError: it is none, or none that a figure can have.
    """
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no length; write 88mm, 8.8cm, 3.5in or 252pt")
    value_m = float(found[1]) * _UNITS[found[2]]
    if not SMALLEST_M <= value_m <= LARGEST_M:
        raise ValueError(
            f"{text!r} is no size for a figure: from {1e3 * SMALLEST_M:g} to {1e3 * LARGEST_M:g} mm"
        )
    return value_m
