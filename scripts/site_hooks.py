"""What the site takes from outside ``docs/``, for mkdocs (``hooks:`` in mkdocs.yml).

README.md becomes the first page; CONTRIBUTING.md and CHANGELOG.md are pages, ``examples/`` files to
be downloaded. Links between them and the pages are turned so that they lead to the same place on
the site as in the repository.

* :func:`on_files`          adds the pages and files
* :func:`on_page_markdown`  turns links
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
"""Pages at the root of the repository, and what they are called on the site."""
FILES = ("LICENSE",)
FOLDERS = ("examples",)
_LINK = re.compile(r"(\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=[)\s])")


def on_files(files: Files, *, config: MkDocsConfig, **_: Any) -> Files:
    """Add what stands outside ``docs/``."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    others = [ROOT / name for name in FILES]
    others += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.*"))]
    for path in others:
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and "__pycache__" not in path.parts:
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links: from where the page stands in the repository to where it stands on the site."""
    here = page.file.src_uri
    names = {site: name for name, site in PAGES.items()}
    source = names.get(here, f"docs/{here}")

    def turned(match: re.Match[str]) -> str:
        goal = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        goal = PAGES.get(goal, goal.removeprefix("docs/"))
        if goal == "docs/decisions" or goal == "decisions":
            goal = "decisions/index.md"
        relative = posixpath.relpath(goal, posixpath.dirname(here) or ".")
        return f"{match[1]}{relative}{match[3] or ''}"

    return _LINK.sub(turned, markdown)
