"""What was made, and how uneven the labels are, in a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fimi.learning.data.partition_summary import summarise
from fimi.learning.training.classifier import FileCheck
from fimi.messaging.messages.facts import Trial
from fimi.record.events import Deployed, NotDeployed
from fimi.record.reader import read_run
from fimi.record.results import Deployment
from fimi.record.summary import summarise as sum_up
from fimi.report import deployment, labels
from fimi.report.page import render
from fimi.report.terminal import as_text


def check(variant: str, size_bytes: int, accuracy: float) -> FileCheck:
    return FileCheck(
        variant=variant,  # type: ignore[arg-type]
        digest="0" * 64,
        size_bytes=size_bytes,
        accuracy=accuracy,
        samples=100,
        agreement=0.99,
        difference=0.02,
        compared=64,
    )


@pytest.fixture
def deployed(tmp_path: Path, build: Any) -> Path:
    store = build.write(tmp_path, close=False)
    trial = Trial(
        variant="fp32",
        inferences=200,
        images=50,
        accuracy=0.96,
        latency_median_s=0.004,
        latency_p95_s=0.006,
        latency_kind="emulated",
        metered=build.record("inference", 1.0, 3.0),
    )
    store.write_deployment(
        Deployment(
            round=3,
            files=(check("fp32", 154_511, 0.97), check("int8", 43_392, 0.965)),
            trials={
                "device-0": (trial, Trial(variant="int8", error="GraphError: <too> large")),
            },
            silent=("device-1",),
        )
    )
    local = [[4, 0], [1, 3]]
    store.write_labels(
        ["device-0", "device-1"],
        {"local": summarise(local), "filled": summarise([[4, 4], [3, 3]], [5, 3])},
    )
    store.end("completed", "3 rounds")
    store.spend(wall_s=1.0)
    store.close()
    return tmp_path


def test_the_terminal_has_a_line_for_each_file(deployed: Path) -> None:
    text = " ".join(as_text(deployed, "utf-8").split())
    assert "model.onnx: 155 kB, 97.0 % on test images; an inference on 1 device 4.00 ms" in text
    assert "and 15.0 mJ (emulated, board)" in text
    assert "model-int8.onnx: 43.4 kB, 96.5 % on test images; 2 could not run it" in text


def test_the_page_has_a_section(deployed: Path) -> None:
    page = render(read_run(deployed))
    assert "What was made" in page
    assert "99.0\N{NO-BREAK SPACE}% of 64" in page
    assert "96.0\N{NO-BREAK SPACE}% of 50" in page
    assert "GraphError: &lt;too&gt; large" in page
    assert "did not answer" in page
    assert "it knows no 8-bit arithmetic" in page


def test_its_joules_are_in_no_other_figure(deployed: Path, run_dir: Path) -> None:
    with_it, without = sum_up(read_run(deployed)), sum_up(read_run(run_dir))
    assert with_it.energy == without.energy
    assert with_it.phases == without.phases


def test_of_several_exports_the_last_is_shown(tmp_path: Path, build: Any) -> None:
    store = build.write(tmp_path, close=False)
    for number, accuracy in ((1, 0.5), (3, 0.9)):
        store.write_deployment(Deployment(round=number, files=(check("fp32", 10, accuracy),)))
    store.close()
    run = read_run(tmp_path)
    assert [made.round for made in run.made] == [1, 3]
    assert deployment.lines(run) == ["model.onnx: 0.01 kB, 90.0 % on test images"]
    assert deployment.trial_table(run) is None


def test_labels_before_and_after(deployed: Path) -> None:
    run = read_run(deployed)
    said = labels.words(run)
    # local: device-0 0.75, device-1 0.75; filled: both at 0.25 from (5/8, 3/8)
    assert said.startswith("EMD to the population 0.75 (0 to 2), entropy 0.41 of 1.00 bit")
    assert "filled with synthetic samples 0.25 and 1.00 bit" in said
    drawn = labels.skew(run)
    assert drawn is not None
    between, local, filled = drawn.figure.data
    assert list(between.x) == [0.75, 0.25, None, 0.75, 0.25, None]
    assert (list(local.x), list(filled.x)) == ([0.75, 0.75], [0.25, 0.25])
    assert labels.skew_table(run) is not None


def test_a_run_without_either(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert labels.words(run) == deployment.words(run) == ""
    assert labels.skew(run) is None
    assert "What was made" not in render(run)


def test_a_store_from_before(tmp_path: Path, build: Any) -> None:
    import sqlite3

    build.write(tmp_path)
    with sqlite3.connect(tmp_path / "run.sqlite") as db:
        for name in ("deployment", "model_file", "label_skew"):
            db.execute(f"DROP TABLE {name}")
    run = read_run(tmp_path)
    assert (run.made, run.labels, run.warnings) == ((), {}, ())


@pytest.mark.parametrize("earlier", [False, True])
def test_why_there_is_no_file_is_said(tmp_path: Path, build: Any, earlier: bool) -> None:
    store = build.write(tmp_path, close=False)
    if earlier:
        made = Deployment(round=1, files=(check("fp32", 1000, 0.5),))
        store.write_deployment(made)
        store.write_event(Deployed(deployment=made))
    store.write_event(NotDeployed(round=3, reason="layer '0.1' <Softmin> has no rule"))
    store.close()
    page, text = render(read_run(tmp_path)), " ".join(as_text(tmp_path, "utf-8").split())
    assert "What was made" in page
    assert "model after round 3: layer &#x27;0.1&#x27; &lt;Softmin&gt; has no rule." in page
    assert "model after round 3: layer '0.1' <Softmin> has no rule." in text
    assert ("The global model after round 1" in page) == ("model.onnx: 1 kB" in text) == earlier


def test_an_export_that_went_well_leaves_nothing_to_explain(tmp_path: Path, build: Any) -> None:
    store = build.write(tmp_path, close=False)
    store.write_event(NotDeployed(round=1, reason="passing trouble"))
    store.write_event(Deployed(deployment=Deployment(round=3, files=(check("fp32", 9, 0.5),))))
    store.close()
    assert read_run(tmp_path).not_made is None
