"""What an experiment is, once its file has been read and every name in it checked.

* :class:`Experiment`    strategies, seeds, a base configuration, and what is varied
* :class:`Tuning`        what is tried for each strategy before
* :class:`SlurmRequest`  what is asked of Slurm where it runs the cells
* :class:`GeneratorPreparation`   a generator that is trained before the runs
* :class:`LiveStudy`     how the runs follow one another on a fleet of boards
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from fimi.report.comparison.runs import AccuracyTarget

Label = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}$")]
Value = Any
"""Of a key of the configuration, as TOML has it."""


class GeneratorPreparation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A generator that is trained once, before the runs, unless its folder is there.

    Attributes:
        name: ``generator.weights = "@name"`` refers to it.
        kind: diffusion model or GAN.
        steps: of its training.
        folder: where it is kept; empty: below the experiment, by its recipe.
        batch_size: images per step; 0: the model's default.
        channels: of a diffusion network; empty: from the images' size.
        device: ``"cpu"`` or ``"cuda"``.
        threads: of PyTorch.
    """

    name: Label
    kind: Literal["diffusion", "gan"] = "diffusion"
    steps: Annotated[int, Meta(ge=1)] = 6000
    folder: str = ""
    batch_size: Annotated[int, Meta(ge=0)] = 0
    channels: tuple[Annotated[int, Meta(ge=1)], ...] = ()
    device: str = "cpu"
    threads: Annotated[int, Meta(ge=1, le=256)] = 1


class LiveStudy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How runs follow one another on a fleet of boards; emulation knows nothing of it.

    Attributes:
        order: ``"random"``: seed by seed, in an order drawn for the seeds and within each, so that
            heat and time of day are no effect of a strategy; ``"file"``: as the table has it.
        order_seed: of that draw.
        rest_s: least time between two runs on boards that are not emulated, s.
        cool_to_c: before a run every board that shows its temperature is at most so warm, °C; 0:
            this is not waited for.
        cool_max_s: how long that is waited for, s; afterwards the run begins all the same.
        wait_s: how long a board is waited for that is not there, s.
        lost_max: share of a run's device rounds, 0 to 1, in which the board was missing or absent;
            above it the run is repeated.
        repeats: how often at most.
    """

    order: Literal["random", "file"] = "random"
    order_seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    rest_s: Annotated[float, Meta(ge=0, le=86400)] = 60.0
    cool_to_c: Annotated[float, Meta(ge=0, le=120)] = 0.0
    cool_max_s: Annotated[float, Meta(ge=0, le=86400)] = 1800.0
    wait_s: Annotated[float, Meta(gt=0, le=7 * 86400)] = 600.0
    lost_max: Annotated[float, Meta(ge=0, le=1)] = 0.1
    repeats: Annotated[int, Meta(ge=0, le=20)] = 1


class Tuning(Struct, frozen=True, kw_only=True):
    """Settings that are tried for each strategy and grid point, the same for all.

    Attributes:
        seeds: one run each; none of them is reported.
        grid: dotted key to the values it takes, in the order of the file.
    """

    seeds: tuple[int, ...]
    grid: dict[str, tuple[Value, ...]]

    @property
    def settings(self) -> list[dict[str, Value]]:
        """Every combination."""
        keys = list(self.grid)
        combined = itertools.product(*self.grid.values())
        return [dict(zip(keys, values, strict=True)) for values in combined]


class SlurmRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked of Slurm, ``[slurm]`` in the file; each cell is one job.

    Attributes:
        partition: of the jobs; empty: Slurm's default.
        account: that is charged; empty: Slurm's default.
        time_min: time limit of a job, min; a run that takes longer goes on in another job.
        cpus: of a job.
        memory_gb: of a job, GB; 0: the file's ``memory_gb``, else Slurm's default.
        parallel: most jobs at a time; 0: all.
        extra: other options of ``sbatch``, by their long names.
    """

    partition: str = ""
    account: str = ""
    time_min: Annotated[int, Meta(ge=1)] = 60
    cpus: Annotated[int, Meta(ge=1, le=1024)] = 1
    memory_gb: Annotated[float, Meta(ge=0)] = 0.0
    parallel: Annotated[int, Meta(ge=0)] = 0
    extra: dict[str, str | int | bool] = {}


class Experiment(Struct, frozen=True, kw_only=True):
    """An experiment, every name in it checked.

    Attributes:
        path: of the file.
        name: of its folder.
        title: for people.
        directory: where experiments are kept.
        strategies: labels, in the order of the table.
        seeds: one run each.
        baseline: the label that the others are compared with.
        target: the accuracy whose price is asked for.
        jobs: runs side by side; 0: as many as cores and memory allow.
        memory_gb: that one run is said to need; 0: measured.
        confidence: of the intervals.
        base_file: the configuration that everything starts from; ``None``: the defaults.
        base: dotted key to value, over that.
        grid: dotted key to the values it takes, in the order of the file.
        overrides: label to dotted key to value; they win over the grid.
        equal_compute: steps that every device trains in a round under every strategy; 0: as
            configured.
        tune: settings to choose from for each strategy, over its overrides; ``None``: none.
        generators: to train first.
        live: how runs follow one another on boards.
        boards: ids of the boards that the runs are made on, in the order of their shares; empty:
            emulated ones.
        slurm: what is asked of Slurm where it runs the cells.
    """

    path: Path
    name: str
    title: str
    directory: Path
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    baseline: str
    target: AccuracyTarget
    jobs: int
    memory_gb: float
    confidence: float
    base_file: Path | None
    base: dict[str, Value]
    grid: dict[str, tuple[Value, ...]]
    overrides: dict[str, dict[str, Value]]
    generators: tuple[GeneratorPreparation, ...]
    equal_compute: int = 0
    tune: Tuning | None = None
    live: LiveStudy = LiveStudy()
    boards: tuple[str, ...] = ()
    slurm: SlurmRequest = SlurmRequest()

    @property
    def folder(self) -> Path:
        """Where the runs and the results of this experiment are."""
        return self.directory / self.name

    def strategy(self, label: str) -> str:
        """The strategy that a label stands for."""
        return str(self.overrides.get(label, {}).get("run.strategy", label))
