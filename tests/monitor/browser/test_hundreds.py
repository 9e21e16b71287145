"""The page with five hundred devices, with text that wants to be more, and without its server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from chromium import Browser
from served import Hundreds
from synthetic_fleet import BOARDS

from fimi.record.events import DeviceJoined, DeviceReported

ROWS = "[...document.querySelectorAll('tr[data-device]')]"
HEADS = "[...document.querySelectorAll('thead button')]"
WATCHING = """window.added = 0;
    new MutationObserver(all => added += all.filter(m => m.type === 'childList').length)
        .observe(document.querySelector('.rows tbody'), {childList: true, subtree: true})"""
CLEARED = """document.getElementById('filter').value = '';
    document.getElementById('filter').dispatchEvent(new Event('input'))"""
FOCUSED = "document.activeElement.closest('tr')?.dataset.device"


@pytest.fixture(scope="module", autouse=True)
def page(browser: Browser, hundreds: Hundreds) -> Any:
    with hundreds.serve() as served:
        browser.look()
        browser.visit(served.url)
        browser.wait("document.querySelectorAll('tr[data-device]').length > 0")
        yield
        browser.visit("about:blank")


def test_only_rows_that_are_seen_are_drawn(browser: Browser) -> None:
    assert browser.run("document.getElementById('fleet').textContent.includes('500 devices')")
    assert browser.run(f"{ROWS}.length") < 60
    table = "document.querySelector('.rows table')"
    assert browser.run(f"{table}.getAttribute('aria-rowcount')") == "502"
    browser.run("document.querySelector('.rows').scrollTop = 1e6")
    browser.wait(f"{ROWS}.at(-1).dataset.device === 'device-500'")
    assert browser.run(f"{ROWS}.at(-1).getAttribute('aria-rowindex')") == "502"
    assert browser.run(f"{ROWS}.length") < 60
    whole = browser.run("document.querySelector('.rows').scrollHeight")
    assert 500 * 33 <= whole <= 500 * 33 + 100


def test_cells_stay_where_they_are_while_numbers_change(browser: Browser) -> None:
    """A second's snapshot changes texts; rows and cells are the same elements."""
    browser.run("document.querySelector('.rows').scrollTop = 0; window.kept = 0")
    browser.wait(f"{ROWS}[0].dataset.device === 'device-001'")
    browser.run(f"window.row = {ROWS}[0]; window.before = row.cells[6].textContent")
    browser.run(WATCHING)
    browser.wait("row.cells[6].textContent !== before", 10)
    assert browser.run(f"row === {ROWS}[0]")
    assert browser.run("added") == 0


def test_keys_move_filter_and_open(browser: Browser, hundreds: Hundreds) -> None:
    browser.run(
        "document.querySelector('.rows').scrollTop = 0; document.querySelector('.rows').focus()"
    )
    for key, device in [
        ("ArrowDown", "device-001"),
        ("ArrowDown", "device-002"),
        ("End", "device-500"),
        ("ArrowUp", "device-499"),
        ("Home", "device-001"),
    ]:
        browser.press(key)
        assert browser.run(FOCUSED) == device, key
    browser.press("/")
    assert browser.run("document.activeElement.id") == "filter"
    for letter in "nano 47":
        browser.press(letter)
    fitting = [k for k, name in enumerate(hundreds.fleet.names) if "47" in name]
    fitting = [k for k in fitting if BOARDS[k % len(BOARDS)] == "jetson-nano"]
    count = f"{len(fitting)} of 500 devices"
    browser.wait(f"document.querySelector('.count').textContent === {count!r}", 10)
    browser.press("ArrowDown")
    found = browser.run(FOCUSED)
    browser.press("Enter")
    browser.wait("document.getElementById('device-title').textContent !== ''")
    assert browser.run("document.getElementById('device-title').textContent") == found
    browser.press("Escape")
    browser.wait("document.getElementById('device').hidden")
    browser.wait(f"{FOCUSED} === {found!r}", 5)
    browser.run(CLEARED)


def test_any_column_sorts(browser: Browser) -> None:
    power = f"{HEADS}.find(b => b.textContent.startsWith('Power'))"
    watts = f"{ROWS}.map(r => parseFloat(r.cells[6].textContent))"
    browser.run(f"{power}.click(); {power}.click()")
    found = browser.run(watts)
    assert found == sorted(found, reverse=True) and found[0] > found[-1]
    assert browser.run(f"{power}.closest('th').ariaSort") == "descending"
    browser.run(f"{HEADS}.find(b => b.textContent.startsWith('State')).click()")


def test_text_of_devices_stays_text(browser: Browser, hundreds: Hundreds) -> None:
    evil = "<script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>"
    name = "zz<b onmouseover=alert(1)>&\"'"
    hundreds.watcher(
        DeviceJoined(device=name, board=evil, kind="emulated", samples=1, backend=evil)
    )
    hundreds.watcher(DeviceReported(round=1, device=name, error=evil))
    browser.wait("document.querySelector('tr[data-device]').dataset.device.startsWith('zz')", 15)
    browser.run("document.querySelector('tr[data-device] a').click()")
    browser.wait("document.getElementById('device-title').textContent.startsWith('zz')")
    assert browser.run("document.getElementById('device-title').textContent") == name
    assert evil in browser.run("document.getElementById('device').textContent")
    assert evil in browser.run("document.getElementById('events').textContent")
    assert browser.run("window.hacked === undefined && !document.querySelector('b, main script')")
    browser.run("location.hash = ''")


def test_it_comes_back_when_the_server_does(
    browser: Browser, hundreds: Hundreds, complaints: Callable[[Browser], list[Any]]
) -> None:
    # readings of a fleet that was made up are not kept: its device's view has asked for some
    assert [said for said in complaints(browser) if "404" not in said] == []
    with hundreds.serve() as served:
        port = int(served.url.split(":")[2].split("/")[0])
        browser.visit(served.url)
        browser.wait("document.querySelectorAll('tr[data-device]').length > 0")
    browser.wait("document.getElementById('connection').checkVisibility()", 15)
    assert "Not connected since" in browser.run("document.getElementById('connection').textContent")
    assert browser.run("document.querySelectorAll('tr[data-device]').length") > 0
    time.sleep(0.2)
    with hundreds.serve(port):
        browser.wait("!document.getElementById('connection').checkVisibility()", 15)
        before = browser.run("document.querySelector('#cards .value').textContent")
        browser.wait(f"document.querySelector('#cards .value').textContent !== {before!r}", 15)
    complaints(browser)  # of a server that was not there
