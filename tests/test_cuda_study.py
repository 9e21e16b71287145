"""scripts/cuda_study.py on a CPU, with tiny sizes: it goes on where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "cuda_study.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GTSRB as it is published, with six training images and two test images of every class."""
    root = tmp_path_factory.mktemp("data")
    base, rng = root / "gtsrb", np.random.default_rng(0)
    images = base / "GTSRB" / "Final_Test" / "Images"
    images.mkdir(parents=True)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]

    def write(path: Path) -> None:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(path)

    for label in range(43):
        folder = base / "GTSRB" / "Training" / f"{label:05d}"
        folder.mkdir(parents=True)
        for number in range(6):
            write(folder / f"00000_{number:05d}.ppm")
        for number in range(2 * label, 2 * label + 2):
            write(images / f"{number:05d}.ppm")
            rows.append(f"{number:05d}.ppm;16;16;1;1;14;14;{label}")
    (base / "GT-final_test.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def command(data: Path, out: Path, *more: str) -> list[str]:
    sizes = (
        "--device",
        "cpu",
        "--steps",
        "8",
        "--every",
        "2",
        "--channels",
        "16",
        "--image-size",
        "8",
    )
    place = ("--data", str(data), "--out", str(out), "--sets", "gtsrb")
    return [sys.executable, str(SCRIPT), *place, *sizes, *more]


@pytest.fixture
def started(tmp_path: Path, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A study that trains, as the leader of its process group."""
    process = subprocess.Popen(
        command(data, tmp_path / "out", "--only", "train"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def said(data: Path, out: Path, *more: str) -> str:
    done = subprocess.run(
        command(data, out, *more), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(900)
def test_killed_while_it_trains(
    started: subprocess.Popen[bytes], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    folder = out / "generators" / "gtsrb"
    limit_s = time.monotonic() + 600
    while not (folder / "checkpoint.safetensors").exists():
        assert started.poll() is None
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert not (folder / "generator.json").exists()
    again = said(data, out, "--only", "train")
    assert "going on from" in again
    assert "step 2/8" not in again  # it was done before, as the checkpoint says
    assert "step 8/8" in again
    assert (folder / "generator.json").exists()
    assert "train gtsrb: done before" in said(data, out, "--only", "train")


def test_dry_it_says_what_it_needs_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = said(data, out, "--dry").splitlines()
    names = [line.partition(": fimi ")[0] for line in lines if ": fimi " in line]
    steps = ["check gtsrb", "train gtsrb", "evaluate gtsrb", "experiments gtsrb fimi-gtsrb"]
    assert [name for name in names if "gtsrb" in name][-4:] == steps
    text = "\n".join(lines)
    for needed in (
        f"{data}/gtsrb/GTSRB/",
        "fimi-testbed[all]",
        "GB are free",
        "GPU memory",
        "hours",
        "device: cpu",
    ):
        assert needed in text
    assert not out.exists()


class TestSteps:
    @pytest.fixture
    def study(self, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
        monkeypatch.syspath_prepend(str(ROOT / "scripts"))
        import cuda_study

        return cuda_study

    def test_one_that_failed_is_repeated_and_those_before_are_not(
        self, study, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:  # type: ignore[no-untyped-def]
        def shell(name: str, line: str):  # type: ignore[no-untyped-def]
            return study.Step(name, ("sh", "-c", line))

        first = shell("one", "echo ran >> one")
        second = shell("two", "echo ran >> two; test -e mended")
        third = shell("three", "echo ran >> three")
        assert study.conduct([first, second, third], tmp_path) == 1
        assert not (tmp_path / "three").exists()
        assert "two: ended with 1; the same command goes on from here" in capfd.readouterr().out
        (tmp_path / "mended").touch()
        assert study.conduct([first, second, third], tmp_path) == 0
        ran = [(tmp_path / name).read_text().count("ran") for name in ("one", "two", "three")]
        assert ran == [1, 2, 1]
        other = shell("one", "echo ran  >> one")
        assert study.conduct([other], tmp_path) == 0
        assert (tmp_path / "one").read_text().count("ran") == 2

    def test_the_papers_settings_use_what_was_trained_here(self, study, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
        from fimi.testbed.experiment.file import read_experiment

        given = study.parse(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")])
        given.out.mkdir()
        study.prepare(given)
        files = sorted((given.out / "settings").glob("*.toml"))
        assert [path.stem for path in files] == [
            "fimi-cifar10", "fimi-gtsrb", "genfl-cifar10", "genfl-cifar100",
        ]  # fmt: skip
        for path in files:
            experiment = read_experiment(path)
            assert experiment.base["data.root"] == str(tmp_path / "data")
            if path.stem.startswith("fimi"):
                trained = next(e for e in experiment.generators if e.name == "diffusion")
                name = experiment.base["data.dataset"]
                assert Path(trained.folder) == given.out / "generators" / name
