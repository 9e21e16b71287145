"""A browser, and what it looks at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import pytest
from chromium import CHROMIUM, Browser
from commandline import Workplace
from served import Federation, Hundreds
from synthetic_fleet import Pulse


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt install chromium)")
    with Browser() as started:
        yield started


@pytest.fixture(scope="session")
def axe() -> Callable[[Browser], list[str]]:
    """Looks for violations of accessibility on the page that is open: axe-core."""
    try:
        script = (resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    except ModuleNotFoundError:
        pytest.skip("axe-core is not installed (pip install axe-playwright-python)")

    def look(browser: Browser) -> list[str]:
        browser.run(f"if (!window.axe) {{ {script} }}; true")
        found = browser.run(
            "axe.run(document, {resultTypes: ['violations']}).then(found => JSON.stringify("
            "found.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' "
            "+ n.any.map(a => a.message)).slice(0, 3).join(' | '))))"
        )
        return list(json.loads(found))

    return look


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt install chromium)")
    place = Workplace(tmp_path_factory.mktemp("live"))
    try:
        yield Federation(place)
    finally:
        place.clean_up()


@pytest.fixture(scope="module")
def hundreds() -> Iterator[Hundreds]:
    made = Hundreds(500)
    with Pulse(made.fleet, round_s=5.0):
        yield made


@pytest.fixture(scope="module")
def complaints() -> Callable[[Browser], list[Any]]:
    """What the console said since the last time, without what a server that is gone leaves."""

    def take(browser: Browser) -> list[Any]:
        found, browser.complaints = browser.complaints, []
        return found

    return take
