"""A number of things in words; every package may import this."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """``1 round``, ``3 rounds``: a count with its noun, which takes an s in the plural."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
