"""FIMI and the strategies with which it is compared.

A strategy is five choices: what devices train on, whether they change it at random, how their
resources are planned, which generator makes the images, and what the server does besides averaging.
Planner, deadlines, bandwidth, learning curve, rounds and data are the same for all, so that
strategies can be compared.
``docs/strategies.md`` gives the source of each and our interpretation.

* :class:`Strategy`                the five choices
* :data:`STRATEGIES`               name to strategy; ``module:NAME`` is one of the user's own
* :mod:`fimi.coordinator.strategy_plans`  the plan of a fleet under a strategy
* :mod:`fimi.coordinator.server_training` the server's training in a round
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fimi.errors import InputError
from fimi.optim.problem import FimiProblem, tfl
from fimi.own_parts import OwnPart

DeviceData = Literal["local", "filled", "even", "unlabelled", "none"]
"""What devices train on. ``local``: local data. ``filled``: FIMI's amounts, classes filled up.
``even``: FIMI's mean amount for every device, classes filled up. ``unlabelled``: FIMI's amounts,
the same number of every class, without labels. ``none``: devices take no part."""
ServerPart = Literal["average", "mix", "continue", "alone"]
"""What the server does. ``average``: the weighted mean of updates. ``mix``: that mean, mixed with a
model that it trains itself (GenFL). ``continue``: it trains the mean further. ``alone``: only the
server trains."""
ImageKind = Literal["any", "gan", "public"]
"""Which generator makes the images; ``any``: the configured one."""


class Strategy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A strategy: five choices about how a federation works.

    Attributes:
        name: name on the command line.
        title: name in the report.
        data: what devices train on.
        planned_resources: whether frequency, bandwidth and power are FIMI's optimum; else every
            device gets the same bandwidth and runs and sends at its highest frequency and power.
        server: what the server does.
        images: which generator makes the images, if any are made.
        augments: whether devices change their own images at random while they train.
    """

    name: str
    title: str
    data: DeviceData = "local"
    planned_resources: bool = True
    server: ServerPart = "average"
    images: ImageKind = "any"
    augments: bool = False

    @property
    def plans_data(self) -> bool:
        """Whether FIMI's data plan is made, for devices or for the server instead."""
        return self.data in ("filled", "even", "unlabelled") or self.server == "continue"

    @property
    def fills_devices(self) -> bool:
        """Whether the data plan gives devices labelled synthetic samples."""
        return self.plans_data and self.server != "continue" and not self.unlabelled

    @property
    def planned_at_once(self) -> bool:
        """Whether one solution is the plan, so that nothing is changed and planned again."""
        return (
            self.planned_resources
            and self.data in ("local", "filled")
            and self.server != "continue"
        )

    @property
    def grows_server_set(self) -> bool:
        """Whether the server trains on a class-balanced set that grows round by round."""
        return self.server in ("mix", "alone")

    @property
    def trains_on_server(self) -> bool:
        """Whether the server trains."""
        return self.server != "average"

    @property
    def needs_images(self) -> bool:
        """Whether a generator node is needed."""
        return self.plans_data or self.trains_on_server

    @property
    def unlabelled(self) -> bool:
        """Whether devices get images without labels."""
        return self.data == "unlabelled"

    @property
    def devices_train(self) -> bool:
        """Whether devices take part in rounds."""
        return self.data != "none"

    def constrain(self, problem: FimiProblem) -> FimiProblem:
        """The first problem to solve, from FIMI's: as it is, or for local data only."""
        return problem if self.plans_data else tfl(problem)


_ALL = (
    Strategy(
        name="fimi", title="FIMI: synthetic data and resources planned together", data="filled"
    ),
    Strategy(name="tfl", title="TFL: local data only, resources planned"),
    Strategy(
        name="tfl-augmented",
        title="TFL with classical augmentation: local data, changed at random in training",
        augments=True,
    ),
    Strategy(
        name="genfl",
        title="GenFL: local data on devices, a model trained on generated images mixed in",
        server="mix",
    ),
    Strategy(
        name="fimi-genfl",
        title="FIMI and GenFL: devices filled, and a server-trained model mixed in",
        data="filled",
        server="mix",
    ),
    Strategy(
        name="aigc-only",
        title="AIGC only: the server trains on generated images, devices take no part",
        data="none",
        server="alone",
    ),
    Strategy(
        name="sst",
        title="SST: synthetic images stay on the server, which trains the mean model further",
        server="continue",
    ),
    Strategy(
        name="hdc",
        title="HDC: the same amount of synthetic data for every device, resources planned",
        data="even",
    ),
    Strategy(name="gan", title="GAN: FIMI with images of a GAN", data="filled", images="gan"),
    Strategy(
        name="clsd",
        title="CLSD: FIMI's amounts of shared public images in place of synthetic ones",
        data="filled",
        images="public",
    ),
    Strategy(
        name="semi",
        title="SEMI: unlabelled images, pseudo-labelled by the global model on each device",
        data="unlabelled",
    ),
    Strategy(
        name="data-only",
        title="Data only: FIMI's synthetic data, resources unplanned",
        data="filled",
        planned_resources=False,
    ),
    Strategy(name="resources-only", title="Resources only: local data, resources planned (TFL)"),
    Strategy(
        name="unplanned",
        title="Unplanned: local data, resources unplanned",
        planned_resources=False,
    ),
)


class StrategyError(InputError, ValueError):
    """There is no such strategy of the user's own; the message says why."""

    code = "C011"


_OWN = OwnPart(
    what="run.strategy",
    holds="the strategy",
    where="where the coordinator runs",
    error=StrategyError,
    wanted=Strategy,
)


class _Strategies(dict[str, Strategy]):
    """The strategies that there are; ``module:NAME`` is looked up when it is asked for."""

    def __missing__(self, name: str) -> Strategy:
        if ":" not in name:
            raise KeyError(name)
        found: Strategy = _OWN.find(name)
        if said := _impossible(found):
            raise StrategyError(f"run.strategy {name!r}: {said}")
        return replace(found, name=name)


def _impossible(strategy: Strategy) -> str:
    """Why the choices of a strategy cannot be made together, or what is none; empty if they can."""
    try:
        msgspec.convert(msgspec.to_builtins(strategy), Strategy)
    except msgspec.ValidationError as error:
        return str(error)
    if strategy.data == "none" and strategy.server != "alone":
        return "devices that train on nothing (data) need a server that trains alone (server)"
    if strategy.server == "alone" and strategy.data != "none":
        return "with a server that trains alone (server) devices take no part: data is none"
    if strategy.server == "continue" and strategy.data != "local":
        return "with a server that trains the mean further (server) devices keep local data (data)"
    if strategy.unlabelled and strategy.server != "average":
        return "with images without labels (data) the server only averages (server)"
    return ""


STRATEGIES: dict[str, Strategy] = _Strategies((strategy.name, strategy) for strategy in _ALL)
"""Name to strategy."""
