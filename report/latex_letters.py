"""Text as LaTeX, and how wide it is.

* :func:`escaped`   text as LaTeX; a letter that LaTeX has not is named by its code point
* :func:`width_pt`  about how wide it is in the type of our tables
"""

from __future__ import annotations

import unicodedata

from fimi.record.clean import clean

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    '"': r"\textquotedbl{}",
    "\N{NO-BREAK SPACE}": "~",
    "−": r"\ensuremath{-}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "≈": r"\ensuremath{\approx}",
    "∞": r"\ensuremath{\infty}",
    "→": r"\ensuremath{\rightarrow}",
    "–": "--",
    "—": "---",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "µ": r"\ensuremath{\mu}",
    "μ": r"\ensuremath{\mu}",
    "Δ": r"\ensuremath{\Delta}",
    "α": r"\ensuremath{\alpha}",
    "β": r"\ensuremath{\beta}",
    "δ": r"\ensuremath{\delta}",
    "κ": r"\ensuremath{\kappa}",
    "σ": r"\ensuremath{\sigma}",
    "τ": r"\ensuremath{\tau}",
    "²": r"\ensuremath{^2}",
    "³": r"\ensuremath{^3}",
    "°": r"\ensuremath{^\circ}",
    "½": r"\ensuremath{\frac{1}{2}}",
}
_WIDTH_EM = {
    letter: width_em
    for width_em, letters in (
        (0.28, "il.,;:'|!"),
        (0.34, " -"),
        (0.40, "frtsjI()[]"),
        (0.46, "ecz"),
        (0.53, "aog0123456789vxykq?"),
        (0.57, "bdhnpu/*"),
        (0.78, "ABCDEFGHJKLNOPQRSTUVXYZw+=<>−±~"),
        (0.86, "m%&#"),
    )
    for letter in letters
}
"""Widths of letters, in em, rather more than less."""


def escaped(text: str) -> str:
    """Any text as LaTeX."""
    return "".join(_letter(letter) for letter in clean(text, 2000))


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter.isascii() and letter.isprintable():
        return letter
    plain = unicodedata.normalize("NFKD", letter)
    if len(letter) == 1 and plain[0].isascii() and plain[0].isalpha() and ord(letter) < 0x180:
        return letter  # a Latin letter with an accent
    return rf"\texttt{{U+{ord(letter):04X}}}"


def width_pt(text: str) -> float:
    """About how wide text is in Computer Modern of 8 pt; letters not listed are as wide as M."""
    return 8.5 * sum(_WIDTH_EM.get(letter, 0.92) for letter in clean(text, 2000))
