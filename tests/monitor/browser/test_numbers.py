"""Numbers on the page are written as Python writes them in reports and on the terminal."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from chromium import Browser

from fimi.energy.joules import Energy
from fimi.monitor.server.service import Dashboard
from fimi.report import words


def values() -> list[float]:
    """Ties, limits between prefixes, and many numbers of all sizes."""
    draw = random.Random(5)
    found = [
        0.0,
        -0.0,
        0.125,
        0.375,
        2.5,
        12.25,
        12.75,
        0.0625,
        99.95,
        99.949,
        100.5,
        3599.5,
        3600.0,
    ]
    found += [0.9995 * 10.0**k for k in range(-7, 12)] + [0.99949 * 10.0**k for k in range(-7, 12)]
    found += [k / 16 for k in range(1, 200)] + [k + 0.5 for k in range(90, 140)]
    found += [draw.uniform(1.0, 10.0) * 10.0 ** draw.randint(-8, 11) for _ in range(1200)]
    return found + [-value for value in found[:80]]


def deviation(value: float) -> str:
    energy = Energy(
        value_j=value, kind="emulated", source="m", uncertainty_j=abs(value) / 37 + 1e-7
    )
    said = words.plus_minus(energy).removeprefix("below resolution (")
    return "± " + said.split("± ")[1].split(" (")[0].split(",")[0]


WRITERS: dict[str, tuple[str, Callable[[float], str]]] = {
    "joules": ("w.joules(v)", words.joules),
    "percent": ("w.percent(v)", words.percent),
    "errors": ("w.signedPercent(v)", words.signed_percent),
    "losses": ("w.crossEntropy(v)", words.cross_entropy),
    "clocks": ("w.hertz(v)", words.hertz),
    "rates": ("w.bitsPerSecond(v)", words.bits_per_second),
    "times": ("w.seconds(v)", words.seconds),
    "uncertainties": (
        "w.deviation({value_j: v, uncertainty_j: Math.abs(v) / 37 + 1e-7})",
        deviation,
    ),
}


@pytest.mark.parametrize("what", WRITERS)
def test_they_are_the_same_digit_for_digit(browser: Browser, hundreds: Any, what: str) -> None:
    script, write = WRITERS[what]
    served: Dashboard
    with hundreds.serve() as served:
        browser.visit(served.url.split("?")[0] + "assets/icon.svg")
        given = values()
        found = json.loads(
            browser.run(
                "import('/assets/words.js').then(w => JSON.stringify("
                f"{json.dumps(given)}.map(v => {script})))"
            )
        )
    different = [
        (value, here, there)
        for value, here, there in zip(given, found, map(write, given), strict=True)
        if here != there
    ]
    assert different == []
