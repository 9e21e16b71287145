"""Pages in a real browser: pictures are drawn, saved light, seen at every width, printed light."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stored_runs
from chromium import CHROMIUM, Browser
from msgspec.structs import replace

from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.report.figures import pictures
from fimi.report.page import write_report
from fimi.report.tokens import DARK, LIGHT

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt install chromium)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, build: Any) -> Path:
    where, names = tmp_path_factory.mktemp("seen"), [f"device-{k}" for k in range(5)]
    store = build.write(where / "a-run", names=names, close=False)
    plans = {name: stored_runs.device_plan(name, k) for k, name in enumerate(names)}
    point = replace(plans[names[0]].point, setting="gpu 691.2 MHz")  # a column more
    store.write_device_plans(plans | {names[0]: replace(plans[names[0]], point=point)})
    store.close()
    write_report(where / "a-run")
    return where / "a-run"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


def test_every_picture_is_drawn_and_nothing_is_complained_about(
    browser: Browser, folder: Path
) -> None:
    run = read_run(folder)
    browser.look()
    browser.open(folder / "report.html")
    drawn = browser.run("document.querySelectorAll('.js-plotly-plot').length")
    assert drawn == len(pictures(run, summarise(run))) > 5
    # what hovering shows is not written into the bars
    assert browser.run("document.querySelectorAll('.bartext').length") == 0
    assert not browser.run("document.getElementById('too-old').checkVisibility()")
    assert browser.complaints == []


def test_no_page_is_wider_than_its_window(browser: Browser, folder: Path) -> None:
    browser.look()
    browser.open(folder / "report.html")
    for width in (1400, 800, 420):
        browser.look(width=width)
        # pictures follow the window within moments
        browser.wait(f"document.documentElement.scrollWidth === {width}")
        wide = browser.run(
            "[...document.querySelectorAll('.scroll')]"
            ".filter(each => each.scrollWidth > each.clientWidth).length"
        )
        assert (wide == 0) == (width == 1400)  # tables fit where there is room, else they scroll


@pytest.fixture(scope="module")
def dark(browser: Browser, folder: Path) -> Browser:
    browser.look(dark=True)
    browser.open(folder / "report.html")
    return browser


def test_a_saved_picture_is_light_where_the_page_is_dark(dark: Browser) -> None:
    browser = dark
    shown = browser.run("document.querySelector('#accuracy .lines path').style.stroke")
    assert shown == f"rgb{tuple(bytes.fromhex(DARK['measured'][1:]))}"
    # what the button saves is caught on its way to the disk
    saved = browser.run(
        """new Promise((then) => {
            const make = URL.createObjectURL;
            URL.createObjectURL = (blob) => {
                blob.text().then(then);
                URL.createObjectURL = make;
                return make(blob);
            };
            document.querySelector("#accuracy").parentElement.querySelector("button").click();
        })"""
    )
    picture = ET.fromstring(saved)
    styles = " ".join(each.get("style", "") for each in picture.iter())
    for name in ("measured", "ink", "soft"):
        light, dark = (f"rgb{tuple(bytes.fromhex(theme[name][1:]))}" for theme in (LIGHT, DARK))
        assert light in styles
        assert dark not in styles
    assert "rgb(255, 255, 255)" in picture.get("style", "") + styles


def test_it_is_printed_light(dark: Browser) -> None:
    browser = dark
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    browser.wait(
        "document.querySelector('#accuracy .lines path').style.stroke === "
        f"'rgb{tuple(bytes.fromhex(LIGHT['measured'][1:]))}'"
    )
    widths = "[...document.querySelectorAll('.plot .main-svg:first-child')].map(p => p.clientWidth)"
    browser.wait(f"{widths}.every(width => width === 640)")  # none is cut off by the paper
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    browser.wait(
        "document.querySelector('#accuracy .lines path').style.stroke === "
        f"'rgb{tuple(bytes.fromhex(DARK['measured'][1:]))}'"
    )
    browser.wait(
        "[...document.querySelectorAll('.plot')].every("
        "plot => plot.querySelector('.main-svg').clientWidth === plot.clientWidth)"
    )
