"""The steps of docs/calibration.md for a physical board work as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import fimi.energy.host_profile
from fimi.coordinator.planning import FleetInputs, make_problem
from fimi.coordinator.strategies import STRATEGIES
from fimi.energy.hardware import HardwareDescription
from fimi.energy.host_profile import HostProfile, load_profile
from fimi.energy.meters import MeterDescription
from fimi.learning.networks.models import build, parameters_of
from fimi.learning.training import tensors
from fimi.messaging.messages.facts import Profile
from fimi.messaging.topics import device_id
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import SearchSettings, plan
from fimi.testbed.configuration.load import Config
from fimi.testbed.configuration.scenario import Scenario

PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"
METER = MeterDescription(source="declared:5W", kind="modelled", scope="board", rate_hz=10.0)


@pytest.fixture
def profile(tmp_path: Path) -> HostProfile:
    (text,) = re.findall(r'```toml\n(name = "my-mini-pc".*?)```', PAGE.read_text("utf-8"), re.S)
    path = tmp_path / "board.toml"
    path.write_text(text, encoding="utf-8")
    return load_profile(path)


def test_the_example_of_the_code_is_that_of_the_page(profile: HostProfile, tmp_path: Path) -> None:
    text = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
    path = tmp_path / "other.toml"
    path.write_text("\n".join(line.strip() for line in text.splitlines()), encoding="utf-8")
    assert load_profile(path).board == profile.board


@pytest.mark.parametrize("strategy", ["fimi", "tfl"])
def test_two_such_boards_have_a_plan_by_default(profile: HostProfile, strategy: str) -> None:
    config = Config()
    config = msgspec.structs.replace(config, fleet=msgspec.structs.replace(config.fleet, devices=2))
    data = list(Scenario(config=config).shares)
    profiles = {
        (name := device_id(index, 2)): Profile(
            device=name,
            boot_id="1",
            dataset=share.name,
            label_counts=share.label_counts(),
            hardware=HardwareDescription(board=profile.name, kind="physical", meter=METER),
            board=profile.board,
            backend="onnxruntime",
        )
        for index, share in enumerate(data)
    }
    network = build(config.training.model, data[0].classes, data[0].image_shape, seed=0)
    problem = make_problem(
        FleetInputs(
            profiles=profiles,
            settings=config,
            strategy=STRATEGIES[strategy],
            model_bytes=len(tensors.dump(parameters_of(network))),
            curve=LearningCurve(alpha=5.8, beta=0.93, delta0=0.027),
        )
    )
    found = plan(problem, seed=0, settings=SearchSettings(iterations=20))
    assert [share.device for share in found.devices] == ["device-01", "device-02"]
