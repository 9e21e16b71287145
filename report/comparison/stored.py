"""``results.json`` of an experiment, read again.

* :func:`read_result`    a file, or the folder that it is in
* :class:`StoredResult`  what is needed of it to lay it beside another
* :class:`StoredRun`     one cell
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.record.clean import clean
from fimi.record.reader import ReportError
from fimi.report.comparison.predicted import Quantity
from fimi.report.comparison.runs import point_text

FILE_NAME = "results.json"

Number = float | Literal["never"] | None
"""Infinite where it is ``never``; ``None``: unknown."""


class StoredQuantity(Struct, frozen=True, kw_only=True):
    """One of :class:`fimi.report.comparison.predicted.OfRun`."""

    measured: float | None
    predicted: float | None
    energy_kind: str | None
    left_out: float | None


class StoredSeries(Struct, frozen=True, kw_only=True):
    """A run, as far as it is needed."""

    accuracy: tuple[float, ...]
    kind: str | None
    scope: str
    data: dict[str, str]
    measured_and_predicted: dict[Quantity, StoredQuantity]


class StoredRun(Struct, frozen=True, kw_only=True):
    """A cell and its run; the names are those of the file."""

    point: dict[str, Any]
    strategy: str
    seed: int
    problem: str
    devices_train: bool
    config: dict[str, Any]
    versions: dict[str, str]
    target_accuracy: float | None
    to_target: dict[str, Number]
    series: StoredSeries | None

    @property
    def place(self) -> tuple[str, str]:
        """Grid point and strategy."""
        return clean(point_text(self.point), 500), clean(self.strategy, 100)

    def cost(self, name: str) -> float | None:
        """Of reaching the target; infinite: never reached."""
        value = self.to_target.get(name)
        return math.inf if value == "never" else value


class StoredInterval(Struct, frozen=True):
    """An estimate with its interval."""

    value: Number
    low: Number
    high: Number


class StoredSample(Struct, frozen=True):
    """A quantity over the seeds."""

    median: StoredInterval | None
    mean: StoredInterval | None


class StoredComparison(Struct, frozen=True, kw_only=True):
    """A strategy against the baseline at a grid point."""

    point: dict[str, Any]
    strategy: str
    final_accuracy_difference: StoredSample
    ratio_to_target: dict[str, StoredSample]

    @property
    def place(self) -> tuple[str, str]:
        """Grid point and strategy."""
        return clean(point_text(self.point), 500), clean(self.strategy, 100)


class StoredChoice(Struct, frozen=True, kw_only=True):
    """A setting that was taken for a strategy at a grid point; ``None``: none could be."""

    point: dict[str, Any]
    strategy: str
    taken: dict[str, Any] | None


class StoredSide(Struct, frozen=True, kw_only=True):
    """An experiment as tuned."""

    runs: tuple[StoredRun, ...]
    comparisons: tuple[StoredComparison, ...]


class StoredResult(StoredSide, frozen=True, kw_only=True):
    """An experiment.

    Attributes:
        name: of the experiment.
        baseline: strategy that the others are compared with.
        target: in words.
        confidence: of the intervals.
        energy_kind: kinds of its joules.
        choices: settings that were taken, by grid point and strategy.
        config: keys of the configuration that all runs share.
        versions: packages that all runs share.
        tuned: the same with chosen settings.
        raw: the whole file.
        path: of the file.
    """

    name: str
    baseline: str
    target: str
    confidence: float
    energy_kind: str
    choices: tuple[StoredChoice, ...]
    config: dict[str, Any]
    versions: dict[str, str]
    tuned: StoredSide | None = None
    raw: dict[str, Any] = {}
    path: str = ""

    @property
    def sides(self) -> dict[str, StoredSide]:
        """As configured and, with its name, as tuned."""
        return {"": self} | ({"tuned": self.tuned} if self.tuned else {})


def read_result(path: Path) -> StoredResult:
    """The results of an experiment.

    Args:
        path: the experiment's folder, or its ``results.json``.

    Raises:
        ReportError: there are none, or they cannot be read; says what to do.
    """
    file = path / FILE_NAME if path.is_dir() else path
    again = "'fimi experiment FILE.toml --summarise' makes it again from the runs"
    try:
        raw = msgspec.json.decode(file.read_bytes())
        read = msgspec.convert(raw, StoredResult)
    except OSError as error:
        raise ReportError(
            f"cannot read {file}: {error.strerror}; give the folder of an experiment that has run, "
            f"experiments/NAME, or its {FILE_NAME}"
        ) from error
    except msgspec.ValidationError as error:
        raise ReportError(
            f"{file} was not written by this version of fimi experiment ({error}); {again}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{file} is no JSON ({error}); {again}") from error
    return msgspec.structs.replace(read, raw=raw, path=str(path))
