"""What a device works with in every run, and the limits of its transfers."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from fimi.edge_agent.backends import Trainers
from fimi.edge_agent.exchange import Exchange
from fimi.edge_agent.line import Line
from fimi.edge_agent.turns import Turns


class AgentSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of an agent's transfers.

    Attributes:
        batch_max_bytes: largest synthetic batch or share it accepts.
        model_max_bytes: largest model it accepts.
        graphs_max_bytes: largest set of training graphs it accepts.
    """

    batch_max_bytes: int = 200_000_000
    model_max_bytes: int = 500_000_000
    graphs_max_bytes: int = 16_000_000


class Tools(Struct, frozen=True, kw_only=True):
    """What a device works with in every run.

    Attributes:
        line: its conversation.
        exchange: its transfers.
        turns: shared by the agents of a process.
        trainers: shared by the same agents.
        cache: folder for payloads that are fetched once; ``None``: memory only.
        settings: limits.
    """

    line: Line
    exchange: Exchange
    turns: Turns
    trainers: Trainers
    cache: Path | None
    settings: AgentSettings
