"""fimi.report.resolution: what devices draw at rest, with the kind of the watts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from fimi.record.reader import read_run
from fimi.record.resolution import RestFigure
from fimi.record.summary import summarise
from fimi.report.resolution import resting_table


def test_watts_say_their_kind_once_where_one_heading_can(build: Any, tmp_path: Path) -> None:
    def told(physical: tuple[str, ...], counts: tuple[int, int]) -> str:
        folder = tmp_path / f"{physical} {counts}"
        build.write(folder, physical=physical)
        summary = summarise(read_run(folder))
        figures = (
            RestFigure(power_w=2.5, uncertainty_w=0.1, drift_w_per_h=0.0, count=n) for n in counts
        )
        resting = dict(zip(("device-0", "device-1"), figures, strict=True))
        return str(resting_table(replace(summary, resting=resting))).replace("\xa0", " ")

    emulated = told((), (1, 2))
    assert emulated.count("emulated, board") == 1 and "2.50 ± 0.1 W<" in emulated
    assert ">once<" in emulated and ">2 times<" in emulated
    mixed = told(("device-0",), (1, 1))
    assert "each of its kind" in mixed
    assert "2.50 ± 0.1 W (measured, wall)" in mixed and "2.50 ± 0.1 W (emulated, board)" in mixed
    presumed = told(("device-0",), (0, 1))  # nothing was measured of the board on the plug
    assert "measured" not in presumed and presumed.count("emulated, board") == 1
