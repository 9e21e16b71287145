"""Colours of pages and pictures, read from ``assets/tokens.css``, where each stands once.

* :data:`LIGHT`, :data:`DARK`  name to ``#rrggbb``; a picture is made with the light ones
* :func:`contrast`             of two colours, by WCAG 2
"""

from __future__ import annotations

import re
from importlib import resources

CSS = (resources.files("fimi.report") / "assets" / "tokens.css").read_text(encoding="utf-8")
"""The file itself, for pages."""
_COLOUR = re.compile(r"--([a-z0-9-]+):\s*(#[0-9a-f]{6});")
_LIGHT, _DARK = CSS.split("prefers-color-scheme: dark", 1)
LIGHT = dict(_COLOUR.findall(_LIGHT))
DARK = dict(_COLOUR.findall(_DARK))
PICTURE = tuple(
    name
    for name in LIGHT
    if name in ("ink", "measured", "predicted", "line")
    or name.startswith(("phase-", "series-", "scale-"))
)
"""Names of the colours that pictures use; pages replace the light ones where they are dark."""


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` by WCAG 2, 0 to 1."""

    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2: 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
