"""Suggests the nearest known name for an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to a word; ``None`` if none is similar.

    Case and the difference between ``-`` and ``_`` are ignored.
    """
    plain = {name.lower().replace("_", "-"): name for name in known}
    found = difflib.get_close_matches(word.lower().replace("_", "-"), plain, n=1)
    return plain[found[0]] if found else None


def hint(word: str, known: Iterable[str]) -> str:
    """``did you mean 'fimi'?``, or the known names: ``there are tfl, fimi``."""
    names = tuple(known)
    meant = nearest(word, names)
    return f"did you mean {meant!r}?" if meant else f"there are {', '.join(names)}"
