"""The generator node as a process: a child of a dry run, or by itself; and its training."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from generator_node.card import CARD, find_for
from generator_node.generators import GeneratorError
from generator_node.node import GeneratorNode
from generator_node.service import BatchService
from messaging.address import BrokerAddress
from messaging.client import Peer
from messaging.errors import MessagingError
from testbed.config import Config
from testbed.devices import load_split
from testbed.orders import GeneratorOrders
from testbed.torch_cache import torch_cache

ORDERS = GeneratorOrders

log = logging.getLogger(__name__)


def serve(
    config: Config,
    address: BrokerAddress,
    *,
    peer: str,
    stop: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Run a generator node until ``stop`` is set.

    Args:
        config: of the federation.
        address: of the broker.
        peer: id of the node.
        stop: ends it.
        say: told what is going on.

    Raises:
        GeneratorError: no usable weights, or weights trained on other data than the public part.
    """
    chosen = config.generator
    public = load_split(config).public
    with torch_cache():
        from generator_node.diffusion import open_generator

        generator = open_generator(
            public,
            chosen.weights,
            steps=chosen.steps,
            guidance=chosen.guidance,
            threads=chosen.threads,
        )
        service = BatchService(generator, images_max=chosen.images_max)
        with Peer(address, fleet=config.fleet.name, peer=peer, role="generator") as connection:
            say(f"{peer}: {generator.name}, trained on {len(public)} public images, at {address}")
            GeneratorNode(connection, service).run(stop)
    say(f"{peer}: stopped")


def check(config: Config) -> None:
    """Make sure that there is a generator for the public part, before anything is started.

    Raises:
        GeneratorError: there is none, or it was trained on other data.
    """
    find_for(load_split(config).public, config.generator.weights)


def train(
    config: Config, out: Path, *, steps: int, threads: int, say: Callable[[str], None]
) -> None:
    """Train the diffusion model on the configured public part and save it.

    Args:
        config: of the federation; decides the public part.
        out: folder to write; must not hold a generator yet.
        steps: of training.
        threads: of PyTorch.
        say: told how it goes.

    Raises:
        GeneratorError: the folder is taken.
        OSError: it cannot be written.
    """
    if (out / CARD).exists():
        raise GeneratorError(f"{out} holds a generator; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    with torch_cache():
        from generator_node.training import DiffusionSettings, TrainingProgress
        from generator_node.training import train as fit

    split = load_split(config)
    public = split.public
    say(f"training on {len(public)} images of {public.name}, {steps} steps")

    def progress(done: TrainingProgress) -> None:
        left_s = done.seconds * (done.steps - done.step) / max(done.step, 1)
        say(
            f"step {done.step}/{done.steps}  loss {done.loss:.4f}  {done.seconds:.0f} s, "
            f"{left_s:.0f} s left"
        )

    trained = fit(
        public,
        DiffusionSettings(steps=steps, seed=config.run.seed),
        progress,
        name=f"{config.data.dataset.replace(':', '-')}-{split.kind}",
        threads=threads,
    )
    card = trained.save(out)
    say(f"{out}: loss {card.loss}, {card.seconds:.0f} s; use it with generator.weights = '{out}'")


def main(orders: GeneratorOrders, stop: threading.Event) -> None:
    """Be the generator node of a dry run until ``stop`` is set."""
    try:
        serve(orders.config, orders.broker, peer="generator", stop=stop, say=log.info)
    except (GeneratorError, MessagingError) as error:
        raise SystemExit(str(error)) from error
