"""The page of an experiment: runs in place of devices."""

from __future__ import annotations

from collections.abc import Callable

from chromium import Browser

from fimi.monitor.server.hooks import NoHooks
from fimi.monitor.server.service import Dashboard
from fimi.monitor.snapshot import RunNow, Said, Snapshot, StudyNow, StudyTable, TaskNow

EVIL = "<img src=x onerror='window.hacked = 1'>"
STUDY = StudyNow(
    name="digits",
    title="FIMI against TFL",
    done=7,
    runs=20,
    failed={"tfl seed 2": f"no plan {EVIL}"},
    running={"fimi seed 3": TaskNow(done=4, steps=20, since_s=33.2)},
    left_s=400.0,
    tables=(
        StudyTable(
            caption="Energy to accuracy",
            heading=("strategy", "energy\nkJ (emulated)"),
            rows=(("fimi", "1.2"), ("tfl", "4.2")),
        ),
    ),
    notes=("two seeds only",),
)


class Now:
    """An experiment that stands still."""

    def snapshot(self) -> Snapshot:
        run = RunNow(name="digits", title="experiment digits", state="running")
        said = {"1": Said(unix_s=1.0, text="tfl seed 2 FAILED", problem=True)}
        return Snapshot(unix_s=2.0, run=run, said=said, study=STUDY)


def test_it_has_runs_failures_and_results(
    browser: Browser, axe: Callable[[Browser], list[str]]
) -> None:
    with Dashboard(Now(), NoHooks(), folder=None) as served:
        browser.look(width=420)
        browser.visit(served.url)
        browser.wait("document.querySelector('#study table')")
        told = browser.run("document.getElementById('study').innerText")
        for words in ("7 of 20 runs ended", "1 of them failed", "≈ 7 min left", "two seeds only"):
            assert words in told
        assert EVIL in told and browser.run("window.hacked === undefined")
        rows = "[...document.querySelectorAll('#study tbody tr')].map(r => r.innerText)"
        assert browser.run(rows) == ["fimi\t1.2", "tfl\t4.2"]
        for part in ("cards", "fleet", "generator", "rounds", "controls", "keys"):
            assert not browser.run(f"document.getElementById('{part}').checkVisibility()")
        assert browser.run("document.title") == "7/20 · digits"
        assert axe(browser) == []
        assert browser.run("document.documentElement.scrollWidth") <= 420
        assert browser.complaints == []
        browser.visit("about:blank")
