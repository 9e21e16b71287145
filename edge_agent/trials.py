"""The trial of the trained model on a device, file by file: each is fetched, and run.

Its energy, and that of waiting after it, belong to no round. How a file is run and metered:
:mod:`fimi.edge_agent.deployment`.
"""

from __future__ import annotations

from fimi.edge_agent.data import MixedData
from fimi.edge_agent.deployment import try_file
from fimi.edge_agent.failures import words
from fimi.edge_agent.metering import Metering
from fimi.edge_agent.tools import Tools
from fimi.learning.training.trainer import TrainingCancelled
from fimi.messaging.errors import TransferCancelled
from fimi.messaging.messages.facts import DeploymentReport, Trial
from fimi.messaging.messages.orders import DeploymentTest, ModelFile


def try_out(
    test: DeploymentTest, tools: Tools, metering: Metering, data: MixedData
) -> DeploymentReport:
    """Run the trained model.

    Args:
        test: what is to be tried.
        tools: what the device works with.
        metering: its phases; the board is the one that they are metered on.
        data: its samples.
    """
    line, hardware = tools.line, metering.hardware
    line.show("training")
    metering.drop()
    hardware.begin_trial(test.round)
    began_s = hardware.clock.now_s()
    trials = []
    for number, file in enumerate(test.files):
        try:
            with tools.turns.holding(file.model.size_bytes, line.unwanted(test)):
                trials.append(_try_file(number, file, test, tools, metering, data))
        except (TransferCancelled, TrainingCancelled):
            error = f"broken off: {line.why_not(test)}"
            trials.append(Trial(variant=file.variant, error=error))
        except Exception as problem:
            error = words(test.device, problem, f"{file.variant} model")
            trials.append(Trial(variant=file.variant, error=error))
        metering.drop()
    return DeploymentReport(
        run=test.run,
        device=test.device,
        round=test.round,
        trials=tuple(trials),
        seconds=hardware.has_been_busy(began_s),
        readings=metering.readings(),
    )


def _try_file(
    number: int,
    file: ModelFile,
    test: DeploymentTest,
    tools: Tools,
    metering: Metering,
    data: MixedData,
) -> Trial:
    line, hardware = tools.line, metering.hardware
    payload = tools.exchange.fetch(
        test, lambda: line.latest(test).files[number].model, tools.settings.model_max_bytes
    )
    hardware.has_received(len(payload))
    with tools.turns.training(line.unwanted(test)):
        return try_file(
            file,
            payload,
            data.local,
            test,
            hardware=hardware,
            ledger=metering.ledger,
            cancelled=line.unwanted(test),
        )
