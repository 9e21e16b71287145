"""Exports the trained model, and has it tried on the devices.

After a set number of rounds and at the end the global model is written as ONNX files. Some devices
run them on their own images and report accuracy, latency and joules. This is not part of a round:
it has its own records, and its joules are in no sum of the training's.

If a model cannot be exported, or a device cannot run it, the reason is shown and stored, and the
run continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from msgspec import Struct

from fimi.coordinator.context import Context
from fimi.learning.training.classifier import MEDIA, Exported
from fimi.learning.training.tensors import Parameters
from fimi.messaging.messages.facts import DeploymentReport
from fimi.messaging.messages.orders import DeploymentTest, ModelFile
from fimi.messaging.transfers import stream
from fimi.record.events import Deployed, NotDeployed
from fimi.record.results import Deployment


class Export(Struct, frozen=True, kw_only=True):
    """How a model is exported.

    Attributes:
        make: makes files from parameters; raises ValueError or RuntimeError with the reason if it
            cannot.
        keep: writes them into the run folder.
        inference_share: work of an inference over that of training on one sample.
    """

    make: Callable[[Parameters], tuple[Exported, ...]]
    keep: Callable[[tuple[Exported, ...]], None]
    inference_share: float


class Deployments:
    """Exports the global model and has devices try it.

    Args:
        context: the context of the run.
        export: makes the files.
        done: exports of a run that goes on.

    Attributes:
        done: results of all exports so far.
        problem: why the last export gave no file; empty if it did.
    """

    def __init__(self, context: Context, export: Export, done: Iterable[Deployment] = ()) -> None:
        self._context = context
        self._settings = context.settings.deployment
        self._export = export
        self.done: list[Deployment] = list(done)
        self.problem = ""

    def is_due(self, number: int) -> bool:
        """Whether the model is exported after this round, which is not the last."""
        every = self._settings.every_rounds
        return self._settings.export and every > 0 and number % every == 0

    def make(
        self,
        number: int,
        model: Parameters,
        devices: Iterable[str] = (),
        checkpoint: Callable[[float], Mapping[str, bytes]] = lambda seconds: {},
    ) -> float:
        """Export a model and have it tried; failures are stored and raise no error.

        Args:
            number: the round after which it is the global model.
            model: its parameters.
            devices: devices that may try it, in order.
            checkpoint: from the seconds it took, what is to be stored together with it.

        Returns:
            How long the slowest device took on its own clock, s.
        """
        if not self._settings.export or any(d.round == number for d in self.done):
            return 0.0
        try:
            files = self._export.make(model)
        except (ValueError, RuntimeError) as problem:
            self.problem = str(problem)
            self._context.notify(NotDeployed(round=number, reason=self.problem))
            return 0.0
        self.problem = ""
        self._export.keep(files)
        tried = tuple(devices)[: self._settings.devices]
        reports = self._try(number, files, tried) if tried else {}
        deployment = Deployment(
            round=number,
            files=tuple(file.check for file in files),
            trials={device: reports[device].trials for device in sorted(reports)},
            silent=tuple(sorted(set(tried) - set(reports))),
        )
        seconds = max((report.seconds for report in reports.values()), default=0.0)
        store = self._context.store
        with store.together():
            store.write_deployment(deployment, checkpoint=checkpoint(seconds))
            for device, report in reports.items():
                store.write_readings(number, device, report.readings)
            store.then(lambda: self.done.append(deployment))
            self._context.notify(Deployed(deployment=deployment))
        for device, report in reports.items():
            self._context.conversation.stored(device, report)
        return seconds

    def awaits(self, report: DeploymentReport) -> bool:
        """Whether a report belongs to a trial that is not stored yet: it runs, or is to come."""
        return all(report.round != deployment.round for deployment in self.done)

    def _try(
        self, number: int, files: tuple[Exported, ...], devices: tuple[str, ...]
    ) -> dict[str, DeploymentReport]:
        offers = tuple(
            ModelFile(
                variant=file.check.variant,
                model=self._context.peer.transfers.serve(
                    file.model, media=MEDIA, shared=stream.is_for(len(devices))
                ),
            )
            for file in files
        )
        reports: dict[str, DeploymentReport] = {}
        registry = self._context.registry
        lives = {device: registry.boot_id(device) for device in devices}
        try:
            for device in devices:
                self._context.conversation.order(
                    device,
                    DeploymentTest(
                        run=self._context.run,
                        device=device,
                        round=number,
                        files=offers,
                        images=self._settings.images,
                        seconds=self._settings.seconds,
                        training_share=self._export.inference_share,
                    ),
                )

            def everybody() -> bool:
                return all(
                    d in reports or not registry.is_expected(d) or registry.boot_id(d) != lives[d]
                    for d in devices
                )

            earlier = self._context.conversation.open(DeploymentReport)
            for sender, message in chain(
                earlier,
                self._context.inbox.until(everybody, self._context.settings.rounds.wall_timeout_s),
            ):
                ours = (
                    isinstance(message, DeploymentReport)
                    and (message.run, message.round) == (self._context.run, number)
                    and sender in devices
                )
                if ours and isinstance(message, DeploymentReport):
                    reports.setdefault(sender, message)
        finally:
            for offer in offers:
                self._context.peer.transfers.withdraw(offer.model.digest)
        return reports
