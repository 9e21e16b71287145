#!/usr/bin/env python
"""Write the tables of docs/record.md from the descriptions in fimi.record.schema and .views.

scripts/document_record.py            writes the page
scripts/document_record.py --check    says whether the page is as it should be
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from fimi.record.description import StoreColumn
from fimi.record.schema import TABLES
from fimi.record.views import VIEWS

PAGE = Path(__file__).parents[1] / "docs" / "record.md"
MARK = "<!-- From here on the page is made by scripts/document_record.py -->\n"


def section(name: str, about: str, columns: Iterable[StoreColumn]) -> str:
    """One table or view."""
    rows = [
        f"| `{c.name}` | {c.kind} | {c.unit or '–'} | {c.meaning}"
        f"{'; may be unknown' if c.null else ''} |"
        for c in columns
    ]
    head = "| column | type | unit | meaning |\n|---|---|---|---|"
    return "\n".join([f"### `{name}`\n", f"{about}\n", head, *rows]) + "\n"


def made() -> str:
    """Everything below the mark."""
    views = [section(view.name, view.about, view.columns) for view in VIEWS]
    tables = [section(table.name, table.about, table.described) for table in TABLES]
    return "\n".join(["\n## Views\n", *views, "## Tables\n", *tables])


def main() -> int:
    """Write or check the page."""
    before = PAGE.read_text(encoding="utf-8")
    page = before.split(MARK)[0] + MARK + made()
    if "--check" in sys.argv[1:]:
        if page != before:
            print(f"{PAGE} is not as described; run scripts/document_record.py", file=sys.stderr)
        return int(page != before)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
