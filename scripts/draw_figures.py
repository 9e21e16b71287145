"""The pictures of ``docs/figures.md``: each kind of figure, from an example.

    fimi dry-run --devices 6 --rounds 12 --alpha 0.1 --set plan.error_max=0.08 --name example
    fimi experiment examples/experiments/digits-alpha.toml
    python scripts/draw_figures.py runs/example experiments/digits-alpha

They are drawn as ``fimi plot`` draws them, and then made small: half as many dots, 48 colours.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

from fimi.report.comparison.stored import read_result
from fimi.report.plots.drawing import draw
from fimi.report.plots.figure import FigureError
from fimi.report.plots.kinds import POWER_TRACE, RUN_KINDS, STUDY_KINDS, FigureChoice, figure_of
from fimi.report.plots.studies import points_of

PICTURES = Path(__file__).parents[1] / "docs" / "images" / "figures"


def main() -> None:
    """Draw them all; an example that lacks a figure is named."""
    run, study = (Path(given) for given in sys.argv[1:3])
    PICTURES.mkdir(parents=True, exist_ok=True)
    point = points_of(read_result(study))[0]
    for folder, kinds, prefix in (
        (run, [*RUN_KINDS, POWER_TRACE], ""),
        (study, list(STUDY_KINDS), "study-"),
    ):
        for kind in kinds:
            try:
                figure = figure_of(folder, kind, FigureChoice(round=2, point=point))
            except FigureError as error:
                print(error)
                continue
            picture = Image.open(io.BytesIO(draw(figure, "png"))).convert("RGB")
            half = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
            target = PICTURES / f"{prefix}{kind}.png"
            half.quantize(48).save(target, optimize=True)
            print(f"{target.name}: {target.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
