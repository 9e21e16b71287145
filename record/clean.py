"""Foreign text without control characters; device names, for example, come from the network.

HTML is escaped where it is written (:mod:`fimi.report.markup`).
"""

from __future__ import annotations

from collections.abc import Sequence


def clean(text: object, limit: int = 200) -> str:
    """Foreign text without control characters, at most ``limit`` characters long."""
    shown = str(text)
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def enumerated(names: Sequence[str], most: int = 5) -> str:
    """``a, b, c``; of many names the first few, and how many more there are."""
    more = len(names) - most
    said = ", ".join(clean(name, 64) for name in names[:most])
    return said if more <= 0 else f"{said} and {more} more"


def shortened(names: Sequence[str], most: int = 24) -> list[str]:
    """Foreign names with at most ``most`` letters, of longer ones both ends; never two alike.

    Names of boards often begin alike and end in a number. Those that would look the same stay
    whole.
    """
    whole = [clean(name) for name in names]
    short = [_both_ends(name, most) for name in whole]
    meant: dict[str, set[str]] = {}
    for name, less in zip(whole, short, strict=True):
        meant.setdefault(less, set()).add(name)
    return [
        less if len(meant[less]) == 1 else name for name, less in zip(whole, short, strict=True)
    ]


def _both_ends(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    ahead = most // 2
    return f"{name[:ahead]}…{name[len(name) - (most - 1 - ahead) :]}"
