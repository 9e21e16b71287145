"""``fimi fleet calibrate``: boards calibrate themselves; what they find is stored and compared.

* :func:`calibrate`  lets a board calibrate itself, or fetches its last result
* :class:`Stored`    a calibration on this machine
* :func:`store`      writes it beside the earlier ones of the board
* :func:`compared`   what has changed since the last one, as a table

Of each calibration ``FOLDER/<board>/`` holds the profile (``<time>.toml``), what was measured
(``<time>.json``) and its picture (``<time>.html``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.energy.calibration.fit import Estimate
from fimi.energy.calibration.fitted import Calibration
from fimi.files import write_whole
from fimi.messaging.console import Console
from fimi.messaging.errors import MessageRefused, NotAnswered
from fimi.messaging.questions import Calibrated, CalibrationQuestion, CalibrationRequest
from fimi.report.layout import Paper, table
from fimi.report.words import MISSING, signed_percent

PATIENCE_S = 120.0
"""How long a board may say nothing besides the time of a setting, s."""


class Stored(Struct, frozen=True, kw_only=True):
    """A calibration of a board on this machine.

    Attributes:
        board: id of the board.
        profile: file of its profile.
        found: what was measured.
        before: the one before; ``None`` for the first.
        picture: file of its picture; ``None`` where plotly is not installed.
    """

    board: str
    profile: Path
    found: Calibration
    before: Calibration | None
    picture: Path | None


def calibrate(
    console: Console,
    board: str,
    request: CalibrationRequest | None,
    progress: Callable[[str], None],
) -> Calibrated:
    """Let a board calibrate itself, and wait for what it finds.

    Args:
        console: the fleet.
        board: its id.
        request: how; ``None``: it only gives its last result.
        progress: is told how far it is.

    Raises:
        BoardDeclines: it does not; says why.
        NotAnswered: it does not answer; what it measures meanwhile is not lost.
    """
    if request is None:
        reply = console.ask(board, CalibrationQuestion())
    else:
        patience_s = PATIENCE_S + request.seconds + request.settle
        try:
            reply = console.ask(board, request, patience_s, progress=progress)
        except NotAnswered as error:
            raise NotAnswered(
                f"{error}. If it has begun, it goes on: fimi fleet calibrate {board} --last "
                "fetches what it has found"
            ) from error
    if not isinstance(reply, Calibrated):
        raise NotAnswered(f"{board} answers with {type(reply).__name__}")
    return reply


def store(board: str, reply: Calibrated, folder: Path) -> Stored:
    """Write a calibration beside the earlier ones of a board.

    Raises:
        MessageRefused: what the board has measured cannot be read here.
        OSError: it cannot be written.
    """
    try:
        found = msgspec.json.decode(bytes(reply.calibration), type=Calibration)
    except msgspec.DecodeError as error:
        raise MessageRefused(
            f"the calibration of {board} cannot be read here ({error}): install the same version "
            "of fimi there and here; its profile is in force there all the same"
        ) from error
    place = folder / board
    place.mkdir(parents=True, exist_ok=True)
    at = datetime.fromtimestamp(reply.unix_s, timezone.utc).strftime("%Y-%m-%dT%H%M%SZ")
    earlier = sorted(path for path in place.glob("*.json") if path.stem < at)
    before = _read(earlier[-1]) if earlier else None
    write_whole(place / f"{at}.toml", reply.profile)
    write_whole(place / f"{at}.json", bytes(reply.calibration))
    picture: Path | None = place / f"{at}.html"
    try:
        from fimi.testbed.tools.calibrate_page import calibration_page

        page = calibration_page(found)
    except ImportError:
        picture = None
    else:
        write_whole(place / f"{at}.html", page)
    return Stored(
        board=board, profile=place / f"{at}.toml", found=found, before=before, picture=picture
    )


def _read(path: Path) -> Calibration | None:
    """An earlier calibration; ``None`` if it cannot be read, as one of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError):
        return None


def compared(stored: Stored, paper: Paper) -> Iterator[str]:
    """What was found, beside the last calibration of the board: value, before, change."""
    before = _figures(stored.before) if stored.before is not None else {}
    rows = [
        (name, unit, f"{now.value:#.4g}", *_beside(before.get((name, unit)), now))
        for (name, unit), now in _figures(stored.found).items()
    ]
    yield table((stored.board, "unit", "now", "before", "change"), rows, paper=paper)
    yield f"profile: {stored.profile}"
    if stored.picture is not None:
        yield f"picture: {stored.picture}"


def _figures(found: Calibration) -> dict[tuple[str, str], Estimate]:
    figures = {("P_idle", "W"): found.idle_w}
    if (law := found.power) is not None:
        figures["P_act", "W"] = law.active_w
        if law.linear_w_per_hz is not None:
            figures["c", "W/GHz"] = law.linear_w_per_hz.scaled(1e9)
        figures["κ", "W/Hz³"] = law.slope
    figures["C", "cycles a sample"] = found.cycles
    return figures


def _beside(before: Estimate | None, now: Estimate) -> tuple[str, str]:
    """The value before and the change; one that the confidence intervals explain says so."""
    if before is None:
        return MISSING, MISSING
    if before.value == 0.0:
        return f"{before.value:#.4g}", MISSING
    change = signed_percent(100.0 * (now.value / before.value - 1.0))
    within = now.low <= before.high and before.low <= now.high
    return f"{before.value:#.4g}", f"{change}{' (within both)' if within else ''}"
