"""The page in a real browser: every picture is drawn, nothing is complained about."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.report.figures import pictures
from fimi.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt install chromium)")
def test_every_picture_is_drawn_and_nothing_is_complained_about(
    run_dir: Path, tmp_path: Path
) -> None:
    page = write_report(run_dir)
    run = read_run(run_dir)
    wanted = len(pictures(run, summarise(run)))
    command = [
        str(CHROMIUM),
        *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-logging=stderr", "--virtual-time-budget=10000"),
        *(("--no-sandbox",) if os.name == "posix" and os.geteuid() == 0 else ()),
        f"--user-data-dir={tmp_path / 'browser'}",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    drawn = re.findall(r'class="[^"]*\bjs-plotly-plot\b', done.stdout)
    assert len(drawn) == wanted > 5
    assert 'class="bartext' not in done.stdout  # what hovering shows is not written into the bars
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
