"""NVIDIA graphics cards, through NVML (optional: ``pip install 'fimi-testbed[nvidia]'``).

Cards since Volta count their energy; older ones show a power. Since Ampere the power is an average
over a second, which is too slow for short phases, so the counter is used wherever there is one.
Jetson Nano has no NVML.

Which cards: ``nvml`` takes those that CUDA shows to this process (``CUDA_VISIBLE_DEVICES``), and
leaves out a card that cannot be read: its joules are missing, and it is named. ``nvml:1``,
``nvml:GPU-1a2b`` or ``nvml:MIG-…`` take one, whatever CUDA shows. A MIG instance has no meter of
its own: the card that it is a part of is metered, other instances included.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from msgspec import Struct

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError, names
from fimi.energy.meters.counter import Adder, Counter
from fimi.energy.meters.response import MeterResponse
from fimi.energy.sysfs import complete

CARD_POWER_LIMIT_W = 5000.0
"""No card draws more, W; a counter that shows more was reset."""

_REFRESH_S = 0.1
_POWER_WINDOW_S = 1.0  # of cards since Ampere; older ones show an instant


class Library:
    """``pynvml``, with every error of it as a sentence.

    Args:
        module: the module ``pynvml``, initialised.
    """

    def __init__(self, module: Any) -> None:
        self._module = module
        self._error: type[Exception] = getattr(module, "NVMLError", RuntimeError)
        self._open = True
        self.why = ""
        """What the last call that gave ``None`` said."""

    def call(self, function: str, *arguments: Any) -> Any:
        """A value of a function of NVML; ``None`` if it fails, or if the library lacks it."""
        try:
            return getattr(self._module, function)(*arguments)
        except self._error as error:
            self.why = f"{function}: {error}"
        except Exception as error:
            self.why = f"{function}: {type(error).__name__} {error}"
        return None

    def number(self, function: str, *arguments: Any) -> int | None:
        """The same, if it is a number that is not negative."""
        found = self.call(function, *arguments)
        if found is None:
            return None
        try:
            value = int(found)
        except (TypeError, ValueError):
            value = -1
        if value < 0:
            self.why = f"{function}: {found!r} is no number"
            return None
        return value

    def text(self, function: str, *arguments: Any) -> str:
        """The same, if it is a text; older libraries give bytes."""
        found = self.call(function, *arguments)
        return found.decode("ascii", "replace") if isinstance(found, bytes) else str(found or "")

    def shut_down(self) -> None:
        """Give the library back; once."""
        if self._open:
            self._open = False
            self.call("nvmlShutdown")


class NvmlCard(Struct, frozen=True):
    """A card that can be asked.

    Attributes:
        handle: NVML's handle.
        number: its number in NVML, which counts in the order of the PCI bus.
        uuid: its UUID; empty if the library does not tell.
    """

    handle: Any
    number: int
    uuid: str


class Nvml(Meter):
    """The sum of some graphics cards, by their counters or their power.

    Args:
        library: shut down by :meth:`close`.
        cards: the cards.
        doubts: what to say of the choice, for example which cards were left out.

    Raises:
        MeterUnavailableError: a card shows neither energy nor power, or no way is common to all.
    """

    step_j = 1e-3

    def __init__(
        self, library: Library, cards: list[NvmlCard], doubts: tuple[str, ...] = ()
    ) -> None:
        self._library = library
        self._cards = cards
        self._choice = doubts
        self._why = ""
        self._sum = Adder()
        self._counts = all(self._energy_mj(card) is not None for card in cards)
        if not self._counts:
            for card in cards:
                if self._power_w(card) is None:
                    why = self._why
                    counts = self._energy_mj(card) is not None
                    lacks = "no power" if counts else "neither energy nor power"
                    raise MeterUnavailableError(
                        f"the NVIDIA card {card.number} shows {lacks} ({why}; nvidia-smi -q -d "
                        "POWER)"
                    )
        self._counters = [
            Counter(1e-3, range_steps=None, power_limit_w=CARD_POWER_LIMIT_W, refresh_s=_REFRESH_S)
            for _ in cards
        ]
        self.made_of = frozenset(f"nvml:{card.number}" for card in cards)
        numbers = ",".join(str(card.number) for card in cards)
        self._description = MeterDescription(
            source=f"nvml:{numbers}",
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
            return self._sum.add([c.advance(self._energy_mj(card), time_s) for c, card in pairs])
        powers_w = complete(self._power_w(card) for card in self._cards)
        return Look(power_w=sum(powers_w)) if powers_w else NOTHING

    def facts(self) -> tuple[str, ...]:
        """The cards, and what is read of them."""
        cards = [
            f"card {card.number}" + (f" {card.uuid}" if card.uuid else "") for card in self._cards
        ]
        return (*cards, "energy counter" if self._counts else "power, a mean of 1 s")

    def doubts(self) -> tuple[str, ...]:
        """Cards that were left out."""
        return self._choice

    def why_nothing(self) -> str:
        """The card, the call and its error."""
        return self._why

    def close(self) -> None:
        """Shut the library down."""
        self._library.shut_down()

    def _energy_mj(self, card: NvmlCard) -> int | None:
        return self._asked(card, "nvmlDeviceGetTotalEnergyConsumption")

    def _power_w(self, card: NvmlCard) -> float | None:
        milliwatts = self._asked(card, "nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts * 1e-3

    def _asked(self, card: NvmlCard, function: str) -> int | None:
        found = self._library.number(function, card.handle)
        if found is None:
            self._why = f"card {card.number}: {self._library.why}"
        return found


def open_nvml(
    library: ModuleType | Any = None,
    part: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Nvml:
    """The NVIDIA cards of this machine that CUDA shows to this process, or one by its name.

    Args:
        library: the module ``pynvml``.
        part: number, UUID or the beginning of one, or a MIG instance.
        environment: has ``CUDA_VISIBLE_DEVICES`` and ``CUDA_DEVICE_ORDER``; this process's if left
            out.

    Raises:
        MeterUnavailableError: if the library, its driver or every card is missing, or if it is
            not known which cards are meant.
    """
    opened = _start(library)
    try:
        cards, sick = _cards(opened)
        if part is not None:
            return Nvml(opened, *_named(part, cards, sick, opened))
        chosen, doubts = _visible(
            cards, sick, os.environ if environment is None else environment, opened
        )
        return _healthy(opened, chosen, doubts)
    except MeterUnavailableError:
        opened.shut_down()
        raise


def nvml_names() -> list[str]:
    """Names of the cards of this machine; none without the library or its driver."""
    try:
        opened = _start(None)
    except MeterUnavailableError:
        return []
    try:
        cards, sick = _cards(opened)
        return [f"nvml:{number}" for number in sorted({*(card.number for card in cards), *sick})]
    except MeterUnavailableError:
        return []
    finally:
        opened.shut_down()


def _start(library: ModuleType | Any) -> Library:
    if library is None:
        try:
            library = importlib.import_module("pynvml")
        except ImportError:
            raise MeterUnavailableError(
                "the library for NVIDIA cards is not installed: pip install 'fimi-testbed[nvidia]'"
            ) from None
        except Exception as error:
            raise MeterUnavailableError(
                f"the library for NVIDIA cards cannot be loaded ({type(error).__name__}: {error}): "
                "install it again with pip install --force-reinstall 'fimi-testbed[nvidia]'"
            ) from error
    opened = Library(library)
    opened.call("nvmlInit")
    if opened.why:
        raise MeterUnavailableError(
            f"NVML does not start ({opened.why}): there is no NVIDIA driver, or a container "
            "without --gpus"
        )
    return opened


def _cards(library: Library) -> tuple[list[NvmlCard], dict[int, str]]:
    """Cards that give a handle, and why others do not, by their number."""
    count = library.number("nvmlDeviceGetCount")
    if count is None:
        raise MeterUnavailableError(
            f"NVML does not say how many cards there are ({library.why}). nvidia-smi tells more; a "
            "driver that was updated is loaded by the next boot"
        )
    if not count:
        raise MeterUnavailableError("NVML finds no card")
    cards, sick = [], {}
    for number in range(count):
        handle = library.call("nvmlDeviceGetHandleByIndex", number)
        if handle is None:
            sick[number] = library.why
        else:
            cards.append(NvmlCard(handle, number, library.text("nvmlDeviceGetUUID", handle)))
    return cards, sick


def _healthy(library: Library, cards: list[NvmlCard], doubts: list[str]) -> Nvml:
    """The meter of those cards that show something; the others are named."""
    good = []
    for card in cards:
        try:
            Nvml(library, [card])
        except MeterUnavailableError as error:
            doubts.append(f"{error}: its joules are missing")
        else:
            good.append(card)
    if not good:
        raise MeterUnavailableError("no NVIDIA card can be read: " + "; ".join(doubts))
    try:
        return Nvml(library, good, tuple(doubts))
    except MeterUnavailableError:  # some show a power only, and one of the others an energy only
        kept = [card for card in good if Nvml(library, [card]).describe().counts]
        left = ", ".join(str(card.number) for card in good if card not in kept)
        said = f"card {left} shows no energy, and others nothing else: its joules are missing"
        return Nvml(library, kept, (*doubts, said))


def _sick(sick: Mapping[int, str]) -> list[str]:
    return [
        f"the NVIDIA card {number} cannot be opened ({why}): its joules are missing"
        for number, why in sick.items()
    ]


def _visible(
    cards: list[NvmlCard], sick: dict[int, str], environment: Mapping[str, str], library: Library
) -> tuple[list[NvmlCard], list[str]]:
    """The cards that CUDA shows to this process, and what to say of the others."""
    value = environment.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return cards, _sick(sick)
    every = {card.number for card in cards} | sick.keys()
    chosen: list[NvmlCard] = []
    doubts: list[str] = []
    for token in (each.strip() for each in value.split(",")):
        if token.isdecimal() and int(token) in every:
            number = _by_order(int(token), cards, environment, library, value)
            if number in sick:
                doubts += _sick({number: sick[number]})
            chosen += [card for card in cards if card.number == number]
            continue
        try:
            found, said = _named(token, cards, sick, library)
        except MeterUnavailableError:
            break  # CUDA shows no card from the first that it does not know on
        chosen += found
        doubts += said
    if not chosen and not doubts:
        raise MeterUnavailableError(
            f"CUDA_VISIBLE_DEVICES={value!r} hides every NVIDIA card from this process"
        )
    return list({card.number: card for card in chosen}.values()), list(dict.fromkeys(doubts))


def _by_order(
    index: int,
    cards: list[NvmlCard],
    environment: Mapping[str, str],
    library: Library,
    value: str,
) -> int:
    """NVML's number of CUDA's card ``index``.

    CUDA counts in the order of the PCI bus only if it is told to; by itself it puts the fastest
    card first, which makes no difference where all are alike, or where all are shown.
    """
    kinds = {library.text("nvmlDeviceGetName", card.handle) for card in cards}
    shown = {each.strip() for each in value.split(",")}
    everyone = {str(card.number) for card in cards} <= shown
    if environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len(kinds) < 2 or everyone:
        return index
    raise MeterUnavailableError(
        f"CUDA_VISIBLE_DEVICES={value!r} counts the fastest card first, and the cards here are of "
        f"several kinds ({', '.join(sorted(kinds))}), so that it is not known which is meant. Set "
        "CUDA_DEVICE_ORDER=PCI_BUS_ID, or give UUIDs, or write one of these lines into the board's "
        f"profile: {names.lines([f'nvml:{card.uuid or card.number}' for card in cards])}"
    )


def _named(
    part: str, cards: list[NvmlCard], sick: Mapping[int, str], library: Library
) -> tuple[list[NvmlCard], tuple[str, ...]]:
    """The card of a name, and what to say of it."""
    if part.isdecimal() and int(part) in sick:
        raise MeterUnavailableError(
            f"the NVIDIA card {part} cannot be opened ({sick[int(part)]}); nvidia-smi tells more"
        )
    said: tuple[str, ...] = ()
    if part.isdecimal():
        found = [card for card in cards if card.number == int(part)]
    elif part.startswith("MIG-"):
        uuid = _parent(part, library)
        found = [card for card in cards if uuid and card.uuid == uuid]
        said = (
            f"{part} is an instance, which has no meter of its own: the joules are those of its "
            "card, other instances included",
        )
    else:
        found = [c for c in cards if part.startswith("GPU-") and c.uuid.startswith(part)]
    if len(found) == 1:
        return found, said
    known = [f"nvml:{card.uuid or card.number}" for card in cards]
    if found:
        raise names.several(f"NVIDIA cards {part}", known)
    raise names.unknown(f"nvml:{part}", known)


def _parent(part: str, library: Library) -> str:
    """UUID of the card that a MIG instance is a part of; empty if it is not known."""
    if part.startswith("MIG-GPU-"):  # the older form: MIG-<UUID of the card>/<instance>/<instance>
        return part.removeprefix("MIG-").partition("/")[0]
    for form in (part, part.encode()):  # older libraries want bytes
        handle = library.call("nvmlDeviceGetHandleByUUID", form)
        if handle is not None:
            break
    else:
        return ""
    card = library.call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
    return "" if card is None else library.text("nvmlDeviceGetUUID", card)
