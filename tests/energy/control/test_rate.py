"""Which means limits the uplink, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fimi.energy.control.journal import Journal
from fimi.energy.control.programs import ProgramResult
from fimi.energy.control.rate import TC_HEADROOM, Choice, RateControl
from fimi.energy.control.traffic import HANDLE


class Connection:
    """A connection whose pacing works, is refused, or is not believed by the kernel."""

    def __init__(self, *, answers: str = "socket-pacing", at_most_bps: float = 1e12) -> None:
        self.answers = answers
        self.at_most_bps = at_most_bps
        self.rate_bps: float | None = None

    def set_pacing(self, rate_bps: float | None) -> str:
        if self.answers:
            self.rate_bps = rate_bps
        return self.answers

    def pacing_bps(self) -> float | None:
        return None if self.rate_bps is None else min(self.rate_bps, self.at_most_bps)


class Tc:
    """The program tc, which works or is refused."""

    def __init__(self, *, works: bool) -> None:
        self.works = works
        self.rate_bytes = 0

    def __call__(self, arguments: Sequence[str]) -> ProgramResult:
        if "show" in arguments:
            shown = {"root": True, "kind": "tbf", "handle": HANDLE}
            shown |= {"options": {"rate": self.rate_bytes}}
            return ProgramResult(0, json.dumps([shown]), "")
        if not self.works:
            return ProgramResult(2, "", "Operation not permitted")
        self.rate_bytes = int(arguments[arguments.index("rate") + 1].removesuffix("bit")) // 8
        return ProgramResult(0, "", "")


def control(
    folder: Path,
    choice: Choice,
    uplink: Connection | None,
    *,
    tc: bool = True,
    interface: str | None = "wlan0",
) -> RateControl:
    run = Tc(works=tc)
    return RateControl(choice, uplink, interface, Journal(folder, folder, run), run)


@pytest.mark.parametrize("choice", ["auto", "socket-pacing"])
def test_the_connection_is_paced_and_read_back(tmp_path: Path, choice: Choice) -> None:
    notes: list[str] = []
    connection = Connection(at_most_bps=8e5)
    assert control(tmp_path, choice, connection).limit(1e6, notes) == (8e5, "socket-pacing")
    assert connection.rate_bps == 1e6
    assert notes == []


def test_the_interface_has_room_for_headers_and_the_payload_its_rate(tmp_path: Path) -> None:
    notes: list[str] = []
    connection = Connection()
    rate = control(tmp_path, "tc", connection)
    assert rate.limit(1e6, notes) == (1e6, "tc")
    assert rate._run.rate_bytes == TC_HEADROOM * 1e6 / 8  # type: ignore[attr-defined]
    assert connection.rate_bps == 1e6
    assert notes == []
    rate.lift()
    assert connection.rate_bps is None


def test_the_interface_alone(tmp_path: Path) -> None:
    assert control(tmp_path, "tc", None).limit(1e6, []) == (1e6, "tc")


@pytest.mark.parametrize(("tc", "interface"), [(False, "wlan0"), (True, None)])
def test_where_the_interface_cannot_be_capped_the_connection_is_paced(
    tmp_path: Path, tc: bool, interface: str | None
) -> None:
    notes: list[str] = []
    rate = control(tmp_path, "tc", Connection(), tc=tc, interface=interface)
    assert rate.limit(1e6, notes) == (1e6, "socket-pacing")
    assert len(notes) == 1


@pytest.mark.parametrize("uplink", [None, Connection(answers="")])
def test_nothing_limits_it(tmp_path: Path, uplink: Connection | None) -> None:
    notes: list[str] = []
    rate = control(tmp_path, "auto", uplink)
    assert rate.limit(1e6, notes) == (None, "none")
    assert "not limited to 1e+06 bit/s" in notes[0]
    assert rate.in_force_bps() is None
    rate.lift()


def test_not_wanted(tmp_path: Path) -> None:
    notes: list[str] = []
    connection = Connection()
    assert control(tmp_path, "none", connection).limit(1e6, notes) == (None, "none")
    assert connection.rate_bps is None
    assert 'rate_control = "none"' in notes[0]
