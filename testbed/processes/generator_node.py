"""The generator node as a process: a child of a dry run, or by itself."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from fimi.energy.joules import format_energy, format_joules
from fimi.energy.work_meter import open_meters
from fimi.files import write_whole
from fimi.generator_node.generators.base import Generator, GeneratorError, WrongDataError
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.generators.card import NO_DIGEST, CardKind, find_for, read_card
from fimi.generator_node.generators.class_meanings import meanings_of
from fimi.generator_node.generators.open import open_generator, require_cuda
from fimi.generator_node.generators.own import OwnGenerator, factory_of
from fimi.generator_node.generators.public_samples import PublicSamples
from fimi.generator_node.service.drawing import made_by
from fimi.generator_node.service.gate import Gate, GateSettings, Judge, read_judge
from fimi.generator_node.service.node import GeneratorNode, RequestJournal
from fimi.generator_node.service.pool import Pool
from fimi.generator_node.service.service import BatchService, QueueProgress
from fimi.learning.data.contract import Contract
from fimi.learning.data.dataset import Dataset
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.errors import MessagingError
from fimi.messaging.messages.synthesis import SyntheticBatch
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.processes.nursery import LEFT_OVER_S
from fimi.testbed.processes.orders import GeneratorOrders
from fimi.testbed.processes.torch_cache import torch_cache

ORDERS = GeneratorOrders

if TYPE_CHECKING:
    from fimi.generator_node.generators.text_to_image import TextSettings

log = logging.getLogger(__name__)


def serve(
    config: Config,
    public: Dataset,
    address: BrokerAddress,
    *,
    peer: str,
    stop: threading.Event,
    contract: Contract,
    pool: Path | None = None,
    patience_s: float = 0.0,
    survives_power_cut: bool = True,
) -> None:
    """Run a generator node until ``stop`` is set.

    Args:
        config: the configuration.
        public: the public part.
        address: address of the broker.
        peer: id of the node.
        stop: when set, the node ends.
        contract: what the node knows of the data.
        pool: folder of draws and requests; ``None``: in memory.
        patience_s: how long to wait for another node to let go of the folder, s.
        survives_power_cut: see :class:`Pool`.

    Raises:
        GeneratorError: the weights cannot be used, or were trained on other data than the public
            part.
    """
    generator = open_configured(config, public)
    gate = open_gate(config, public, pool)
    made = made_by(generator, gate)
    kept = None
    if pool:
        kept = Pool(
            pool,
            generator.image_shape,
            made,
            patience_s=patience_s,
            survives_power_cut=survives_power_cut,
        )
    about_meters: list[str] = []
    service = BatchService(
        generator,
        images_max=config.generator.images_max,
        gate=gate,
        pool=kept,
        metered=open_meters(about_meters.append, whose="generator"),
        share_images=config.generator.share_images,
    )
    journal = None
    if pool:
        journal = RequestJournal(pool / "requests.json", survives_power_cut=survives_power_cut)
    try:
        with Peer(address, fleet=config.fleet.name, peer=peer, role="generator") as connection:
            log.info(
                "%s: %s, %d public images, connected to %s, fleet %s; %s",
                peer,
                generator.name,
                len(public),
                address,
                config.fleet.name,
                "; ".join(about_meters),
            )
            GeneratorNode(
                connection,
                service,
                journal=journal,
                contract=contract,
                on_answer=lambda answer: log.debug("%s", describe(answer)),
                on_progress=lambda progress: log.debug("%s", describe_progress(progress)),
            ).run(stop)
    finally:
        service.close()
    log.info("%s: stopped; %s", peer, describe_progress(service.progress))


def open_configured(config: Config, public: Dataset) -> Generator:
    """The configured generator.

    Raises:
        GeneratorError: it cannot be used for ``public``.
    """
    chosen = config.generator
    if chosen.kind == "bootstrap":
        return BootstrapGenerator(public)
    if chosen.kind == "public":
        return PublicSamples(public)
    if ":" in chosen.kind:
        return OwnGenerator(chosen.kind, public)
    with torch_cache():
        if chosen.kind in ("trained", "gan"):
            return open_generator(
                public,
                chosen.weights,
                kind=card_kind(config),
                steps=chosen.steps,
                guidance=chosen.guidance,
                solver=chosen.solver,
                engine=chosen.engine,
                threads=chosen.threads,
            )
        import torch

        from fimi.generator_node.generators.text_to_image import TextToImageGenerator

        if chosen.engine == "cuda":
            require_cuda()
        on_gpu = chosen.engine in ("auto", "cuda") and torch.cuda.is_available()
        return TextToImageGenerator.load(
            public,
            text_settings(config),
            device="cuda" if on_gpu else "cpu",
            threads=chosen.threads,
        )


def text_settings(config: Config) -> TextSettings:
    """The configured settings of a text-to-image model."""
    from fimi.generator_node.generators.text_to_image import TextSettings

    chosen = config.generator
    return TextSettings(
        model=chosen.text_model,
        steps=chosen.steps,
        guidance=chosen.text_guidance,
        templates=chosen.text_templates,
        class_meanings=chosen.class_meanings,
        negative=chosen.text_negative,
        size=chosen.text_size,
        batch_size=chosen.text_batch_size,
        dtype=chosen.text_dtype,
    )


def card_kind(config: Config) -> CardKind | None:
    """The kind of generator that the configured folder must hold; ``None``: any kind."""
    return "conditional-gan" if config.generator.kind == "gan" else None


def open_gate(config: Config, public: Dataset, pool: Path | None = None) -> Gate | None:
    """The configured gate: with the judge of the trained generator, or one trained now.

    There is none for public samples, which are copies of public images by intention.

    Args:
        config: the configuration.
        public: the public images with which draws are compared.
        pool: folder in which a judge that is trained now is kept.

    Raises:
        GeneratorError: the judge cannot be read.
    """
    chosen = config.generator
    if not chosen.gate or chosen.kind == "public":
        return None
    settings = GateSettings(
        confidence_min=chosen.confidence_min,
        copy_quantile=chosen.copy_quantile,
        redraws=chosen.redraws,
    )
    try:
        return Gate(_judge(config, public, pool), public, settings)
    except ValueError as error:
        raise GeneratorError(f"generator.confidence_min: {error}") from error


def _judge(config: Config, public: Dataset, pool: Path | None) -> Judge:
    threads = config.generator.threads
    try:
        folder = find_for(public, config.generator.weights, card_kind(config))
        if read_card(folder).judge_digest != NO_DIGEST:
            return read_judge(folder, threads=threads)
    except WrongDataError:
        if config.generator.kind in ("trained", "gan"):
            raise
    kept = pool and pool / f"judge-{public.digest()[:32]}.onnx"
    if kept and kept.is_file():
        try:
            return Judge(kept.read_bytes(), threads=threads)
        except (OSError, GeneratorError) as error:
            log.warning("%s is trained again: %s", kept, error)
    with torch_cache():
        from fimi.generator_node.training.judge import train_judge

        data = train_judge(public, threads=threads)
    if kept:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, data)
        except OSError as error:
            log.warning("%s cannot be kept, and is trained again next time: %s", kept, error)
    return Judge(data, threads=threads)


def describe(answer: SyntheticBatch) -> str:
    """A batch as text."""
    text = f"{answer.device}: {sum(answer.delivered)} images ready, {answer.drawn} drawn"
    if answer.refused:
        text += ", refused " + ", ".join(f"{n} {why}" for why, n in sorted(answer.refused.items()))
    if answer.drawn:
        text += f", {1000 * answer.seconds / answer.drawn:.2f} ms per image"
    if answer.energy is not None and answer.drawn:
        text += f", {format_energy(answer.energy)}"
    return text + (f"; {answer.error}" if answer.error else "")


def describe_progress(progress: QueueProgress) -> str:
    """The progress of the queue as text."""
    refused = sum(progress.refused.values())
    text = f"{progress.drawn} images drawn, {refused} refused, {progress.lacking} lacking"
    if progress.drawn:
        text += f"; {1000 * progress.seconds / progress.drawn:.2f} ms"
        if progress.energy is not None:
            joules = format_joules(progress.energy.value_j / progress.drawn)
            text += f" and {joules} ({progress.energy.kind}, {progress.energy.scope})"
        text += " per image"
    return text


def check(scenario: Scenario) -> None:
    """Make sure that there is a generator for the public part, before anything is started.

    Raises:
        GeneratorError: there is none, or it was trained on other data, or it would be asked for
            classes whose names say nothing.
    """
    config = scenario.config
    if config.generator.kind in ("trained", "gan"):
        find_for(scenario.split.public, config.generator.weights, card_kind(config))
    elif ":" in config.generator.kind:
        factory_of(config.generator.kind)
    elif config.generator.kind == "text":
        meanings_of(scenario.split.public, config.generator.class_meanings)


def main(orders: GeneratorOrders, stop: threading.Event) -> None:
    """Run the generator node of a dry run until ``stop`` is set."""
    try:
        config = orders.config
        pool = Path(orders.pool)
        scenario = Scenario(config=config)
        public, contract = scenario.split.public, scenario.undivided
        del scenario  # frees the private part while the node runs
        serve(
            config,
            public,
            orders.broker,
            peer="generator",
            stop=stop,
            contract=contract,
            pool=pool,
            patience_s=LEFT_OVER_S,  # that of a dry run that was killed is still ending
            survives_power_cut=bool(config.generator.pool),  # else: draws are cheap
        )
    except (GeneratorError, MessagingError) as error:
        raise SystemExit(str(error)) from error
