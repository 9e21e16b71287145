"""What must still be so when a run is gone on with; every difference is named with both values."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from commandline import Workplace, one_screen, rows
from PIL import Image
from stored_runs import device_round, round_result

from fimi.errors import InputError
from fimi.record.reader import read_run
from fimi.record.store import RunStore
from fimi.record.store_file import StoreError
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.resuming import BeginCommand, Begun, ResumeError, describe, look
from fimi.testbed.run_folder import RunFolder, RunFolderError

SMALL = {"fleet.devices": 3, "rounds.count": 3}


def scenario(folder: Path, **settings: Any) -> Scenario:
    values = {
        "run.directory": str(folder / "runs"),
        "run.name": "mine",
        **SMALL,
        **{key.replace("__", "."): value for key, value in settings.items()},
    }
    return configuration.load(None, {key: (value, "test") for key, value in values.items()})


def begun(folder: Path, command: BeginCommand = "dry-run", **settings: Any) -> Path:
    """A run that was begun and then killed; its folder."""
    chosen = scenario(folder, **settings)
    run = RunFolder(chosen.config, describe(chosen, command, "0123456789abcdef"))
    run.store.write_plan({})
    run.store._file.abandon()  # nothing is closed in order
    return run.path


def look_at(path: Path, accept: bool = False, **given: Any) -> Begun:
    overrides = {
        key.replace("__", "."): (value, f"--set {key.replace('__', '.')}")
        for key, value in given.items()
    }
    return look(str(path), "dry-run", overrides=overrides, accept_changes=accept)


def restored(path: Path, **changes: Any) -> None:
    """Change the description of a run in its store."""
    store = RunStore.reopen(path / "run.sqlite")
    store.describe(msgspec.structs.replace(store.info, **changes))
    store.close()


def image_folder(folder: Path) -> Path:
    pixels = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(40):
            image = pixels.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(image).save(folder / name / f"{index}.png")
    return folder


class TestAsItWas:
    def test_the_configuration_is_the_stored_one(self, tmp_path: Path) -> None:
        path = begun(tmp_path, data__alpha=0.3, training__epochs=2, run__seed=7)
        found = look_at(path)
        assert found.changes == ()
        config = found.scenario.config
        assert (config.data.alpha, config.training.epochs, config.run.seed) == (0.3, 2, 7)
        assert config == scenario(tmp_path, data__alpha=0.3, training__epochs=2, run__seed=7).config
        assert found.scenario.origins["data.alpha"] == "test"
        assert found.scenario.origins["plan.deadline_s"] == "default"

    @pytest.mark.parametrize("strategy", ["fimi", "gan", "semi", "genfl", "hdc", "tfl"])
    def test_so_is_what_a_strategy_has_set(self, tmp_path: Path, strategy: str) -> None:
        path = begun(tmp_path, run__strategy=strategy)
        before = scenario(tmp_path, run__strategy=strategy).config
        assert look_at(path).scenario.config == before

    def test_the_same_value_given_again_is_no_difference(self, tmp_path: Path) -> None:
        path = begun(tmp_path, data__alpha=0.3)
        assert look_at(path, data__alpha=0.3, rounds__count=3).changes == ()

    def test_looking_changes_nothing(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        before = read_run(path)
        look_at(path)
        after = read_run(path)
        assert (after.info, after.resumptions) == (before.info, before.resumptions)

    def test_the_folder_may_have_moved(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        (tmp_path / "elsewhere").mkdir()
        moved = Path(shutil.move(path, tmp_path / "elsewhere" / "renamed"))
        found = look_at(moved)
        assert found.changes == ()
        run = found.scenario.config.run
        assert (run.name, run.directory) == ("renamed", str(tmp_path / "elsewhere"))


class TestDifferences:
    def test_of_the_configuration(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        with pytest.raises(ResumeError) as refused:
            look_at(path, rounds__count=8, plan__deadline_s=12.5)
        said = str(refused.value)
        assert "rounds.count is 8 (--set rounds.count), in the run 3\n" in said
        assert "plan.deadline_s is 12.5 (--set plan.deadline_s), in the run 10.0\n" in said
        assert "--accept-changes" in said

    def test_of_a_file_that_was_named(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        file = tmp_path / "other.toml"
        file.write_text("[rounds]\ncount = 9\n[fleet]\ndevices = 3\n")
        with pytest.raises(ResumeError, match=r"rounds\.count is 9, in the run 3") as refused:
            look(str(path), "dry-run", config_path=file)
        assert "fleet.devices" not in str(refused.value)

    def test_of_versions(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        info = read_run(path).info
        others = {"numpy": "1.0", "torch": "0.4", "gone": "7", "platform": "another machine"}
        restored(path, versions={**info.versions, **others})
        with pytest.raises(ResumeError) as refused:
            look_at(path)
        said = str(refused.value)
        for name, there in (("numpy", "1.0"), ("torch", "0.4")):
            assert f"{name} is {info.versions[name]}, in the run {there}\n" in said
        assert "gone is not here, in the run 7\n" in said
        assert "platform" not in said

    def test_of_the_code(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        info = read_run(path).info
        restored(path, versions={**info.versions, "fimi source": "of yesterday"})
        with pytest.raises(ResumeError, match=r"fimi source is .*, in the run of yesterday"):
            look_at(path)

    def test_all_of_them_at_once(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        restored(path, versions={**read_run(path).info.versions, "numpy": "1.0"})
        with pytest.raises(ResumeError, match=r"(?s)rounds\.count is 4.*numpy is"):
            look_at(path, rounds__count=4)

    def test_they_apply_if_that_is_asked_for(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        restored(path, versions={**read_run(path).info.versions, "numpy": "1.0"})
        found = look_at(path, accept=True, rounds__count=8)
        assert found.scenario.config.rounds.count == 8
        assert found.scenario.origins["rounds.count"] == "--set rounds.count"
        rounds, numpy = found.changes
        assert rounds == "rounds.count was 3, is 8"
        assert numpy.startswith("numpy was 1.0, is ")
        folder = RunFolder.reopen(found.path, changes=found.changes)
        folder.store.describe(found.changed(folder.store.info))
        folder.close()
        run = read_run(path)
        assert run.resumptions[-1].changes == found.changes
        assert run.info.config["rounds.count"] == 8
        assert look_at(path).scenario.config.rounds.count == 8  # from now on

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            (
                "run.strategy",
                "tfl",
                'run.strategy is "tfl" (--set run.strategy), in the run "fimi"',
            ),
            ("run.seed", 5, "run.seed is 5 (--set run.seed), in the run 0"),
            ("data.alpha", 0.5, "data.alpha is 0.5 (--set data.alpha), in the run 0.05"),
            ("fleet.devices", 4, "fleet.devices is 4 (--set fleet.devices), in the run 3"),
            ("training.model", "vgg-9", 'training.model is "vgg-9" (--set training.model), in'),
        ],
    )
    @pytest.mark.parametrize("accept", [False, True])
    def test_what_the_model_and_the_plan_were_made_for_stays(
        self, tmp_path: Path, key: str, value: object, said: str, accept: bool
    ) -> None:
        path = begun(tmp_path)
        with pytest.raises(ResumeError) as refused:
            look_at(path, accept=accept, **{key.replace(".", "__"): value})
        assert said in str(refused.value)
        assert "also with --accept-changes" in str(refused.value)

    def test_fewer_rounds_than_are_stored(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        store = RunStore.reopen(path / "run.sqlite")
        for number in (1, 2):
            store.write_round(round_result(number, [device_round("device-01")], 0.5))
        store.close()
        assert look_at(path, accept=True, rounds__count=2).changes
        with pytest.raises(ResumeError, match=r"rounds\.count is 1 .*, and 2 rounds are stored"):
            look_at(path, accept=True, rounds__count=1)

    @pytest.mark.parametrize("accept", [False, True])
    def test_a_data_folder_that_has_changed(self, tmp_path: Path, accept: bool) -> None:
        data = image_folder(tmp_path / "data")
        settings = {
            "data__dataset": "image-folder",
            "data__root": str(data),
            "data__alpha": 100.0,
            "data__min_samples": 1,
        }
        path = begun(tmp_path, **settings)
        assert look_at(path).changes == ()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(data / "cat" / "0.png")
        with pytest.raises(ResumeError, match="digest of the training samples is") as refused:
            look_at(path, accept=accept)
        assert "put back what has changed" in str(refused.value)
        shutil.rmtree(data)
        with pytest.raises(InputError, match=str(data)):
            look_at(path, accept=accept)


class TestWhichRun:
    def test_of_another_command(self, tmp_path: Path) -> None:
        path = begun(tmp_path, command="coordinator run")
        with pytest.raises(ResumeError, match=r"go.* on with it: fimi coordinator run --resume "):
            look_at(path)

    def test_a_name_that_is_nearly_right(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert look("mine", "dry-run").path == Path("runs/mine")
        with pytest.raises(RunFolderError, match=r"did you mean runs/mine\?"):
            look("mime", "dry-run")

    def test_a_folder_beside_the_runs_of_that_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun(tmp_path)
        (tmp_path / "mine").mkdir()
        monkeypatch.chdir(tmp_path)
        assert look("mine", "dry-run").path == Path("runs/mine")

    def test_a_run_that_is_completed(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        restored(path, status="completed", reason="3 rounds")
        (path / "work").mkdir()
        with pytest.raises(StoreError, match=r"completed \(3 rounds\): there is nothing to go on"):
            look_at(path)
        assert not (path / "work").exists()  # what a process that was killed could not remove

    def test_a_run_that_goes_on_elsewhere(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        folder = RunFolder.reopen(path)
        with pytest.raises(StoreError, match="is written by process"):
            look_at(path)
        folder.close()

    def test_one_of_before_there_were_checkpoints(self, tmp_path: Path) -> None:
        path = begun(tmp_path)
        store = RunStore.reopen(path / "run.sqlite")
        store._db.execute("DROP TABLE checkpoint")
        store.close()
        with pytest.raises(StoreError, match="begun by an older release"):
            look_at(path)

    def test_one_that_stored_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "runs" / "mine").mkdir(parents=True)
        with pytest.raises(ResumeError, match="nothing was stored here"):
            look_at(tmp_path / "runs" / "mine")


class TestCommand:
    """As a person types it."""

    def test_a_configuration_of_the_working_folder_does_not_count(self, place: Workplace) -> None:
        path = begun(place.folder, rounds__count=1, run__strategy="tfl", fleet__devices=2)
        (place.folder / "fimi.toml").write_text("[rounds]\ncount = 50\n")
        done = place.run("dry-run", "--resume", "mine", "--set", "training.epochs=3")
        assert done.returncode == 2
        assert "training.epochs is 3 (--set training.epochs), in the run 5" in done.stderr
        assert "rounds.count" not in done.stderr
        assert one_screen(done.stderr)
        assert rows(path / "run.sqlite", "SELECT resumed, status FROM run") == [(0, "running")]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--accept-changes",), "goes with '--resume NAME'"),
            (("--resume", "a", "--name", "b"), "leave '--name' out"),
        ],
    )
    def test_options_that_do_not_go_together(
        self, place: Workplace, options: tuple[str, ...], said: str
    ) -> None:
        done = place.run("dry-run", *options)
        assert done.returncode == 2
        assert said in done.stderr.replace("\n", " ")
