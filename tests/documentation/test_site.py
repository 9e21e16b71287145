"""The site is built without a warning, holds every page, and needs nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(400)
needs_mkdocs = pytest.mark.skipif(
    importlib.util.find_spec("material") is None or importlib.util.find_spec("mkdocs") is None,
    reason="mkdocs-material is not installed (pip install 'fimi-testbed[docs]')",
)


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a repository."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(site)],
        cwd=root, capture_output=True, text=True, timeout=110, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this repository."""
    place = tmp_path_factory.mktemp("site")
    done = build(ROOT, place)
    assert done.returncode == 0, done.stderr
    return place


@needs_mkdocs
def test_every_page_is_on_the_site_and_can_be_searched(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    made = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert pages <= made
    assert {path.name for path in made - pages} == {
        "index.md", "CONTRIBUTING.md", "CHANGELOG.md", "404.md"
    }  # fmt: skip
    assert (site / "examples" / "six-pis.toml").read_bytes() == (
        ROOT / "examples" / "six-pis.toml"
    ).read_bytes()
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert "B003: the broker refuses this peer" in index


@needs_mkdocs
def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="([^"]*)"', text)
        assert fetched
        assert [url for url in fetched if re.match(r"(https?:)?//", url)] == [], page
        assert "fonts.googleapis" not in text


@needs_mkdocs
def test_a_forgotten_page_a_dead_link_and_a_dead_anchor_end_the_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("0*.md"))
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "site_hooks.py", tmp_path / "scripts")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "docs" / "new.md").write_text(
        "# New\n\n[a](gone.md) [b](planning.md#gone)\n", encoding="utf-8"
    )
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "new.md" in done.stderr.split("not included in the")[1][:200]
    assert "gone.md" in done.stderr
    assert "planning.md#gone" in done.stderr and "does not contain an anchor" in done.stderr


def chromium() -> str | None:
    """The browser, where there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@needs_mkdocs
@pytest.mark.skipif(chromium() is None, reason="chromium is not installed")
def test_the_search_works_on_a_page_that_is_opened_as_a_file(site: Path) -> None:
    browser = chromium()
    assert browser
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000",
         "--dump-dom", f"{(site / 'index.html').as_uri()}?q=deadline"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    found = re.search(r"(\d+) matching documents", done.stdout)
    assert found and int(found[1]) >= 5
