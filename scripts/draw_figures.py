"""The pictures of ``docs/figures.md``, each kind of figure from an example, and of a report's page.

    fimi dry-run --devices 6 --rounds 12 --alpha 0.1 --set plan.error_max=0.08 --name example
    fimi experiment examples/experiments/digits-alpha.toml
    fimi dry-run --rounds 20 --name fimi-on-ten-boards
    python scripts/draw_figures.py runs/example experiments/digits-alpha runs/fimi-on-ten-boards

Figures are drawn as ``fimi plot`` draws them, and then made small: half as many dots, 48 colours.
The page is seen with headless Chromium.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "tests" / "report"))

from chromium import Browser

from fimi.report.comparison.stored import read_result
from fimi.report.page import write_report
from fimi.report.plots.drawing import draw
from fimi.report.plots.figure import FigureError
from fimi.report.plots.kinds import (
    COST,
    POWER_TRACE,
    RUN_KINDS,
    STUDY_KINDS,
    FigureChoice,
    figure_of,
)
from fimi.report.plots.studies import points_of

PICTURES = Path(__file__).parents[1] / "docs" / "images" / "figures"


def main() -> None:
    """Draw them all; an example that lacks a figure is named."""
    run, study, page = (Path(given) for given in sys.argv[1:4])
    PICTURES.mkdir(parents=True, exist_ok=True)
    point = points_of(read_result(study))[0]
    for folder, kinds, prefix in (
        (run, [*RUN_KINDS, POWER_TRACE], ""),
        (study, [*STUDY_KINDS, COST], "study-"),
    ):
        for kind in kinds:
            try:
                choice = FigureChoice(round=2, point=None if kind == COST else point)
                figure = figure_of(folder, kind, choice)
            except FigureError as error:
                print(error)
                continue
            picture = Image.open(io.BytesIO(draw(figure, "png"))).convert("RGB")
            half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
            target = PICTURES / f"{prefix}{kind}.png"
            half.quantize(48).save(target, optimize=True)
            print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB")
    see(page)


def see(run: Path) -> None:
    """The upper part of a run's page."""
    with Browser() as browser, tempfile.TemporaryDirectory() as folder:
        browser.look(width=1250)
        browser.open(write_report(run))
        shot = Path(folder) / "shot.png"
        browser.picture(shot, height=1780)
        picture = Image.open(shot).convert("RGB").quantize(200)
        picture.save(PICTURES.parent / "report.png", optimize=True)


if __name__ == "__main__":
    main()
