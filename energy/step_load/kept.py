"""What was learned of meters, as a table of the board's profile.

* :class:`KeptResponse`  the response of one meter, as the profile has it
* :func:`keep`           writes it into the file and leaves the rest of the file as it was
* :func:`changed`        whether two responses differ by more than is uncertain
* :func:`outdated`       whether the chip's settings have changed since

A table is for one meter, by its source, so that another one does not get it::

    [meter_response."tasmota:desk-plug"]
    delay_s = 2.1
    window_s = 0.0
    refresh_s = 1.0
    delay_sd_s = 0.04

Of a chip that says how often it is set to refresh, that is kept as well (``chip_refresh_s``): once
it is set otherwise, the response is not used.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from fimi.energy.meters.response import MeterResponse
from fimi.energy.toml_text import quoted
from fimi.errors import InputError

_Seconds = Annotated[float, Meta(ge=0, le=600)]
_TABLE = "meter_response"
_REFRESH_SLACK = 0.1
_WINDOW_SLACK = 0.25


class KeptResponse(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The learned response of a meter.

    Attributes:
        delay_s, window_s, refresh_s, delay_sd_s: of
            :class:`fimi.energy.meters.response.MeterResponse`.
        noise_w: scatter of readings while nothing changes, W; ``None`` if unknown.
        learned_at: when it was learned, ISO 8601; empty if unknown.
        chip_refresh_s: the refresh that the chip was set to at that time, s; ``None`` if it does
            not say.
    """

    delay_s: _Seconds
    window_s: _Seconds = 0.0
    refresh_s: _Seconds = 0.0
    delay_sd_s: _Seconds = 0.0
    noise_w: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    learned_at: str = ""
    chip_refresh_s: _Seconds | None = None

    @property
    def response(self) -> MeterResponse:
        """The response, whose origin is ``learned``."""
        return MeterResponse(
            delay_s=self.delay_s,
            window_s=self.window_s,
            refresh_s=self.refresh_s,
            delay_sd_s=self.delay_sd_s,
            origin="learned",
        )


def changed(before: MeterResponse, now: MeterResponse) -> list[str]:
    """In what two learned responses differ by more than both uncertainties, as parts of a sentence.

    What is uncertain of windows follows from that of the delay: the middle of a window is known
    better than its ends. A refresh differs from a tenth of it on.
    """
    found = []
    uncertain_s = 2.0 * (before.delay_sd_s**2 + now.delay_sd_s**2) ** 0.5
    if abs(now.delay_s - before.delay_s) > uncertain_s:
        found.append(f"it was {before.delay_s:.3g} s late and is {now.delay_s:.3g} s late")
    longer_s = max(before.refresh_s, now.refresh_s)
    if abs(now.refresh_s - before.refresh_s) > _REFRESH_SLACK * longer_s + 0.01:
        found.append(
            f"it was new every {before.refresh_s:.3g} s and is every {now.refresh_s:.3g} s"
        )
    wider_s = max(before.window_s, now.window_s)
    if abs(now.window_s - before.window_s) > 2.0 * uncertain_s + _WINDOW_SLACK * wider_s:
        found.append(f"it was the mean of {before.window_s:.3g} s and is of {now.window_s:.3g} s")
    return found


def outdated(kept: KeptResponse, stated: MeterResponse) -> str:
    """Why a kept response is not that of the chip as ``stated`` now; empty if nothing says so."""
    before_s, now_s = kept.chip_refresh_s, stated.refresh_s
    if before_s is None or (stated.origin == "chip" and abs(now_s - before_s) <= 0.01 * before_s):
        return ""
    now = f"{now_s:.3g} s" if stated.origin == "chip" else "unknown"
    return (
        f"the response learned {f'on {kept.learned_at[:10]} ' if kept.learned_at else ''}is not "
        f"used: the chip's own interval was {before_s:.3g} s then and is {now} now"
    )


def keep(path: Path, source: str, kept: KeptResponse) -> None:
    """Write the response of a meter into a profile, in place of an older one.

    A TOML file keeps everything else, comments included; it is replaced as a whole or not at all.

    Raises:
        InputError: the file has the table in a form that cannot be replaced line by line.
        OSError: it cannot be read or written.
    """
    from fimi.files import write_whole  # an agent, which does not write, has no use for it

    text = path.read_text(encoding="utf-8")
    body = {key: value for key, value in msgspec.structs.asdict(kept).items() if value is not None}
    if path.suffix == ".json":
        tree = json.loads(text)
        tree.setdefault(_TABLE, {})[source] = body
        write_whole(path, json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
        return
    before = msgspec.toml.decode(text)
    new = _without(text, source)
    lines = [f"[{_TABLE}.{quoted(source)}]"]
    lines += [f"{key} = {_value(value)}" for key, value in body.items()]
    new = new.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n"
    wanted = {**before, _TABLE: {**before.get(_TABLE, {}), source: body}}
    try:
        found: Any = msgspec.toml.decode(new)
    except msgspec.DecodeError:
        found = None
    if found != wanted:
        raise InputError(
            f"{path} has {_TABLE} in a form that cannot be replaced line by line. Remove it from "
            f"the file, or write these lines there yourself:\n" + "\n".join(lines),
            code="M001",
        )
    write_whole(path, new)


def _without(text: str, source: str) -> str:
    """A TOML text without the table of a source; comments above it and below it stay."""
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        if heading := re.match(r"\s*\[([^\[\]].*?)\]\s*(#.*)?$", line.rstrip("\n")):
            inside = _names(heading.group(1), source)
            if inside:
                continue
        if inside and (not line.strip() or line.lstrip().startswith("#") or line.startswith("[[")):
            inside = inside and not line.startswith("[[")
            kept.append(line if line.strip() else "")
            continue
        if not inside:
            kept.append(line)
    return "".join(kept)


def _names(heading: str, source: str) -> bool:
    """Whether a heading is that of the table of a source."""
    try:
        tree = msgspec.toml.decode(f"[{heading}]\n")
    except msgspec.DecodeError:
        return False
    return bool(tree == {_TABLE: {source: {}}})


def _value(value: float | str) -> str:
    return quoted(value) if isinstance(value, str) else repr(float(value))
