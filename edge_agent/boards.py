"""The emulated board of a device without a meter, as the coordinator's invitation describes it."""

from __future__ import annotations

from fimi.energy.emulation.board import Disturbance, EmulatedBoard, VirtualBoard
from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.physical_board import PhysicalBoard
from fimi.messaging.messages.orders import EmulatedDevice


def emulated_board(emulated: EmulatedDevice, index: int) -> VirtualBoard:
    """The board of a device; the same in every process.

    Args:
        emulated: what it is.
        index: of the device in the run; with the seed it decides everything random of the board.

    Raises:
        ValueError: there is no such make.
    """
    declaration = declare_board(
        emulated.board,
        seed=emulated.seed,
        index=index,
        cycles_per_sample=emulated.cycles_per_sample,
        radio=emulated.radio,
        meter=emulated.meter,
    )
    make: type[VirtualBoard] = PhysicalBoard if emulated.emulation == "physical" else EmulatedBoard
    return make(
        declaration,
        seed=emulated.seed,
        index=index,
        disturbance=Disturbance(profile_error=emulated.profile_error),
    )
