"""NVIDIA graphics cards, through NVML (optional: ``pip install 'fimi-testbed[nvidia]'``).

Cards since Volta count their energy; older ones show a power. Since Ampere the power is an average
over a second, which is too slow for short phases, so the counter is used wherever there is one.
Jetson Nano has no NVML.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.counter import Counter, add
from fimi.energy.meters.response import MeterResponse
from fimi.energy.sysfs import complete

CARD_POWER_LIMIT_W = 5000.0
"""No card draws more, W; a counter that shows more was reset."""

_REFRESH_S = 0.1
_POWER_WINDOW_S = 1.0  # of cards since Ampere; older ones show an instant


class Nvml(Meter):
    """The sum of some graphics cards, by their counters or their power.

    Args:
        library: the module ``pynvml``, initialised; shut down by :meth:`close`.
        cards: handles of the cards.

    Raises:
        MeterUnavailableError: a card shows neither energy nor power.
    """

    def __init__(self, library: Any, cards: list[Any]) -> None:
        self._library = library
        self._cards = cards
        self._counts = all(self._energy_mj(card) is not None for card in cards)
        if not self._counts and any(self._power_w(card) is None for card in cards):
            raise MeterUnavailableError(
                "an NVIDIA card shows neither its energy nor its power (nvidia-smi -q -d POWER)"
            )
        self._counters = [
            Counter(1e-3, range_steps=None, power_limit_w=CARD_POWER_LIMIT_W, refresh_s=_REFRESH_S)
            for _ in cards
        ]
        self._description = MeterDescription(
            source=f"nvml:{len(cards)} card{'s' if len(cards) > 1 else ''}",
            kind="measured",
            scope="gpu",
            rate_hz=1.0 / _REFRESH_S,
            resolution_w=0.0 if self._counts else 1.0,
            # NVIDIA states ±5 % for the power reading of its data-centre cards.
            relative_uncertainty=0.05,
            counts=self._counts,
            response=MeterResponse(
                window_s=0.0 if self._counts else _POWER_WINDOW_S, refresh_s=_REFRESH_S
            ),
        )

    def look(self, time_s: float) -> Look:
        """Energy of all cards where they count it, else their power."""
        if self._counts:
            pairs = zip(self._counters, self._cards, strict=True)
            return add([counter.advance(self._energy_mj(card), time_s) for counter, card in pairs])
        powers_w = complete(self._power_w(card) for card in self._cards)
        return Look(power_w=sum(powers_w)) if powers_w else NOTHING

    def close(self) -> None:
        """Shut the library down."""
        if self._cards:
            self._cards = []
            self._library.nvmlShutdown()

    def _energy_mj(self, card: Any) -> int | None:
        try:
            return int(self._library.nvmlDeviceGetTotalEnergyConsumption(card))
        except self._library.NVMLError:
            return None

    def _power_w(self, card: Any) -> float | None:
        try:
            return int(self._library.nvmlDeviceGetPowerUsage(card)) * 1e-3
        except self._library.NVMLError:
            return None


def open_nvml(library: ModuleType | Any = None) -> Nvml:
    """All NVIDIA cards of this machine; ``library`` is the module ``pynvml``.

    Raises:
        MeterUnavailableError: if the library, its driver or a card is missing.
    """
    if library is None:
        try:
            library = importlib.import_module("pynvml")
        except ImportError:
            raise MeterUnavailableError(
                "the library for NVIDIA cards is not installed: pip install 'fimi-testbed[nvidia]'"
            ) from None
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        raise MeterUnavailableError(
            f"NVML does not start ({error}): there is no NVIDIA driver, or a container without "
            "--gpus"
        ) from None
    count = library.nvmlDeviceGetCount()
    if not count:
        library.nvmlShutdown()
        raise MeterUnavailableError("NVML finds no card")
    try:
        return Nvml(library, [library.nvmlDeviceGetHandleByIndex(i) for i in range(count)])
    except MeterUnavailableError:
        library.nvmlShutdown()
        raise
