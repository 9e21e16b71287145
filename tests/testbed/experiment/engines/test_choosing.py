"""``--on``: which engine is meant, and what is refused with a remedy."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from fimi.errors import FimiError, InputError, SurroundingsError
from fimi.testbed.experiment.definition import Experiment
from fimi.testbed.experiment.engines.choosing import engine_for
from fimi.testbed.experiment.engines.pool import LocalPool
from fimi.testbed.experiment.file import read_experiment


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "e.toml").write_text('strategies = ["tfl"]\n')
    return replace(read_experiment(tmp_path / "e.toml"), directory=tmp_path)


def refused(on: str, experiment: Experiment, kind: type[FimiError], *, jobs: int = 0) -> str:
    with pytest.raises(kind) as caught:
        engine_for(on, experiment, jobs=jobs)
    return str(caught.value)


def test_the_local_pool(experiment: Experiment) -> None:
    assert isinstance(engine_for("local", experiment), LocalPool)


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("slrum", "did you mean 'slurm'?"),
        ("kubernetes", "there are local, ray, slurm"),
        ("slurm:login1", "write slurm"),
        ("local:", "write local"),
        ("ray:", "write ray:ADDRESS"),
    ],
)
def test_others_are_refused(experiment: Experiment, on: str, said: str) -> None:
    assert said in refused(on, experiment, InputError)


def test_slurm_takes_no_jobs(experiment: Experiment) -> None:
    assert "parallel = 3 below [slurm]" in refused("slurm", experiment, InputError, jobs=3)


def test_slurm_without_sbatch(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    said = refused("slurm", experiment, SurroundingsError)
    assert "there is none here" in said
    assert "--on ray" in said


@pytest.mark.parametrize(
    ("on", "module", "extra"), [("ray", "ray", "ray"), ("slurm", "submitit", "slurm")]
)
def test_a_package_that_is_not_installed(
    experiment: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on: str,
    module: str,
    extra: str,
) -> None:
    for name in ("sbatch", "srun"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, module, None)
    said = refused(on, experiment, SurroundingsError)
    assert f"pip install 'fimi-testbed[{extra}]'" in said


def test_slurm_reads_a_percent_sign_in_paths(experiment: Experiment, tmp_path: Path) -> None:
    odd = replace(experiment, directory=tmp_path / "100%j")
    assert "placeholder" in refused("slurm", odd, InputError)


class TestRay:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("ray", reason="Ray is not installed (pip install ray)")

    @pytest.mark.parametrize("address", ["10.1.2.3", "host:", ":6379", "host:six"])
    def test_what_is_no_address(self, experiment: Experiment, address: str) -> None:
        assert "write host:port" in refused(f"ray:{address}", experiment, InputError)

    @pytest.mark.parametrize("prefix", ["", "ray://"])
    def test_nobody_at_the_address(self, experiment: Experiment, prefix: str) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"{prefix}127.0.0.1:{closed.getsockname()[1]}"
            said = refused(f"ray:{address}", experiment, SurroundingsError)
        assert said.startswith(f"nobody answers at {address}")

    def test_the_address_may_be_in_the_environment(
        self, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAY_ADDRESS", "nowhere")
        assert "'nowhere' is no address" in refused("ray", experiment, InputError)
