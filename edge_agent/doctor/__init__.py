"""Checks whether this machine can be a device: one line per check, with a command that helps.

* :func:`examine`                          runs every check; none of them changes anything
* :mod:`fimi.edge_agent.doctor.machine`    the machine to check, and the result of one check
* :mod:`fimi.edge_agent.doctor.meters`     the meters
* :mod:`fimi.edge_agent.doctor.frequency`  whether the frequency can be set and its cycles counted
* :mod:`fimi.edge_agent.doctor.board`      sending rate, clock, temperature and throttling
* :mod:`fimi.edge_agent.doctor.surroundings`  libraries, broker, memory and disk

The status of a check is ``ok``; ``absent`` for what this machine does not have; ``warning`` if the
agent runs with restrictions (a declared power instead of a meter, no frequency cap); or ``failure``
if it cannot run, or its joules would be missing.
"""

from __future__ import annotations

from fimi.edge_agent.doctor.board import clock, heat, rate
from fimi.edge_agent.doctor.frequency import frequency
from fimi.edge_agent.doctor.machine import Machine
from fimi.edge_agent.doctor.meters import meters
from fimi.edge_agent.doctor.surroundings import broker, python, room
from fimi.messaging.questions import Check

_PARTS = (python, meters, frequency, rate, clock, heat, broker, room)


_UNMETERED = (python, clock, broker, room)


def examine(machine: Machine, *, metered: bool = True) -> tuple[Check, ...]:
    """Run every check, in the order in which a board is set up.

    Args:
        machine: what is checked.
        metered: whether it is a board of its own; an agent that only emulates one needs neither
            meter nor control.
    """
    parts = _PARTS if metered else _UNMETERED
    return tuple(check for part in parts for check in part(machine))
