"""The output of ``fimi optimise``: a plan, a sweep, or the fewest joules to a target.

* :func:`plan_table`    a plan for people
* :func:`idle_points`   which operating points no plan chooses
* :func:`plan_body`     a plan for JSON, :func:`certified_body` of its energies alone
* :func:`sweep_table`, :func:`sweep_csv`  the results of a sweep
* :func:`choice_table`  joules to a target accuracy
* :func:`to_target`     both energies that a plan takes to it
* :func:`target_words`  the same for people
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fimi.optim.plans import Certified, Plan
from fimi.optim.problem import Objective
from fimi.optim.sweep import SweepPoint
from fimi.optim.target import Choice, TargetTrial
from fimi.record.clean import enumerated
from fimi.report.layout import Marked, Paper, table, wrap
from fimi.report.planned import gap_of_search

SCOPES: dict[Objective, str] = {
    "board": "modelled, whole boards with their idle power",
    "dynamic": "modelled, compute and upload above idle",
}
"""Kind and scope of a plan's two energies."""
UNITS = {"t_max": "s", "bandwidth": "Hz", "budget": "J", "fleet_budget": "J"}
TITLES = {
    "t_max": "T_max",
    "error_max": "Δ_max",
    "bandwidth": "B",
    "budget": "device budget",
    "fleet_budget": "fleet budget",
    "devices": "devices",
    "alpha": "Dirichlet α",
}
_PLAN_COLUMNS = (
    "device",
    "synthetic per class",
    "samples",
    "f GHz",
    "b kHz",
    "p W",
    "τ",
    "train s",
    "upload s",
    "train J",
    "upload J",
    "setting",
)
_OF_THE_PLAN = (
    "plan objective",
    "plan board J",
    "plan board bound J",
    "plan board gap %",
    "plan dynamic J",
    "plan dynamic bound J",
    "plan dynamic gap %",
    "plan found by",
)
_CSV_COLUMNS = (
    "feasible",
    "energy_j",
    "bound_j",
    "gap_percent",
    "board_j",
    "board_bound_j",
    "board_gap_percent",
    "dynamic_j",
    "dynamic_bound_j",
    "dynamic_gap_percent",
    "error",
    "synthetic_samples",
    "obstacle",
)


def idle_points(never: Mapping[str, Sequence[str]]) -> list[str]:
    """Sentences about operating points that no plan chooses; devices with the same share one.

    Args:
        never: device to names of such points.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for device, points in never.items():
        alike.setdefault(tuple(points), []).append(device)
    return [
        f"{enumerated(devices)}: never chosen: {enumerated(points)}; another point takes no more "
        "time and no more energy for a sample"
        for points, devices in alike.items()
    ]


def plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    """One row per device, with a heading."""
    rows: list[tuple[str, ...]] = [_PLAN_COLUMNS]
    for share in plan.devices:
        point = share.point
        rows.append(
            (
                share.device,
                " ".join(map(str, share.synthetic_counts)),
                str(share.samples),
                f"{point.frequency_hz / 1e9:.4g}",
                f"{point.bandwidth_hz / 1e3:.4g}",
                f"{point.transmit_power_w:.4g}",
                f"{point.time_split:.4f}",
                f"{share.compute_s:.4g}",
                f"{share.upload_s:.4g}",
                f"{share.compute_j:.4g}",
                f"{share.upload_j:.4g}",
                point.setting,
            )
        )
    return rows


def plan_csv(plan: Plan) -> str:
    """The same as CSV; what belongs to the whole plan, of one round, is in every row."""
    whole: list[str] = [plan.objective]
    for energy in (plan.board, plan.dynamic):
        figures = (energy.energy_j, energy.bound_j, energy.gap_percent)
        whole += ["" if figure is None else repr(figure) for figure in figures]
    whole.append(plan.search)
    heading, *rows = plan_rows(plan)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*heading, *_OF_THE_PLAN])
    writer.writerows([*row, *whole] for row in rows)
    return out.getvalue()


def plan_table(plan: Plan, paper: Paper | None = None) -> str:
    """A plan as tables: resources, then synthetic samples by class."""
    paper = paper or Paper()
    heading = ["device", "synthetic\nsamples", "all\nsamples", "f\nGHz", "b\nkHz", "p\nmW"]
    heading += ["train\ns", "upload\ns", "train\nJ", "upload\nJ"]
    settings = any(share.point.setting for share in plan.devices)
    heading += ["setting"] if settings else []
    rows = []
    for share in plan.devices:
        point = share.point
        figures = [point.frequency_hz / 1e9, point.bandwidth_hz / 1e3, point.transmit_power_w * 1e3]
        figures += [share.compute_s, share.upload_s, share.compute_j, share.upload_j]
        counts = [str(sum(share.synthetic_counts)), str(share.samples)]
        row = [share.device, *counts, *(f"{figure:.4g}" for figure in figures)]
        rows.append([*row, point.setting] if settings else row)
    lines = [table(heading, rows, paper=paper), ""]
    classes = len(plan.devices[0].synthetic_counts) if plan.devices else 0
    each = [(share.device, *map(str, share.synthetic_counts)) for share in plan.devices]
    lines += [table(["synthetic, by class", *map(str, range(classes))], each, paper=paper), ""]
    said = [_energy(plan, name) for name in dict.fromkeys((plan.objective, *SCOPES))]
    said.append("joules of training and upload in the table are modelled: above idle, in one round")
    said.append(f"a round lasts {plan.round_s:.4g} s")
    if plan.preparation_j:
        said[-1] += (
            f"; receiving the synthetic samples takes {plan.preparation_j:.4g} J (modelled) "
            "once, of which the board energy of a round has its share"
        )
    if plan.budget_cost_j > 0:
        dear = [share for share in plan.devices if share.budget_price > 0]
        named = enumerated([share.device for share in dear])
        said.append(
            f"the budgets cost {plan.budget_cost_j:.4g} J of that (modelled) a round; a joule more "
            f"for {named} would save up to {max(share.budget_price for share in dear):.3g} J "
            "(modelled) in the run"
            if dear
            else f"the budgets cost {plan.budget_cost_j:.4g} J of that (modelled) a round"
        )
    if (gap := gap_of_search(plan.search_gap_percent, plan.gap_percent)) is not None:
        said.append(f"search gap {gap:.2g} %; the rest is whole samples and what boards can set")
    if plan.error is not None and plan.error_max is not None:
        said.append(f"mean learning error {plan.error:.4g} of at most {plan.error_max:.4g}")
    if plan.synthetic_value < 1:
        said.append(f"a synthetic sample counts as {plan.synthetic_value:g} real ones")
    said.append(
        f"found by {plan.search} in {plan.search_s + plan.certificate_s:.2f} s, "
        f"{plan.evaluations} candidates"
    )
    return "\n".join([*lines, *(line for each in said for line in wrap(each, paper.text_width))])


def _energy(plan: Plan, name: Objective) -> str:
    """One of a plan's energies with its bound."""
    energy = plan.board if name == "board" else plan.dynamic
    least = ", made least" if name == plan.objective else ""
    said = f"{name} energy of a round {energy.energy_j:.6g} J{least} ({SCOPES[name]})"
    if energy.bound_j is None or energy.gap_percent is None:
        return said
    return (
        f"{said}; no plan takes less than {energy.bound_j:.6g} J: at most "
        f"{energy.gap_percent:.3g} % above"
    )


def plan_body(plan: Plan) -> dict[str, Any]:
    """A plan for JSON, with the gaps and what it makes least."""
    body: dict[str, Any] = msgspec.to_builtins(plan)
    body |= certified_body({"board": plan.board, "dynamic": plan.dynamic})
    least = {key: getattr(plan, key) for key in ("energy_j", "bound_j", "gap_percent")}
    return body | least


def certified_body(energies: Mapping[Objective, Certified]) -> dict[str, dict[str, float | None]]:
    """Energies for JSON, with their gaps."""
    return {
        name: msgspec.to_builtins(energy) | {"gap_percent": energy.gap_percent}
        for name, energy in energies.items()
    }


def choice_table(choice: Choice, objective: Objective, paper: Paper | None = None) -> str:
    """Joules to a target accuracy, over Δ_max; they are those of the objective."""
    heading = ["", "Δ_max", "round\ns", "rounds", "J per\nround", "J of pre-\nparation", "J in all"]
    heading += ["no less\nthan J"]
    rows: list[tuple[str, ...]] = []
    # Many trials are close to the best: of trials with the same text one is shown, if possible
    # the best.
    shown = {_as_read(trial): trial for trial in choice.trials} | {
        _as_read(choice.best): choice.best
    }
    picked = list(shown.values())
    step = max(1, len(picked) // 12)
    for trial in sorted({*picked[::step], choice.best, picked[-1]}, key=lambda t: t.error_max):
        rows.append(
            (
                "→" if trial == choice.best else "",
                *_as_read(trial),
                f"{trial.rounds:.1f}",
                *(
                    f"{value:.5g}"
                    for value in (
                        trial.round_j,
                        trial.preparation_j if trial.preparation_j > 1e-9 else 0.0,
                        trial.total_j,
                        trial.bound_j,
                    )
                ),
            )
        )
    best, paper = choice.best, paper or Paper()
    sentence = (
        f"error_max {best.error_max:.4g} with rounds of {best.round_s:.4g} s needs the fewest "
        f"joules to {100 * choice.accuracy:g} % accuracy: {best.total_j:.5g} J in "
        f"{best.rounds:.1f} rounds, predicted. Joules are {SCOPES[objective]}"
    )
    if choice.others:
        sentence += f". {_epochs_words(choice)}"
    return "\n".join([table(heading, rows, paper=paper), "", *wrap(sentence, paper.text_width)])


def _epochs_words(choice: Choice) -> str:
    """Why these local epochs: the joules of the others, or the bound that left them out."""
    said = []
    for other in choice.others:
        if other.total_j is not None:
            said.append(f"{other.epochs} take {other.total_j:.5g} J")
        elif math.isfinite(other.bound_j):
            said.append(f"{other.epochs} no less than {other.bound_j:.5g} J")
        else:
            said.append(f"{other.epochs} have no plan")
    return f"Local epochs: {choice.epochs}; {', '.join(said)}"


def to_target(choice: Choice, plan: Plan) -> dict[Objective, Certified]:
    """Both energies of the chosen plan in all rounds to the target, preparation included."""
    energies: dict[Objective, Certified] = {"board": plan.board, "dynamic": plan.dynamic}
    rounds = choice.best.rounds
    return {
        name: Certified(
            energy_j=rounds * energy.energy_j,
            bound_j=None if energy.bound_j is None else rounds * energy.bound_j,
        )
        for name, energy in energies.items()
    }


def target_words(choice: Choice, plan: Plan, paper: Paper | None = None) -> str:
    """Both energies to the target in a sentence, first the one that is made least."""
    each = to_target(choice, plan)
    said = []
    for name in dict.fromkeys((plan.objective, *SCOPES)):
        energy = each[name]
        words = f"{name} energy {energy.energy_j:.5g} J"
        if energy.bound_j is not None and energy.gap_percent is not None:
            words += f" (bound {energy.bound_j:.5g} J, gap {energy.gap_percent:.3g} %)"
        said.append(words)
    sentence = (
        f"in {choice.best.rounds:.1f} rounds to {100 * choice.accuracy:g} % accuracy this plan, in "
        f"whole samples, takes {', '.join(said)}, modelled; the bounds are those of plans with "
        "this error_max"
    )
    return "\n".join(wrap(sentence, (paper or Paper()).text_width))


def _as_read(trial: TargetTrial) -> tuple[str, str]:
    return f"{trial.error_max:.3g}", f"{trial.round_s:.4g}"


def sweep_table(
    points: Sequence[SweepPoint], objective: Objective, paper: Paper | None = None
) -> str:
    """A sweep as a table; infeasible points name the constraint that cannot be met."""
    names = list(points[0].values) if points else []
    heading = [f"{TITLES[n]}\n{UNITS.get(n, '')}".strip() for n in names]
    first, second = sorted(SCOPES, key=lambda name: name != objective)
    for name in (first, second):
        heading += [f"{name}\nJ", "bound\nJ", "gap\n%"]
    heading += ["Δ", "synthetic\nsamples"]
    rows: list[tuple[str, ...]] = []
    for point in points:
        values = [f"{point.values[n]:.6g}" for n in names]
        if not point.feasible:
            why = (Marked("infeasible", "problem"), f"({point.obstacle})")
            rows.append((*values, *why, *[""] * (len(heading) - len(values) - 2)))
            continue
        for name in (first, second):
            energy_j, bound_j, gap = (
                getattr(point, f"{name}_{what}") for what in ("j", "bound_j", "gap_percent")
            )
            values += [
                _figure(energy_j, ".5g"),
                _figure(bound_j, ".5g"),
                _figure(gap, ".1g" if (gap or 0.0) < 1.0 else ".3g"),
            ]
        error = _figure(point.error, ".4g")
        rows.append((*values, error, f"{point.synthetic_samples:.0f}"))
    paper = paper or Paper()
    said = (
        f"Joules of a round: board: {SCOPES['board']}; dynamic: {SCOPES['dynamic']}. The "
        f"{first} energy is made least. Bound: no plan takes less of this energy. A sweep plans "
        "in real numbers: whole samples need a little more."
    )
    return "\n".join([table(heading, rows, paper=paper), "", *wrap(said, paper.text_width)])


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def sweep_csv(points: Sequence[SweepPoint]) -> str:
    """A sweep as CSV, one line per point."""
    names = list(points[0].values) if points else []
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *_CSV_COLUMNS])
    for point in points:
        cells = [getattr(point, column) for column in _CSV_COLUMNS]
        writer.writerow(
            [*(repr(point.values[n]) for n in names), *("" if c is None else c for c in cells)]
        )
    return out.getvalue()
