"""Dry runs with codings: bytes as planned, errors as told, joules by what was sent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from commandline import SharedRun

from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.results import DeviceRound

SETTINGS = {
    "fp16": {"update_coding": "fp16", "model_coding": "fp16"},
    "int8": {"update_coding": "int8", "model_coding": "int8", "compress": "true"},
    "top-k": {"update_coding": "top-k", "top_k_share": "0.1"},
}
RATIO = {"fp16": 0.504, "int8": 0.259, "top-k": 0.1 * 4 / 4 + 1 / 32 + 0.006}
"""Bytes of the small CNN over those in single precision, before Zstandard; its vectors and the
header are the rest."""


@pytest.fixture(scope="module", params=list(SETTINGS))
def coded(request: pytest.FixtureRequest, shared_run: Callable[..., SharedRun]) -> Any:
    words = [
        word
        for key, value in SETTINGS[request.param].items()
        for word in ("--set", f"transfer.{key}={value}")
    ]
    few = ("--rounds", "2", "--format", "json", "--set", "deployment.export=false")
    return request.param, shared_run(f"coded-{request.param}", *few, *words)


def entries(run: RunData) -> list[DeviceRound]:
    return [entry for each in run.rounds for entry in each.devices]


def test_updates_take_the_bytes_that_were_planned(coded: tuple[str, SharedRun]) -> None:
    kind, shared = coded
    assert shared.code == 0, shared.err
    run = read_run(shared.run_folder)
    raw = {entry.coded.raw_bytes for entry in entries(run) if entry.coded}
    assert len(raw) == 1
    for each in run.rounds:
        assert len(each.devices) == 3
        for entry in each.devices:
            assert entry.status == "accepted"
            assert entry.coded is not None
            (sent,) = (t.size_bytes for t in entry.transfers if t.phase == "upload")
            assert entry.coded.coded_bytes == sent
            if kind != "int8":
                assert sent == each.planned_update_bytes
                assert sent / entry.coded.raw_bytes == pytest.approx(RATIO[kind], abs=0.004)
            else:
                assert sent < RATIO[kind] * entry.coded.raw_bytes
            bound = {"fp16": 2.0**-11, "int8": 0.03, "top-k": 1.0}[kind]
            assert 0.0 < entry.coded.error < bound


def test_the_model_is_told_with_its_bytes_and_its_error(coded: tuple[str, SharedRun]) -> None:
    kind, shared = coded
    for each in read_run(shared.run_folder).rounds:
        got = {
            t.size_bytes for e in each.devices for t in e.transfers if t.phase == "model-download"
        }
        if kind == "top-k":
            assert each.model_coded is None
            assert got == {e.coded.raw_bytes for e in each.devices if e.coded}
        else:
            assert each.model_coded is not None
            assert got == {each.model_coded.coded_bytes}
            assert 0.0 < each.model_coded.error < 0.01


def test_the_radio_sends_what_was_coded_and_the_prediction_knows_it(
    coded: tuple[str, SharedRun],
) -> None:
    kind, shared = coded
    for entry in entries(read_run(shared.run_folder)):
        (planned_s,) = (p.duration_s for p in entry.predicted if p.phase == "upload")
        took_s = math.fsum(p.duration_s for p in entry.phases if p.phase == "upload")
        if kind == "int8":  # by the first model, which compresses less than what is learned
            assert took_s < 1.2 * planned_s
        else:
            assert took_s == pytest.approx(planned_s, rel=0.6)  # fading


def test_the_report_says_what_was_saved(coded: tuple[str, SharedRun]) -> None:
    kind, shared = coded
    told = json.loads(shared.out)["coding"]
    updates = told["updates"]
    assert updates["updates"] == 6
    assert updates["coding"].startswith(kind)
    assert len(told["devices"]) == 3
    for key in ("raw_bytes", "coded_bytes", "planned_bytes"):
        assert updates[key] == sum(device[key] for device in told["devices"])
    assert updates["upload"]["value"]["kind"] == "emulated"
    page = (shared.run_folder / "report.html").read_text(encoding="utf-8")
    assert "Codings of updates" in page
