"""What the federation made, as a user would deploy it: exported, and tried on the devices.

After every so many rounds and at the end the global model becomes ONNX files. Some devices run
them on their own images and report accuracy, latency and joules. None of that is part of a round:
it has records of its own, and its joules are in no sum of the training's.

Of a model that cannot be exported, or a device that cannot run it, the reason is told and stored;
the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from coordinator.events import Deployed, Listener, NotDeployed
from coordinator.inbox import Inbox
from coordinator.registry import Registry
from coordinator.results import Deployment
from coordinator.settings import DeploymentSettings
from coordinator.store import RunStore
from learning.classifier import MEDIA, Exported
from learning.tensors import Parameters
from messaging.client import Peer
from messaging.messages import DeploymentReport, DeploymentTest, ModelFile


class Export(Struct, frozen=True, kw_only=True):
    """How a model becomes files.

    Attributes:
        make: files from parameters; raises ValueError or RuntimeError with the reason why not.
        keep: puts them where a user finds them.
        inference_share: what an inference costs of training on one sample.
    """

    make: Callable[[Parameters], tuple[Exported, ...]]
    keep: Callable[[tuple[Exported, ...]], None]
    inference_share: float


class Deployments:
    """Exports the global model and has devices try it.

    Args:
        settings: how often, how many devices, how long.
        export: makes the files.
        peer: the coordinator's connection.
        registry: who is there.
        inbox: where answers arrive.
        store: keeps what comes of it.
        notify: hears of it.
        run: run id.
        wall_timeout_s: how long to wait for answers, wall time, s.
    """

    def __init__(
        self,
        settings: DeploymentSettings,
        export: Export,
        peer: Peer,
        registry: Registry,
        inbox: Inbox,
        store: RunStore,
        notify: Listener,
        *,
        run: str,
        wall_timeout_s: float,
    ) -> None:
        self._settings = settings
        self._export = export
        self._peer = peer
        self._registry = registry
        self._inbox = inbox
        self._store = store
        self._notify = notify
        self._run = run
        self._wall_timeout_s = wall_timeout_s
        self.done: list[Deployment] = []

    def is_due(self, number: int) -> bool:
        """Whether the model is exported after this round although it is not the last."""
        every = self._settings.every_rounds
        return self._settings.export and every > 0 and number % every == 0

    def make(self, number: int, model: Parameters, devices: Iterable[str] = ()) -> float:
        """Export a model and have it tried; ends without an error whatever comes of it.

        Args:
            number: round after which it is the global model.
            model: its parameters.
            devices: that may try it, in order.

        Returns:
            How long the slowest device took on its own clock, s.
        """
        if not self._settings.export or any(d.round == number for d in self.done):
            return 0.0
        try:
            files = self._export.make(model)
        except (ValueError, RuntimeError) as problem:
            self._notify(NotDeployed(round=number, reason=str(problem)))
            return 0.0
        self._export.keep(files)
        tried = tuple(devices)[: self._settings.devices]
        reports = self._try(number, files, tried) if tried else {}
        deployment = Deployment(
            round=number,
            files=tuple(file.check for file in files),
            trials={device: reports[device].trials for device in sorted(reports)},
            silent=tuple(sorted(set(tried) - set(reports))),
        )
        self._store.write_deployment(deployment)
        self.done.append(deployment)
        self._notify(Deployed(deployment=deployment))
        return max((report.seconds for report in reports.values()), default=0.0)

    def _try(
        self, number: int, files: tuple[Exported, ...], devices: tuple[str, ...]
    ) -> dict[str, DeploymentReport]:
        offers = tuple(
            ModelFile(
                variant=file.check.variant,
                model=self._peer.transfers.serve(file.model, media=MEDIA),
            )
            for file in files
        )
        reports: dict[str, DeploymentReport] = {}
        registry = self._registry
        lives = {device: registry.boot_id(device) for device in devices}
        try:
            for device in devices:
                self._peer.send(
                    device,
                    DeploymentTest(
                        run=self._run,
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
                    d in reports or not registry.is_online(d) or registry.boot_id(d) != lives[d]
                    for d in devices
                )

            for sender, message in self._inbox.until(everybody, self._wall_timeout_s):
                ours = (
                    isinstance(message, DeploymentReport)
                    and (message.run, message.round) == (self._run, number)
                    and sender in devices
                )
                if ours and isinstance(message, DeploymentReport):
                    reports.setdefault(sender, message)
        finally:
            for offer in offers:
                self._peer.transfers.withdraw(offer.model.digest)
        return reports
