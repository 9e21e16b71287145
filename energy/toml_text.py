"""Texts in lines of TOML that people paste into a profile."""

from __future__ import annotations

import json


def quoted(text: str) -> str:
    r"""A text as a TOML string, whatever is in it: quotation marks, ``\``, control characters.

    What a terminal does not show as it is stands as ``\U…``; half a surrogate, which TOML does not
    have, becomes ``?``.
    """
    body = json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in body)
