"""A bundle of a stored run whose readings are real, made once."""

from __future__ import annotations

from pathlib import Path

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
    folder = write_metered_run(tmp_path_factory.mktemp("bundled") / "a-run", ["pi-chip", "pi-plug"])
    (folder / "model.onnx").write_bytes(b"\x08\x07onnx" * 200)
    return folder


@pytest.fixture(scope="session")
def made(run_folder: Path, about: About, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(run_folder, tmp_path_factory.mktemp("out") / "a.zip", about, toml=to_toml)
