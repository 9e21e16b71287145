"""What ``fimi explain`` says of a code, and the site's page "Troubleshooting": one text for both.

A file of TOML for each letter, ``b.toml`` for ``B001`` and so on; its first line says what the
letter is. Codes of a letter are counted without gaps. One that is no longer used stays, with
``retired = true``, so that no later error gets it. ``scripts/document_errors.py`` writes
``docs/troubleshooting.md`` from the files. Commands stand between backticks.

* :class:`Explanation`  of one code
* :func:`explanations`  all of them
* :func:`subjects`      what each letter is about
* :func:`as_text`       one for a terminal
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.report.layout import Paper, wrap

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent


class Explanation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an error means, and what to do.

    Attributes:
        title: in a few words.
        means: what has happened.
        causes: the usual ones.
        steps: what to do, in this order.
        read: pages of ``docs/`` that say more.
        retired: no error has this code any more.
    """

    title: str
    means: str
    causes: tuple[str, ...]
    steps: tuple[str, ...]
    read: tuple[str, ...] = ()
    retired: bool = False


@cache
def explanations() -> dict[str, Explanation]:
    """Code to explanation, letter by letter in the order of the alphabet."""
    found: dict[str, Explanation] = {}
    for path in _files():
        with path.open("rb") as file:
            found |= msgspec.convert(tomllib.load(file), dict[str, Explanation])
    return found


@cache
def subjects() -> dict[str, str]:
    """What each letter of a code is about."""
    first = (path.read_text(encoding="utf-8").split("\n", 1)[0] for path in _files())
    return dict(line.removeprefix("# ").split(": ", 1) for line in first)


def as_text(code: str, paper: Paper) -> str:
    """The explanation of a code as lines for a terminal, without the last line break."""
    one = explanations()[code]
    lines = [f"{code}  {one.title}", ""]
    lines += wrap(_plain(one.means), paper.text_width)
    lines += ["", "Usual causes"]
    for cause in one.causes:
        lines += _item("- ", cause, paper.text_width)
    lines += ["", "What to do"]
    for number, step in enumerate(one.steps, start=1):
        lines += _item(f"{number}. ", step, paper.text_width)
    if one.read:
        lines += ["", *wrap(f"Read on: {', '.join(f'docs/{page}' for page in one.read)}", 80)]
    if one.retired:
        lines += ["", "No error of this version has this code."]
    return "\n".join(lines)


def _files() -> list[Path]:
    return sorted(_FOLDER.glob("*.toml"))


def _plain(text: str) -> str:
    """A text with commands between quotes; those with quotes of their own stand as they are."""
    return re.sub(r"`([^`]*)`", lambda m: m[1] if "'" in m[1] else f"'{m[1]}'", text)


def _item(mark: str, text: str, width: int) -> list[str]:
    """A paragraph behind a mark, with its later lines below the first word."""
    first, *others = wrap(_plain(text), width - len(mark))
    return [mark + first, *(" " * len(mark) + line for line in others)]
