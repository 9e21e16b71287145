"""The learning curve of a run, measured on digits with few steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fimi.coordinator import curves
from fimi.coordinator.settings import PlanSettings
from fimi.learning.training.trainer import TrainingCancelled, TrainingSettings
from fimi.optim.known_curve import CurveError, KnownCurve
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config

RATE = TrainingSettings(learning_rate=0.1)
SCENARIO = Scenario(config=Config(training=RATE))
NOBODY: object = None
BLIND = msgspec.structs.replace(SCENARIO.split, private=NOBODY, test=NOBODY)
"""Without private and test images, so that using one fails."""


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "STEPS", 40)
    monkeypatch.setattr(curves, "DRAWS", 1)


def fitted(
    folder: Path,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    seconds: float = 1e9,
    clock: Callable[[], float] = lambda: 0.0,
    say: Callable[[str], None] = lambda text: None,
) -> KnownCurve:
    return curves.fitted(
        SCENARIO.subject,
        BLIND,
        RATE,
        folder,
        seconds=seconds,
        say=say,
        cancelled=cancelled,
        clock=clock,
    )


class TestFitted:
    def test_it_takes_public_images_and_says_so(self, tmp_path: Path) -> None:
        said: list[str] = []
        known = fitted(tmp_path / "a" / "curves", say=said.append)
        split = SCENARIO.split
        assert (known.source, known.trainings, known.steps) == ("fitted", 7, 40)
        assert (known.public_digest, known.public_images) == (split.public.digest(), 575)
        assert known.validation_digest == split.validation.digest()
        assert known.amounts[0] == 20 and known.amounts[-1] == 160  # five passes are 40 steps
        assert known.subject == SCENARIO.subject
        assert said == ["learning curve: 7 trainings of small-cnn on up to 160 public images, at "
                        "most 1e+09 s"]  # fmt: skip

    def test_it_is_measured_once(self, tmp_path: Path) -> None:
        known = fitted(tmp_path)
        again = fitted(tmp_path, cancelled=lambda: True)  # no step of a training is left to do
        assert again == known == curves.kept(SCENARIO.subject, BLIND, tmp_path)
        assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
        other = msgspec.structs.replace(SCENARIO.subject, data_digest="0")
        assert curves.kept(other, BLIND, tmp_path) is None

    def test_a_damaged_file_is_measured_again(self, tmp_path: Path) -> None:
        known = fitted(tmp_path)
        (path,) = tmp_path.iterdir()
        path.write_bytes(path.read_bytes()[:50])
        assert fitted(tmp_path) == known

    def test_what_was_broken_off_goes_on(self, tmp_path: Path) -> None:
        whole = fitted(tmp_path / "whole")
        steps = itertools.count()
        with pytest.raises(TrainingCancelled):
            fitted(tmp_path / "parts", cancelled=lambda: next(steps) > 150)
        (part,) = (tmp_path / "parts").iterdir()
        done = len(part.read_bytes().splitlines()) - 1
        assert 0 < done < 7
        said: list[str] = []
        assert fitted(tmp_path / "parts", say=said.append) == whole
        assert said[0].startswith(f"learning curve: {7 - done} trainings")

    def test_too_little_time_leaves_amounts_out_and_then_is_refused(self, tmp_path: Path) -> None:
        ticks = itertools.count()
        whole = fitted(tmp_path / "whole", clock=lambda: float(next(ticks)))
        took_s = next(ticks)
        parts = {}
        for share in (0.8, 0.4):
            ticks = itertools.count()
            try:
                parts[share] = fitted(
                    tmp_path / str(share),
                    seconds=share * took_s,
                    clock=lambda ticks=ticks: float(next(ticks)),  # type: ignore[misc]
                )
            except CurveError as error:
                assert "plan.curve_seconds" in str(error) and "--write" in str(error)
        assert set(parts) == {0.8}
        assert 4 <= len(parts[0.8].amounts) < len(whole.amounts)
        assert parts[0.8].amounts[0] == 20 and parts[0.8].amounts[-1] == 160

    def test_a_training_that_fills_a_quarter_of_the_time_ends_it(self, tmp_path: Path) -> None:
        ticks = itertools.count()
        with pytest.raises(CurveError, match="0 trainings"):
            fitted(tmp_path, seconds=100.0, clock=lambda: float(next(ticks)))
        assert next(ticks) < 40


class TestChosen:
    def test_numbers_that_are_given_come_first(self) -> None:
        plan = PlanSettings(curve_alpha=2.0, curve_beta=0.5, curve_delta0=0.01)
        known = curves.chosen(plan, SCENARIO.subject)
        assert known is not None and known.source == "given"
        assert (known.curve.alpha, known.curve.beta, known.curve.delta0) == (2.0, 0.5, 0.01)
        assert "not known" in known.provenance

    def test_the_built_in_one_is_for_its_own_settings_only(self) -> None:
        usual = Scenario(config=Config()).subject
        known = curves.chosen(PlanSettings(), usual)
        assert known is not None and known.source == "built in"
        assert curves.chosen(PlanSettings(), SCENARIO.subject) is None
        assert curves.chosen(PlanSettings(curve="fit"), usual) is None

    def test_images_that_are_changed_in_training_are_another_run(self) -> None:
        augmented = Config(training=TrainingSettings(augment=1.0))
        subject = Scenario(config=augmented).subject
        assert curves.chosen(PlanSettings(), subject) is None
        assert subject.differences(Scenario(config=Config()).subject) == (
            "training.augment 1.0 instead of 0.0",
        )

    def test_being_pulled_to_the_global_model_is_no_other_run(self) -> None:
        pulled = Scenario(config=Config(training=TrainingSettings(proximal=0.5))).subject
        assert curves.chosen(PlanSettings(), pulled) is not None

    def test_a_word_that_is_no_file_names_the_key_and_the_words(self) -> None:
        with pytest.raises(CurveError, match=r'plan\.curve: fitt cannot be read.*"fit"'):
            curves.chosen(PlanSettings(curve="fitt"), SCENARIO.subject)

    def test_one_of_another_run_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "curve.json"
        path.write_bytes(msgspec.json.encode(fitted(tmp_path / "curves")))
        plan = PlanSettings(curve=str(path))
        known = curves.chosen(plan, SCENARIO.subject)
        assert known is not None and known.source == "file"
        usual = Scenario(config=Config()).subject
        other = msgspec.structs.replace(usual, dataset="gtsrb", classes=43)
        with pytest.raises(CurveError) as caught:
            curves.chosen(plan, other)
        for words in (
            "data.dataset digits instead of gtsrb",
            "classes 10 instead of 43",
            "training.learning_rate 0.1 instead of 0.2",
            "fimi learning-curve --write",
        ):
            assert words in str(caught.value)
