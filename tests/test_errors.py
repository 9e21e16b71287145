"""The errors that a person can do something about, and the exit codes of the command."""

from __future__ import annotations

import importlib

import pytest

from fimi.errors import FimiError, InputError, NoPlanError, RunFailedError, SurroundingsError

CODES = {
    "fimi.testbed.configuration.sections:ConfigError": 2,
    "fimi.optim.problem:ProblemError": 2,
    "fimi.energy.host_profile:ProfileError": 2,
    "fimi.learning.data.contract:ContractError": 2,
    "fimi.learning.data.data_file:DataFileError": 2,
    "fimi.learning.data.leak:LeakError": 2,
    "fimi.learning.networks.models:ModelError": 2,
    "fimi.learning.training.precision:PrecisionError": 2,
    "fimi.learning.onnx.lowering:ExportError": 2,
    "fimi.energy.meters:MeterUnavailableError": 3,
    "fimi.generator_node.generators.base:WrongDataError": 3,
    "fimi.messaging.errors:BrokerUnreachable": 3,
    "fimi.record.reader:ReportError": 3,
    "fimi.testbed.run_folder:RunFolderError": 3,
    "fimi.optim.problem:InfeasibleError": 4,
    "fimi.coordinator.federation:FederationError": 5,
    "fimi.testbed.processes.nursery:ChildFailedError": 5,
    "fimi.report.comparison.result:ComparisonError": 5,
}
"""What docs/command-line.md promises of them; scripts rely on it."""


@pytest.mark.parametrize("name", CODES)
def test_an_error_knows_the_exit_code_that_the_page_gives_it(name: str) -> None:
    module, _, error = name.partition(":")
    kind = getattr(importlib.import_module(module), error)
    assert issubclass(kind, FimiError)
    assert kind.exit_code == CODES[name]


def test_each_kind_of_error_has_a_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in (InputError, SurroundingsError, NoPlanError)]
    assert [*codes, RunFailedError.exit_code, FimiError.exit_code] == [2, 3, 4, 5, 1]
