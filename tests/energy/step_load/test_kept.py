from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.meters.response import MeterResponse
from fimi.energy.step_load.kept import KeptResponse, changed, keep, outdated
from fimi.errors import InputError

KEPT = KeptResponse(delay_s=2.1, refresh_s=1.0, delay_sd_s=0.04, noise_w=0.1, learned_at="now")
PROFILE = """\
# my board
name = "pi"  # a name

[plug]   # in the kitchen
host = "x"

# below
[board]
idle_power_w = 2.7
"""


def test_everything_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "pi.toml"
    path.write_text(PROFILE)
    keep(path, "tasmota:desk", KEPT)
    text = path.read_text()
    assert text.startswith(PROFILE)
    tree = msgspec.toml.decode(text)
    found = msgspec.convert(tree["meter_response"]["tasmota:desk"], KeptResponse)
    assert found == KEPT
    assert found.response.origin == "learned"


def test_a_new_one_replaces_that_of_the_same_meter_only(tmp_path: Path) -> None:
    path = tmp_path / "pi.toml"
    path.write_text(PROFILE)
    other = KeptResponse(delay_s=0.1)
    for source, kept in (("a", KEPT), ("b", KEPT), ("a", other), ("a", other)):
        keep(path, source, kept)
    path.write_text(path.read_text() + "\n# the end\n[meter_response.c]\ndelay_s = 1.0\n")
    keep(path, "b", other)
    tree = msgspec.toml.decode(path.read_text())["meter_response"]
    assert {name: each["delay_s"] for name, each in tree.items()} == {"a": 0.1, "b": 0.1, "c": 1.0}
    assert "# the end" in path.read_text()
    assert path.read_text().startswith(PROFILE)


@given(source=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_source(tmp_path_factory: pytest.TempPathFactory, source: str) -> None:
    path = tmp_path_factory.mktemp("profile") / "pi.toml"
    path.write_text(PROFILE)
    keep(path, source, KEPT)
    keep(path, source, KEPT)
    assert list(msgspec.toml.decode(path.read_text())["meter_response"]) == [source]


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "pi.json"
    path.write_text('{"name": "pi"}')
    keep(path, "a", KEPT)
    tree = msgspec.json.decode(path.read_bytes())
    assert tree["name"] == "pi"
    assert msgspec.convert(tree["meter_response"]["a"], KeptResponse) == KEPT


def test_an_inline_table_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pi.toml"
    path.write_text("meter_response = { a = { delay_s = 1.0 } }\n")
    before = path.read_text()
    with pytest.raises(InputError, match="write these lines there yourself"):
        keep(path, "a", KEPT)
    assert path.read_text() == before


class TestChanged:
    BEFORE = MeterResponse(delay_s=2.0, refresh_s=1.0, delay_sd_s=0.05, origin="learned")

    def test_within_both_uncertainties(self) -> None:
        now = msgspec.structs.replace(self.BEFORE, delay_s=2.13)
        assert changed(self.BEFORE, now) == []

    def test_later(self) -> None:
        now = msgspec.structs.replace(self.BEFORE, delay_s=2.2)
        assert "2 s late" in changed(self.BEFORE, now)[0]

    def test_another_refresh(self) -> None:
        now = msgspec.structs.replace(self.BEFORE, refresh_s=3.0)
        assert "every 3 s" in changed(self.BEFORE, now)[0]


@pytest.mark.parametrize(
    ("before_s", "stated", "said"),
    [
        (0.1, MeterResponse(window_s=0.1, refresh_s=0.1, origin="chip"), ""),
        (0.1, MeterResponse(window_s=0.018, refresh_s=0.018, origin="chip"), "is 0.018 s now"),
        (0.1, MeterResponse(), "is unknown now"),
        (None, MeterResponse(refresh_s=1.0, origin="chip"), ""),
    ],
)
def test_a_chip_that_was_set_anew(before_s: float | None, stated: MeterResponse, said: str) -> None:
    kept = KeptResponse(delay_s=0.01, learned_at="2026-11-29T18:00:00", chip_refresh_s=before_s)
    found = outdated(kept, stated)
    assert found.endswith(said)
    assert bool(found) == bool(said)
    assert not found or "learned on 2026-11-29 is not used" in found
