"""The page of a run that goes on: what it shows is what is stored, and what it asks for happens.

One federation for the module; its tests go through a run from its beginning on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from chromium import Browser
from commandline import finish
from served import DEVICES, Federation

from fimi.monitor.terminal.listener import FeedAddress, snapshot_at
from fimi.record.interventions import GoOn, PauseRun
from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.report import words
from fimi.report.tokens import DARK, LIGHT

Axe = Callable[[Browser], list[str]]
CARDS = "[...document.querySelectorAll('#cards .card')].map(c => c.innerText)"
BUTTONS = "[...document.querySelectorAll('#buttons button')]"
PHASES = "[...document.querySelectorAll('#device tbody tr')]"
BARE = r"""[...document.querySelectorAll('.amount, td')]
    .filter(n => /^[\d.,]+ [kMm]?[JW]\b/.test(n.textContent))
    .filter(n => !n.querySelector('.kind:not([hidden])')).map(n => n.textContent)"""


@pytest.fixture(scope="module", autouse=True)
def page(browser: Browser, federation: Federation) -> None:
    browser.look()
    browser.visit(federation.door.with_key)
    browser.wait("document.querySelectorAll('tr[data-device]').length === 3")
    assert browser.run("location.search") == ""  # the key has left the address line


def state(browser: Browser) -> str:
    return str(browser.run("document.getElementById('state').textContent"))


def press_button(browser: Browser, words: str) -> None:
    button = f"{BUTTONS}.find(b => b.textContent === {json.dumps(words)})"
    browser.wait(f"{button} && !{button}.disabled")
    browser.run(f"{button}.click()")


def confirm(browser: Browser) -> None:
    browser.wait("document.querySelector('dialog[open]')")
    browser.run("document.querySelector('dialog[open] [type=submit]').click()")


def close(browser: Browser) -> None:
    browser.run("document.querySelector('dialog[open]').close()")
    browser.wait("!document.querySelector('dialog')")


def test_pause_pauses_and_is_asked_first(browser: Browser, federation: Federation) -> None:
    browser.wait("parseInt(document.querySelector('#cards .value').textContent) >= 2", 60)
    press_button(browser, "Pause after this round")
    asked = browser.run("document.querySelector('dialog').innerText")
    assert "no further round begins" in asked and state(browser) == "training"
    browser.press("Escape")  # asked, and left
    browser.wait("!document.querySelector('dialog')")
    press_button(browser, "Pause after this round")
    confirm(browser)
    browser.wait("document.getElementById('state').textContent === 'paused'", 30)
    browser.wait("document.getElementById('answer').textContent.startsWith('done:')", 30)
    assert browser.run("document.getElementById('answer').textContent").count("done:") == 1
    assert "known when the run goes on" in browser.run("document.getElementById('cards').innerText")
    close(browser)
    run = read_run(federation.folder)
    (asked_for,) = run.interventions
    assert asked_for.done and asked_for.by.startswith("the dashboard")
    assert asked_for.after_round == len(run.rounds)
    buttons = browser.run(f"{BUTTONS}.filter(b => !b.hidden).map(b => b.innerText)")
    assert "Go on" in buttons and "Pause after this round" not in buttons


def test_what_is_shown_is_what_is_stored(browser: Browser, federation: Federation) -> None:
    run = read_run(federation.folder)
    summary = summarise(run)
    last = run.rounds[-1]
    cards = "\n".join(browser.run(CARDS))
    assert summary.energy.value is not None
    assert f"{last.number} / 5000" in cards
    assert words.percent(last.evaluation.accuracy) in cards
    assert words.joules(summary.energy.value.value_j) in cards
    assert words.joules(summary.compared.predicted_j) in cards
    assert words.signed_percent(summary.compared.error_percent) in cards
    shown = browser.run(
        "[...document.querySelectorAll('tr[data-device]')].map("
        "r => [r.dataset.device, ...[...r.cells].map(c => c.textContent)])"
    )
    entries = {entry.device: entry for entry in last.devices}
    assert [row[0] for row in shown] == sorted(entries)
    for name, *cells in shown:
        energy = entries[name].energy
        assert energy is not None
        assert cells[10].startswith(f"{words.joules(energy.value_j)} ")
        assert cells[10].endswith("emulated, board"), "a number without its kind"
        assert words.hertz(entries[name].frequency_hz) in cells


def test_every_number_of_joules_or_watts_has_a_mark(browser: Browser) -> None:
    bare = browser.run(BARE)
    assert bare == []


def test_a_device_by_itself_with_its_readings(browser: Browser, federation: Federation) -> None:
    run = read_run(federation.folder)
    number = run.rounds[-1].number
    (entry,) = [d for d in run.rounds[-1].devices if d.device == "device-02"]
    browser.run("location.hash = '#device/device-02'")
    browser.wait("document.querySelectorAll('#device tbody tr').length > 0")
    phases = browser.run(f"{PHASES}.map(r => [...r.cells].map(c => c.textContent))")
    assert browser.run("document.getElementById('trace-round').value") == str(number)
    assert [row[0] for row in phases] == [p.phase.replace("-", " ") for p in entry.phases]
    for row, phase in zip(phases, entry.phases, strict=True):
        assert phase.energy is not None and row[3].startswith(words.joules(phase.energy.value_j))
        assert f"{phase.sample_count} reading" in row[4]
    browser.wait("document.querySelectorAll('#device .js-plotly-plot').length === 2")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1400, 420])
def test_axe_finds_nothing(browser: Browser, axe: Axe, width: int, dark: bool) -> None:
    browser.look(width=width, dark=dark)
    for place in ("", "#device/device-02"):
        browser.run(f"location.hash = {place!r}")
        browser.wait(f"document.getElementById('device').hidden === {json.dumps(not place)}")
        assert axe(browser) == []
        assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run("location.hash = ''")
    press_button(browser, "Set the deadline …")
    assert axe(browser) == []
    close(browser)
    browser.look()


def test_going_on_and_another_deadline(browser: Browser, federation: Federation) -> None:
    press_button(browser, "Go on")
    confirm(browser)
    browser.wait("document.getElementById('state').textContent === 'training'", 30)
    close(browser)
    press_button(browser, "Set the deadline …")
    browser.run("document.querySelector('dialog input').value = '37.5'")
    confirm(browser)
    browser.wait(
        "document.getElementById('cards').textContent.includes('deadline of a round 37.5 s')", 40
    )
    close(browser)
    pause, go_on, *_ = read_run(federation.folder).interventions
    assert (pause.request, go_on.request) == (PauseRun(), GoOn())
    assert pause.after_round == go_on.after_round, "rounds went on while the run was paused"


def test_a_device_is_excluded_and_taken_in_again(browser: Browser) -> None:
    browser.run("location.hash = '#device/device-03'")
    badge = "document.querySelector('#device .badge').textContent"
    own = "[...document.querySelectorAll('#device button')]"
    for words_there, shown in (("Exclude this device", True), ("Take it in again", False)):
        button = f"{own}.find(b => b.textContent === {words_there!r} && !b.hidden && !b.disabled)"
        browser.wait(button)
        browser.run(f"{button}.click()")
        confirm(browser)
        browser.wait(f"({badge} === '■ excluded') === {json.dumps(shown)}", 40)
        close(browser)
    browser.run("location.hash = ''")


def test_colours_are_chosen_and_remembered(browser: Browser, federation: Federation) -> None:
    choice = "document.getElementById('theme')"
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = (browser_colour(each["paper"]) for each in (LIGHT, DARK))
    assert browser.run(paper) == light
    browser.run(f"{choice}.value = 'dark'; {choice}.dispatchEvent(new Event('change'))")
    assert browser.run(paper) == dark
    browser.visit(federation.door.url)
    browser.wait("document.querySelectorAll('tr[data-device]').length === 3")
    assert browser.run(paper) == dark
    browser.run(f"{choice}.value = 'auto'; {choice}.dispatchEvent(new Event('change'))")
    assert browser.run(paper) == light


def browser_colour(colour: str) -> str:
    """``#rrggbb`` as a browser says it."""
    return f"rgb({', '.join(str(int(colour[k : k + 2], 16)) for k in (1, 3, 5))})"


def test_a_killed_agent_turns_red_and_says_so(browser: Browser, federation: Federation) -> None:
    killed = federation.agents["device-02"]
    began_unix_s = time.time()
    killed.kill()
    browser.wait("document.querySelector('tr[data-device]').className === 'problem gone'", 60)
    finish(killed)
    now = snapshot_at(FeedAddress(url=federation.door.url))
    told = [said for said in now.said.values() if said.text.startswith("device-02: went offline")]
    seen_unix_s = now.devices["device-02"].seen_unix_s
    assert seen_unix_s is not None
    # The broker tells of it at once; nobody waits for a silence of many seconds. On a machine that
    # is slow all of it is: then the others are late as well.
    others = (now.devices[name].seen_unix_s for name in DEVICES if name != "device-02")
    late_s = max(now.unix_s - (other or 0.0) for other in others)
    assert told[-1].unix_s - max(began_unix_s, seen_unix_s) < 5.0 + late_s
    row = "document.querySelector('tr[data-device]')"
    assert browser.run(f"{row}.dataset.device") == "device-02", "problems stand first"
    assert browser.run(f"{row}.cells[1].textContent") == "✖ gone"
    told = browser.run("document.getElementById('needs').innerText")
    assert "device-02" in told
    browser.wait("document.getElementById('announcer').textContent.includes('device-02 gone')", 15)
    assert browser.run("document.title").startswith("▲ 1")


def test_nobody_acts_without_the_key(browser: Browser, federation: Federation) -> None:
    """In a browser that has no cookie: the same address under another name of this machine."""
    browser.visit(federation.door.url.replace("127.0.0.1", "localhost"))
    browser.wait("document.querySelectorAll('tr[data-device]').length === 3")
    browser.wait("document.getElementById('why-not').checkVisibility()")
    assert browser.run(f"{BUTTONS}.every(b => b.disabled)")
    browser.visit(federation.door.url)


def test_the_end_of_a_run_stays_on_the_page(
    browser: Browser, federation: Federation, complaints: Any
) -> None:
    browser.wait("document.querySelectorAll('tr[data-device]').length === 3")
    assert complaints(browser) == [], "the console complained"
    press_button(browser, "Stop the run")
    confirm(browser)
    browser.wait(
        "document.getElementById('connection').textContent.includes('The run has ended')", 40
    )
    browser.wait("document.getElementById('state').textContent === 'interrupted'", 5)
    shown = browser.run("document.querySelector('#cards .value').textContent")
    assert shown == f"{len(read_run(federation.folder).rounds)} / 5000"
