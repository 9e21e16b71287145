"""The memory that a run needs on a device knows what coding an update holds."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fimi.coordinator.settings import TransferSettings
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.fleet.check import needed


@pytest.mark.parametrize(
    ("transfer", "models"),
    [
        (TransferSettings(compress=True, model_coding="int8"), 0),
        (TransferSettings(update_coding="int8"), 2),
        (TransferSettings(update_coding="top-k"), 4),
        (TransferSettings(update_coding="top-k", error_feedback=False), 2),
    ],
)
def test_coding_an_update_takes_so_many_models_more(
    transfer: TransferSettings, models: int
) -> None:
    plain = Scenario(config=Config())
    memory, disk = needed(plain)
    more, same = needed(Scenario(config=replace(Config(), transfer=transfer)))
    assert (more - memory, same) == (models * plain.network.size_bytes, disk)
