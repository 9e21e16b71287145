#!/usr/bin/env python
"""Write docs/troubleshooting.md from the texts of fimi explain, testbed/explanations.

scripts/document_errors.py            writes the page
scripts/document_errors.py --check    says whether the page is as it should be
"""

from __future__ import annotations

import sys
from pathlib import Path

from fimi.testbed.explanations import Explanation, explanations, subjects

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
HEAD = """\
# Troubleshooting

<!-- This page is made by scripts/document_errors.py from testbed/explanations -->

An error of `fimi` says what is wrong, where, with which value and what to do. Its last line has its
code, such as `error[B001]`; `fimi explain B001` prints what stands below, without a network, and
`fimi explain` lists all codes. Devices give a code with the reason for which they do not take part
in a run. From Python it is `error.code`. A code is never used again for something else. Command
lines that a command does not understand are answered with its usage, and have no such line.
"""


def link(page: str) -> str:
    """A link to a page, by its title."""
    title = (PAGE.parent / page).read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
    return f"[{title}]({page})"


def section(code: str, one: Explanation) -> list[str]:
    """What is said of one code."""
    lines = [f"### {code}: {one.title}", "", one.means, "", "Usual causes:", ""]
    lines += [f"- {cause}" for cause in one.causes]
    lines += ["", "What to do:", ""]
    lines += [f"{number}. {step}" for number, step in enumerate(one.steps, start=1)]
    if one.read:
        lines += ["", f"Read on: {', '.join(map(link, one.read))}"]
    if one.retired:
        lines += ["", "No error of this version has this code."]
    return [*lines, ""]


def made() -> str:
    """The whole page."""
    lines = [HEAD]
    for letter, subject in subjects().items():
        lines += [f"## {letter}: {subject}", ""]
        for code, one in explanations().items():
            if code.startswith(letter):
                lines += section(code, one)
    return "\n".join(lines)


def main() -> int:
    """Write or check the page."""
    page = made()
    if "--check" in sys.argv[1:]:
        same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page
        if not same:
            print(f"{PAGE} is not as described; run scripts/document_errors.py", file=sys.stderr)
        return int(not same)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
