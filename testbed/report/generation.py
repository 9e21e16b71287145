"""What making the synthetic images came to: planned against delivered, and what an image took.

The generator node's seconds and joules are its own and in no sum of the devices'.
"""

from __future__ import annotations

from energy.joules import format_joules
from testbed.report.run_data import RunData
from testbed.report.strategy_words import Extra


def extras(run: RunData) -> tuple[Extra, ...]:
    """What there is to say of generation; empty for a run that asked for no images."""
    made = run.generation
    if made is None:
        return ()
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
