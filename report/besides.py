"""Figures beside those of devices: what was expected, images, the server, budgets, carbon.

The server's and the generator node's seconds and joules are in no sum of the devices'; what all of
them took together is a figure of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from msgspec import Struct

from fimi.energy.joules import format_energy, format_joules
from fimi.plural import plural
from fimi.record.curve import price
from fimi.record.record import Expectation, RunData
from fimi.record.results import RoundResult
from fimi.record.summary import Summary
from fimi.report.carbon import carbon_words
from fimi.report.words import MISSING, at_least, modelled, percent, seconds, whole


class Extra(Struct, frozen=True, kw_only=True):
    """One more figure of a run.

    Attributes:
        term: what it is.
        value: the figure.
        note: what it means.
    """

    term: str
    value: str
    note: str


def extras(run: RunData, summary: Summary) -> tuple[Extra, ...]:
    """What was expected; generation, training on the server, pseudo-labels, and kept budgets."""
    found = (
        _expected(run, summary),
        _learning(run),
        _generation(run),
        _server(run.rounds, summary),
        _total(summary),
        _insight(run, summary),
        _pseudo_labels(run),
        *_kept(summary),
        _carbon(summary),
    )
    return tuple(extra for extra in found if extra is not None)


def expected_words(expected: Expectation) -> str:
    """What a plan for a target accuracy expects: ``3.4 rounds and 812 J (modelled) to 95.0 %``."""
    return (
        f"{expected.rounds:.1f} rounds and {modelled(expected.energy_j)} to "
        f"{percent(expected.accuracy)}"
    )


_SETTLED = 3
"""Rounds after which planned errors are held against the measured ones: they were learned from."""


def _learning(run: RunData) -> Extra | None:
    """Planned and measured errors of devices' models; nothing where none were measured."""
    last = next((each for each in reversed(run.rounds) if each.local_error is not None), None)
    if last is None:
        return None
    value = f"{percent(last.local_error)} error of devices’ models in round {last.number}"
    said = [] if last.planned_error is None else [f"planned {percent(last.planned_error)}"]
    apart = [
        abs(each.planned_error - each.local_error)
        for each in run.rounds
        if each.number > _SETTLED
        and each.planned_error is not None
        and each.local_error is not None
    ]
    if apart:
        said.append(
            f"from round {_SETTLED + 1} on apart by {100 * fmean(apart):.1f} points on average, "
            f"{100 * max(apart):.1f} at most"
        )
    for refit in run.learning_refits:
        images = f"{refit.images} further images" if refit.images else "no further images"
        why = f" ({refit.reason})" if refit.reason else ""
        said.append(
            f"curve fitted again after round {refit.round}: {percent(refit.measured)} instead of "
            f"{percent(refit.before)}, {images}{why}"
        )
    return Extra(term="learning", value=f"{value}," if said else value, note="; ".join(said))


def _expected(run: RunData, summary: Summary) -> Extra | None:
    """The rounds and joules to the target, expected and taken; nothing without a target."""
    plan = run.plan
    if plan is None or plan.expected is None:
        return None
    expected, scope = plan.expected, f"{plan.objective} energy"
    epochs = "" if plan.epochs is None else f", {plan.epochs} local epochs a round"
    paid = price(summary.points, expected.accuracy)
    taken = paid.energy if plan.objective == "board" else paid.dynamic
    if paid.rounds is None or taken is None:
        took = f"it was not reached in {len(summary.points)} rounds"
    else:
        rounds = plural(paid.rounds, "round")
        took = f"took {rounds} and {whole(taken) or MISSING}"
    return Extra(
        term="expected",
        value=expected_words(expected),
        note=f"accuracy ({scope}, Δ_max {expected.error_max:.3g}{epochs}); {took}",
    )


def server_line(result: RoundResult) -> str:
    """The server's part of a round in a few words; empty if it only averaged."""
    server = result.server
    if server is None:
        return ""
    energy = f", {server.energy}" if server.energy else ""
    weight = "" if server.weight is None else f", κ2 {server.weight:.3g}"
    if server.error:
        return f"{server.error} (after {seconds(server.seconds)}{energy})"
    return f"server trained on {server.images} images in {seconds(server.seconds)}{energy}{weight}"


def _kept(summary: Summary) -> Iterator[Extra]:
    """The fleet's budget, and of the devices' own the nearest to its end, as far as it was kept."""
    fleet = [budget for budget in summary.budgets if not budget.device]
    for group in (fleet, [budget for budget in summary.budgets if budget.device]):
        most = max(group, key=lambda each: each.taken.value_j, default=None)
        if most is None or not most.is_kept:
            continue
        note = f"of {most.budget_j:g} J"
        devices = len(summary.devices) if most.device else 1
        if devices > 1:
            note += f", the nearest of {devices} devices"
        unknown = sum(not each.whole for each in group) + devices - len(group)
        if unknown:
            note += ", as far as joules are known"
        value = f"{most.device or 'the fleet'} took {format_energy(most.taken)}"
        yield Extra(term="budget", value=value, note=note)


def _server(rounds: Sequence[RoundResult], summary: Summary) -> Extra | None:
    parts = [r.server for r in rounds if r.server is not None]
    if not parts:
        return None
    energy = whole(summary.server) if summary.server.known else "joules not metered"
    weights = [part.weight for part in parts if part.weight is not None]
    mixed = ""
    if weights:
        low, high = min(weights), max(weights)
        mixed = f"; κ2 {low:.3g}" + (f" to {high:.3g}" if high > low else "")
    return Extra(
        term="server",
        value=seconds(summary.server_s),
        note=f"of training on up to {max(part.images for part in parts)} images, "
        f"{energy}; in no device's joules{mixed}",
    )


def _total(summary: Summary) -> Extra | None:
    """All joules together; nothing where only devices took part."""
    parts = {"the generator node": summary.generator, "the server": summary.server}
    more = {
        name: "unknown" if each.known is None else format_energy(each.known)
        for name, each in parts.items()
        if each.known is not None or each.missing
    }
    if not more:
        return None
    boards = at_least(summary.energy) or MISSING
    others = ", ".join(f"{name} {took}" for name, took in more.items())
    return Extra(
        term="total",
        value=at_least(summary.total),
        note=f"of all machines: boards {boards}, {others}",
    )


def _carbon(summary: Summary) -> Extra | None:
    """Emissions; nothing where no intensity is given."""
    value, note = carbon_words(summary.carbon)
    return Extra(term="carbon", value=f"{value};", note=note) if value else None


def _insight(run: RunData, summary: Summary) -> Extra | None:
    if summary.insight_s is None:
        return None
    looks = plural(len(run.insights), "look")
    idled = summary.insight_idle_j
    note = f"of the server for {looks} at updates and gradients; devices compute nothing for them"
    if idled is not None:
        note += f"; real boards rested meanwhile, about {modelled(idled)} of their idle energy"
    return Extra(term="insight", value=seconds(summary.insight_s), note=note)


def _pseudo_labels(run: RunData) -> Extra | None:
    held = sum(plan.unlabelled for plan in run.device_plans.values())
    if not held or not run.rounds:
        return None
    last = run.rounds[-1].participants
    kept = sum(device.synthetic_samples for device in last)
    looked = sum(
        run.device_plans[d.device].unlabelled for d in last if d.device in run.device_plans
    )
    return Extra(
        term="pseudo-labels",
        value=percent(kept / looked if looked else None),
        note=f"{kept} of {looked} unlabelled images were kept in the last round; the prediction "
        "has all of them kept",
    )


def _generation(run: RunData) -> Extra | None:
    """Figures of generation; nothing for a strategy that asks for no images."""
    made = run.generation
    if made is None:
        return _no_images(run)
    said = ["that were planned" + (f", {made.undelivered} missing" if made.undelivered else "")]
    if made.drawn:
        said.append(f"{made.drawn} drawn for them, {made.refused} of those refused")
        took = f"{1000 * made.seconds / made.drawn:.3g} ms"
        if made.energy is None:
            said.append(f"{took} of the generator node an image drawn, joules not metered")
        else:
            joules = format_joules(made.energy.value_j / made.drawn)
            how = f"{made.energy.kind}, {made.energy.scope}"
            said.append(f"{took} and {joules} ({how}) of the generator node an image drawn")
    else:
        said.append("drawn before, or not known how many were drawn")
    return Extra(
        term="synthetic",
        value=f"{made.delivered} of {made.requested} samples",
        note=f"{'; '.join(said)}; in no device's joules",
    )


def _no_images(run: RunData) -> Extra | None:
    """Why devices that might have been filled were not."""
    limit = run.plan.error_max if run.plan else None
    if not run.info.fills_devices or not run.device_plans or limit is None:
        return None
    if any(sum(plan.synthetic_counts) for plan in run.device_plans.values()):
        return None
    note = f"were planned: local data alone meet plan.error_max {limit:g}; lower it"
    return Extra(term="synthetic", value="no samples", note=note)
