"""The profile that was given, and those that calibrations have found of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import fimi.energy.host_profile
from fimi.edge_agent.own_profile import OwnProfile
from fimi.energy.host_profile import ProfileError

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
TEXT = "\n".join(line.strip() for line in EXAMPLE.splitlines())


@pytest.fixture
def own(tmp_path: Path) -> OwnProfile:
    (tmp_path / "board.toml").write_text(TEXT)
    return OwnProfile(tmp_path / "board.toml", tmp_path / "state/calibrated")


def found(own: OwnProfile, watts: float) -> None:
    """A calibration that has found another power at idle."""
    made = own.target().with_name("made.toml")
    made.write_text(TEXT.replace("idle_power_w = ", f"idle_power_w = {watts} # "))
    own.replace(made)
    made.unlink()


def idle_w(own: OwnProfile) -> float:
    return own.load().board.idle_power_w


def test_a_calibration_is_used_and_what_was_given_stays(own: OwnProfile) -> None:
    before, files = own.given.read_bytes(), set(own.given.parent.iterdir())
    as_given = idle_w(own)
    assert own.in_force() == own.given
    assert set(own.given.parent.iterdir()) == files  # to look writes nothing
    found(own, 7.25)
    assert (idle_w(own), as_given != 7.25) == (7.25, True)
    assert own.given.read_bytes() == before
    found(own, 8.25)
    assert idle_w(own) == 8.25
    previous = own.target().with_name(f"{own.target().stem}.previous.toml")
    assert "= 7.25 #" in previous.read_text()


def test_another_profile_leaves_the_calibrations_of_the_former_one(own: OwnProfile) -> None:
    found(own, 7.25)
    former = own.target()
    own.given.write_text(TEXT + "\n# another one\n")
    assert own.in_force() == own.given
    own.given.write_text(TEXT)
    assert idle_w(own) == 7.25
    own.given.write_text(TEXT + "\n# another one\n")
    found(own, 9.0)
    assert idle_w(own) == 9.0
    assert not former.exists()
    assert len(list(former.parent.iterdir())) == 2  # in force, and the one before


def test_what_the_agent_writes_allows_nothing(own: OwnProfile) -> None:
    made = own.target().with_name("made.toml")
    made.write_text('remote.allow = ["update", "restart", "calibrate"]\n' + TEXT)
    own.replace(made)
    assert own.load().remote.allow == ("update", "restart", "calibrate")
    assert own.allows() == ()


def test_one_that_is_damaged_is_named_and_not_used(
    own: OwnProfile, caplog: pytest.LogCaptureFixture
) -> None:
    found(own, 7.25)
    own.target().write_bytes(b"name = ")
    with caplog.at_level(logging.WARNING):
        assert own.in_force() == own.given
    assert str(own.target()) in caplog.text and "calibrate the board again" in caplog.text


def test_a_profile_that_is_gone(own: OwnProfile) -> None:
    own.given.unlink()
    with pytest.raises(ProfileError, match=r"board\.toml"):
        own.load()
