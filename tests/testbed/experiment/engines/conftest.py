"""A Slurm and a Ray on this machine, each started once for the tests that want it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import slurm_here


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A Ray that the engine finds connected."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install ray)")
    from fimi.testbed.experiment.engines.ray import _connected

    with _connected(ray, "", 2):
        yield


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm that ``sbatch`` finds."""
    pytest.importorskip("submitit", reason="submitit is not installed (pip install submitit)")
    if why := slurm_here.lacking():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch, slurm_here.running(folder) as configuration:
        patch.setenv("SLURM_CONF", str(configuration))
        yield
