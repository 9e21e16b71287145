"""Whoever derives a device from a configuration derives the same device."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.messaging.topics import device_id
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.processes.devices import emulated_board


def config(**values: Any) -> Config:
    overrides = {key.replace("__", "."): (value, "test") for key, value in values.items()}
    return configuration.load(None, overrides).config


@given(st.integers(1, 1000))
def test_ids_are_unique_and_sort_like_indices(count: int) -> None:
    ids = [device_id(index, count) for index in range(count)]
    assert len(set(ids)) == count
    assert ids == sorted(ids)


class TestData:
    @settings(deadline=None, max_examples=20)
    @given(
        devices=st.integers(1, 30),
        alpha=st.sampled_from([0.01, 0.5, 100.0]),
        seed=st.integers(0, 9),
    )
    def test_the_devices_hold_the_private_part_and_nothing_else(
        self, devices: int, alpha: float, seed: int
    ) -> None:
        chosen = config(fleet__devices=devices, data__alpha=alpha, run__seed=seed)
        split = Scenario(config=chosen).split
        parts = list(Scenario(config=chosen).shares)
        assert len(parts) == devices
        assert min(map(len, parts)) >= chosen.data.min_samples
        held = sorted(image.tobytes() for part in parts for image in part.images)
        assert held == sorted(image.tobytes() for image in split.private.images)
        assert sum(np.array(part.label_counts()) for part in parts).tolist() == list(
            split.private.label_counts()
        )

    def test_the_same_for_everybody_who_asks(self) -> None:
        first, second = (list(Scenario(config=config()).shares) for _ in range(2))
        assert [part.digest() for part in first] == [part.digest() for part in second]

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"fleet__devices": 1000}, "1000 devices with at least 5 samples each need 5000"),
            ({"data__public_fraction": 1e-6}, "leave 0 public"),
            ({"data__validation_fraction": 0.9999}, "leave 0 public, 719 for validation"),
            ({"data__test_fraction": 1e-6}, "0 test"),
        ],
    )
    def test_what_cannot_be_divided_is_refused(self, values: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            Scenario(config=config(**values)).check()
        assert said in str(caught.value)
        assert "Keys: fleet.devices" in str(caught.value)


class TestBoards:
    def test_taken_in_turn(self) -> None:
        chosen = config(fleet__devices=4, fleet__boards=["mini-pc", "jetson-nano"])
        data = Scenario(config=chosen).split.test
        boards = [emulated_board(chosen, index, data).describe().board for index in range(4)]
        assert boards == ["mini-pc", "jetson-nano"] * 2

    def test_the_same_for_everybody_who_asks(self) -> None:
        data = Scenario(config=config()).split.test
        models = [emulated_board(config(), 3, data).model() for _ in range(2)]
        assert models[0] == models[1]
        assert models[0] != emulated_board(config(run__seed=1), 3, data).model()


def test_nothing_here_loads_pytorch() -> None:
    """What only reads a configuration starts at once."""
    modules = "fimi.testbed.processes.devices, fimi.testbed.cli"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("emulation", ["model", "physical"])
@pytest.mark.parametrize("radio", ["wifi", "paper"])
def test_radios_are_those_of_the_configuration(radio: str, emulation: str) -> None:
    chosen = config(fleet__radio=radio, fleet__emulation=emulation)
    data = next(iter(Scenario(config=chosen).shares))
    for index in range(len(chosen.fleet.boards)):
        link = emulated_board(chosen, index, data).model().link
        assert link.power_settable == (radio == "paper")
        assert (link.electronics_power_w > 0.0) == (radio == "wifi")
