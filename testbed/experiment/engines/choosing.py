"""The engine that a person asks for: ``--on local``, ``ray``, ``ray:ADDRESS`` or ``slurm``."""

from __future__ import annotations

from collections.abc import Sequence

from fimi.errors import InputError
from fimi.testbed.experiment.definition import Experiment
from fimi.testbed.experiment.engines.base import Engine
from fimi.testbed.experiment.engines.memory import Need
from fimi.testbed.experiment.engines.pool import LocalPool
from fimi.testbed.nearest import hint

ENGINES = ("local", "ray", "slurm")


def engine_for(
    on: str, experiment: Experiment, *, jobs: int = 0, keep_open: Sequence[int] = ()
) -> Engine:
    """The engine for an experiment.

    Args:
        on: name of the engine; ``ray:ADDRESS`` names the cluster too.
        experiment: as the file has it.
        jobs: runs side by side, over the file's; 0: as the file says.
        keep_open: files that children on this machine hold open.

    Raises:
        InputError: there is no such engine, or it does not take what is asked.
        SurroundingsError: what it needs is not here.
    """
    name, colon, address = on.partition(":")
    if name not in ENGINES:
        raise InputError(
            f"--on {on}: there is no engine {name!r}; {hint(name, ENGINES)}", code="X005"
        )
    if colon and (name != "ray" or not address):
        raise InputError(
            f"--on {on}: write {name}" + (":ADDRESS" if name == "ray" else ""), code="X005"
        )
    if name == "slurm":
        from fimi.testbed.experiment.engines.slurm import SlurmArray

        if jobs:
            raise InputError(
                "--jobs is for this machine and Ray; with --on slurm write parallel = "
                f"{jobs} below [slurm] in {experiment.path}",
                code="X005",
            )
        return SlurmArray(experiment.folder, experiment.slurm, memory_gb=experiment.memory_gb)
    most = jobs or experiment.jobs
    if name == "ray":
        from fimi.testbed.experiment.engines.ray import RayCluster

        return RayCluster(experiment.folder, address, jobs=most, memory_gb=experiment.memory_gb)
    return LocalPool(most, need=Need(experiment.memory_gb), keep_open=keep_open)
