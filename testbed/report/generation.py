"""What making the synthetic images came to: planned against delivered, and what an image took.

The generator node's seconds and joules are its own and in no sum of the devices'.
"""

from __future__ import annotations

from coordinator.strategies import STRATEGIES
from energy.joules import format_joules
from testbed.report.run_data import RunData
from testbed.report.strategy_words import Extra


def extras(run: RunData) -> tuple[Extra, ...]:
    """What there is to say of generation; empty for a strategy that asks for no images."""
    made = run.generation
    if made is None:
        return _none(run)
    missing = made.requested - made.delivered
    said = ["that were planned" + (f", {missing} missing" if missing else "")]
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
    return (
        Extra(
            term="synthetic",
            value=f"{made.delivered} of {made.requested} images",
            note=f"{'; '.join(said)}; in no device's joules",
        ),
    )


def _none(run: RunData) -> tuple[Extra, ...]:
    """Why devices that might have been filled were not."""
    strategy = STRATEGIES.get(run.info.strategy)
    limit = run.plan.error_max if run.plan else None
    if strategy is None or not strategy.fills_devices or not run.device_plans or limit is None:
        return ()
    if any(sum(plan.synthetic_counts) for plan in run.device_plans.values()):
        return ()
    note = f"were planned: local data alone meet plan.error_max {limit:g}; lower it"
    return (Extra(term="synthetic", value="no images", note=note),)
