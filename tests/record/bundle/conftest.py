"""A bundle of a stored run whose readings are real, made once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from metered_runs import write_metered_run

from fimi.record.bundle.crate import About
from fimi.record.bundle.making import Made, make
from fimi.testbed.configuration.load import to_toml


@pytest.fixture(scope="session")
def about() -> About:
    orcid = "https://orcid.org/0000-0002-1825-0097"
    return About(licence="CC-BY-4.0", author="A. Person", orcid=orcid)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = bytes(range(1, 241))
    folder = write_metered_run(
        tmp_path_factory.mktemp("bundled") / "a-run",
        ["pi-chip", "pi-plug"],
        model=b"\x08\x07onnx" * 200 + weights[40:] + b"between" + weights[:40],
    )
    header = {
        "bias": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]},
        "weight": {"dtype": "F32", "shape": [50], "data_offsets": [40, 240]},
    }
    said = msgspec.json.encode(header)
    parameters = len(said).to_bytes(8, "little") + said + weights
    (folder / "model.safetensors").write_bytes(parameters)
    return folder


@pytest.fixture(scope="session")
def made(run_folder: Path, about: About, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(run_folder, tmp_path_factory.mktemp("out") / "a.zip", about, toml=to_toml)
