"""What a reading cannot be: 0 W, more than a board can draw, less than it draws at rest.

* :class:`BoardLimits`   what a model of board draws at least and at most
* :func:`limits`         those of this board, by the name in its device tree
* :func:`implausible`    what speaks against a reading

:mod:`fimi.energy.meters.watch` sees what takes time to show: frozen, silent. What only the chip
knows (range, sign, shunt) is said by :meth:`fimi.energy.meters.Meter.doubts`.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from fimi.energy.meters import MeterDescription
from fimi.energy.sysfs import read_text


class BoardLimits(Struct, frozen=True):
    """What a board can draw.

    Attributes:
        model: its name, as its device tree gives it.
        least_w: less than it draws at rest as a whole, W.
        most_w: more than its supply can give to it and what hangs on it, W.
    """

    model: str
    least_w: float
    most_w: float

    @property
    def impossible_w(self) -> float:
        """What no reading can be, W: a number of another kind, or a counter that leapt.

        Other devices on the same socket are allowed for.
        """
        return min(_ANY_SOCKET_W, 10.0 * self.most_w)


_BOARDS: tuple[tuple[str, float, float], ...] = (
    # The first that fits. Rest: well below what is published; most: the largest supply that the
    # maker names, and a fifth more.
    ("Raspberry Pi 5", 1.2, 30.0),
    ("Compute Module 5", 1.0, 30.0),
    ("Raspberry Pi 4", 1.2, 18.0),
    ("Raspberry Pi 400", 1.2, 18.0),
    ("Compute Module 4", 0.8, 18.0),
    ("Raspberry Pi 3", 0.8, 15.0),
    ("Raspberry Pi 2", 0.6, 12.0),
    ("Raspberry Pi Zero", 0.2, 8.0),
    ("Raspberry Pi", 0.3, 15.0),
    ("Jetson Thor", 8.0, 240.0),
    ("AGX Thor", 8.0, 240.0),
    ("Orin Nano", 2.0, 60.0),
    ("Orin NX", 2.0, 60.0),
    ("AGX Orin", 4.0, 120.0),
    ("Xavier NX", 1.5, 50.0),
    ("AGX Xavier", 3.0, 100.0),
    ("Jetson-TX2", 1.0, 60.0),
    ("Jetson TX2", 1.0, 60.0),
    ("Jetson Nano", 0.8, 25.0),
    ("ODROID-XU", 1.2, 30.0),
    ("ODROID-C", 0.8, 15.0),
    ("ODROID-N2", 1.0, 30.0),
    ("ODROID-M1", 0.8, 40.0),
    ("ROCK 5", 1.0, 60.0),
    ("Orange Pi 5", 1.0, 30.0),
    ("Orange Pi", 0.4, 20.0),
    ("BeagleBone", 0.5, 12.0),
    ("BeaglePlay", 0.5, 18.0),
)
AT_ZERO = (
    "it shows 0 W, and what runs draws more: below its threshold, not connected, or the wrong "
    "channel"
)

_UNKNOWN = (0.05, 100_000.0)
_ANY_SOCKET_W = 20e3


def limits(root: Path) -> BoardLimits:
    """What this board can draw; wide limits where it is not known."""
    model = (read_text(root / "proc" / "device-tree" / "model") or "").rstrip("\0").strip()
    lower = model.lower()
    fits = (row for row in _BOARDS if lower and row[0].lower() in lower)
    _, least_w, most_w = next(fits, ("", *_UNKNOWN))
    return BoardLimits(model, least_w, most_w)


def implausible(
    description: MeterDescription, power_w: float | None, board: BoardLimits
) -> tuple[str, ...]:
    """What speaks against a reading of a power, W, a sentence each."""
    if power_w is None or description.kind != "measured":
        return ()
    if power_w == 0.0:
        return (AT_ZERO,)
    if description.scope in ("cpu", "gpu"):
        return ()
    whole = f"a {board.model}" if board.model else "what runs here"
    if power_w > board.most_w:
        return (
            f"{power_w:.3g} W is more than {whole} can draw ({board.most_w:g} W): wrong shunt, "
            "unit or channel, or other devices on the same meter",
        )
    if description.scope in ("board", "wall") and power_w < board.least_w:
        return (
            f"{power_w:.3g} W is less than {whole} draws at rest ({board.least_w:g} W): a rail "
            "of it, not the whole, or the wrong shunt, unit or channel",
        )
    return ()
