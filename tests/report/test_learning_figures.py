"""What is drawn and told of learning, device by device."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from fimi.record.insight import DeviceInsight, Insight
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.summary import summarise
from fimi.report import learning_figures, page_tables
from fimi.report.besides import extras
from fimi.report.document import document
from fimi.report.plot_style import Picture
from fimi.report.terminal import lines


def look(number: int, *gradients: float | None, seconds: float | None = 1.5) -> Insight:
    return Insight(
        round=number,
        orthogonality=0.5,
        reference_samples=200,
        gradient_samples=719,
        seconds=seconds,
        devices=tuple(
            DeviceInsight(
                device=f"device-{i}", local_error=0.2, similarity=0.1 * i, gradient_similarity=each
            )
            for i, each in enumerate(gradients)
        ),
    )


@pytest.fixture
def run(run_dir: Path) -> RunData:
    """Three rounds; classes are answered right unlike, of which device-1 has only the worse one."""
    found = read_run(run_dir)
    accuracies = [(0.5, 0.1), (0.9, 0.7), (0.8, 0.4)]
    rounds = [
        replace(r, evaluation=replace(r.evaluation, class_accuracy=accuracy))
        for r, accuracy in zip(found.rounds, accuracies, strict=True)
    ]
    profiles = found.profiles | {
        "device-1": replace(found.profiles["device-1"], label_counts=(0, 4))
    }
    return replace(found, rounds=tuple(rounds), profiles=profiles, insights=(look(1, 0.25, 0.75),))


def drawn(picture: Picture | None) -> list[tuple[list[int], list[float]]]:
    """The lines, those of devices first: one trace holds them, with gaps between."""
    assert picture is not None
    found = []
    for trace in picture.figure.data:
        pieces: list[tuple[list[int], list[float]]] = [([], [])]
        for x, y in zip(trace.x, trace.y, strict=True):
            if x is None:
                pieces.append(([], []))
            else:
                pieces[-1][0].append(x)
                pieces[-1][1].append(y)
        found += pieces
    return found


class TestGradients:
    def test_a_line_for_each_device_and_one_for_their_mean(self, run: RunData) -> None:
        run = replace(run, insights=(*run.insights, look(3, 0.5, None)))
        picture = learning_figures.gradient_similarity_plot(run)
        assert drawn(picture) == [([1, 3], [0.25, 0.5]), ([1], [0.75]), ([1, 3], [0.5, 0.5])]
        assert picture is not None
        assert len(picture.figure.data) == 2  # however many devices there are
        assert "719 real samples" in picture.caption

    def test_an_older_store_has_the_updates_alone(self, run: RunData) -> None:
        older = replace(run, insights=(look(1, None, None, seconds=None),))
        assert learning_figures.gradient_similarity_plot(older) is None
        assert drawn(learning_figures.similarity_plot(older))[1] == ([1], [0.1])
        assert summarise(older).insight_s is None
        assert not [e for e in extras(older, summarise(older)) if e.term == "insight"]

    def test_its_seconds_are_told_and_what_real_boards_drew_meanwhile(self, run: RunData) -> None:
        summary = summarise(run)
        assert (summary.insight_s, summary.insight_idle_j) == (1.5, None)
        hardware = replace(run.profiles["device-0"].hardware, kind="physical")
        profiles = run.profiles | {"device-0": replace(run.profiles["device-0"], hardware=hardware)}
        real = replace(run, profiles=profiles)
        summary = summarise(real)
        assert summary.insight_idle_j == pytest.approx(1.5 * 2.0)  # W, metered
        (extra,) = (e for e in extras(real, summary) if e.term == "insight")
        assert extra.value == "1.50 s"
        assert "1 look at updates" in extra.note
        assert "about 3.00 J (modelled) of their idle energy" in extra.note


class TestAccuracyByDevice:
    def test_a_line_for_each_device(self, run: RunData) -> None:
        lines = drawn(learning_figures.device_accuracy_plot(summarise(run)))
        assert lines[0][1] == pytest.approx([38.0, 84.0, 68.0])  # 7 and 3 samples
        assert lines[1][1] == pytest.approx([10.0, 70.0, 40.0])
        assert lines[2][1] == pytest.approx([24.0, 77.0, 54.0])

    def test_in_the_terminal_the_table_and_the_document(self, run: RunData) -> None:
        summary = summarise(run)
        (said,) = (words for term, words in lines(run, summary) if term == "by device")
        assert "worst 40.0 % (device-1), mean 54.0 %, standard deviation 14.0 points" in said
        assert [row.accuracy for row in summary.devices] == pytest.approx([0.68, 0.4])
        assert "worst 40.0\u00a0%" in page_tables.device_table(summary)
        found = document(run, summary)
        assert [each.worst for each in found.fairness] == pytest.approx([0.1, 0.7, 0.4])
        assert found.gradient_similarity == {1: {"device-0": 0.25, "device-1": 0.75}}

    def test_nothing_is_said_where_it_is_not_known(self, run_dir: Path) -> None:
        run = read_run(run_dir)
        summary = summarise(run)  # no test image of the second class
        assert summary.points[-1].fairness.worst is None
        assert "by device" not in dict(lines(run, summary))
        assert learning_figures.device_accuracy_plot(summary) is None
