"""Graphics cards: every error is a sentence, one sick card is not all, CUDA's choice is kept."""

from __future__ import annotations

from typing import Any

import pytest

from fimi.energy.meters import NOTHING, MeterUnavailableError
from fimi.energy.meters.nvml import Nvml, open_nvml
from fimi.energy.work_meter import open_meters

CALLS = (
    "nvmlInit",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetPowerUsage",
    "nvmlShutdown",
)


class NvmlError(Exception):
    """As NVMLError in pynvml."""


class Machine:
    """The functions of pynvml for some cards.

    Args:
        cards: for each card its name, and which of energy and power it shows.
        broken: function and card, or ``None`` for any, to the error that it raises.
    """

    NVMLError = NvmlError

    def __init__(self, *cards: tuple[str, str], broken: dict[Any, str] | None = None) -> None:
        self.cards = cards or (("H200", "energy power"),)
        self.broken = broken or {}
        self.open = 0
        self.energy_mj = [1000 * (number + 1) for number in range(len(self.cards))]

    def __getattr__(self, name: str) -> Any:
        if name not in CALLS:
            raise AttributeError(name)
        return lambda *arguments: self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> Any:
        for key in ((name, arguments[0] if arguments else None), (name, None)):
            if key in self.broken:
                raise NvmlError(self.broken[key])
        if name == "nvmlInit":
            self.open += 1
        elif name == "nvmlShutdown":
            self.open -= 1
        elif name == "nvmlDeviceGetCount":
            return len(self.cards)
        elif name == "nvmlDeviceGetHandleByIndex":
            return arguments[0]
        elif name == "nvmlDeviceGetUUID":
            return f"GPU-{arguments[0]}{arguments[0]}aa-bb"
        elif name == "nvmlDeviceGetName":
            return self.cards[arguments[0]][0]
        else:
            kind = "energy" if "Energy" in name else "power"
            if kind not in self.cards[arguments[0]][1]:
                raise NvmlError("Not Supported")
            return self.energy_mj[arguments[0]] if kind == "energy" else 30_000
        return None


def opened(machine: Machine, part: str | None = None, **environment: str) -> Nvml:
    return open_nvml(machine, part, environment)


def source(machine: Machine, part: str | None = None, **environment: str) -> str:
    meter = opened(machine, part, **environment)
    meter.close()
    assert machine.open == 0
    return meter.describe().source


class TestErrors:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("error", ["GPU is lost", "Unknown Error", "Insufficient Permissions"])
    def test_every_call_may_fail_at_the_start(self, call: str, error: str) -> None:
        machine = Machine(broken={(call, None): error})
        try:
            meter = opened(machine)
        except MeterUnavailableError as problem:
            assert error in str(problem)
            assert machine.open == 0, "the library is given back"
        else:
            meter.look(0.0)
            meter.close()

    @pytest.mark.parametrize("error", [RuntimeError("bad"), KeyError("x"), OSError("libnvidia")])
    def test_errors_that_are_not_its_own_are_sentences(self, error: Exception) -> None:
        class Odd:
            def nvmlInit(self) -> None:  # noqa: N802
                raise error

        with pytest.raises(MeterUnavailableError, match="NVML does not start"):
            open_nvml(Odd(), None, {})

    @pytest.mark.parametrize("lacking", CALLS[1:])
    def test_a_library_without_a_function(self, lacking: str) -> None:
        class Older(Machine):
            def __getattr__(self, name: str) -> Any:
                if name == lacking:
                    raise AttributeError(name)
                return super().__getattr__(name)

        try:
            opened(Older()).look(0.0)
        except MeterUnavailableError as problem:
            assert lacking in str(problem)

    def test_one_sick_card_costs_its_joules_and_is_named(self) -> None:
        two = (("H200", "energy power"),) * 2
        for broken in (
            {("nvmlDeviceGetHandleByIndex", 1): "GPU is lost"},
            {
                ("nvmlDeviceGetTotalEnergyConsumption", 1): "GPU is lost",
                ("nvmlDeviceGetPowerUsage", 1): "GPU is lost",
            },
        ):
            machine = Machine(*two, broken=broken)
            meter = opened(machine)
            assert meter.describe().source == "nvml:0"
            assert "card 1" in meter.doubts()[0]
            assert "GPU is lost" in meter.doubts()[0]
            assert meter.look(0.0).counter_j == 0.0
            with pytest.raises(MeterUnavailableError, match="GPU is lost"):
                opened(machine, "1")

    def test_one_that_is_lost_later_is_a_missing_reading(self) -> None:
        machine = Machine(("H200", "energy"), ("H200", "energy"))
        meter = opened(machine)
        assert meter.look(0.0).counter_j == 0.0
        machine.broken[("nvmlDeviceGetTotalEnergyConsumption", 1)] = "GPU is lost"
        assert meter.look(1.0) == NOTHING
        assert meter.why_nothing() == "card 1: nvmlDeviceGetTotalEnergyConsumption: GPU is lost"
        machine.broken.clear()
        machine.energy_mj = [3000, 2500]
        assert meter.look(2.0).counter_j == pytest.approx(2.5)

    def test_no_driver(self) -> None:
        with pytest.raises(MeterUnavailableError, match="no NVIDIA driver"):
            opened(Machine(broken={("nvmlInit", None): "Driver Not Loaded"}))

    def test_the_generator_node_starts_all_the_same(self, tmp_path: Any) -> None:
        said: list[str] = []
        sick = Machine(broken={("nvmlDeviceGetCount", None): "Unknown Error"})
        metered = open_meters(
            said.append, whose="generator", root=tmp_path, cards=lambda: opened(sick)
        )
        with metered.span() as span:
            pass
        assert span.energy is None
        assert "not metered" in said[0]


class TestFleets:
    def test_power_only_is_a_mean_of_a_second(self) -> None:
        meter = opened(Machine(("P100", "power")))
        described = meter.describe()
        assert (described.counts, described.response.window_s) == (False, 1.0)
        assert meter.look(0.0).power_w == pytest.approx(30.0)

    def test_with_and_without_a_counter(self) -> None:
        meter = opened(Machine(("H200", "energy power"), ("P100", "power")))
        assert meter.describe().source == "nvml:0,1"
        assert meter.look(0.0).power_w == pytest.approx(60.0)

    def test_nothing_in_common(self) -> None:
        meter = opened(Machine(("X", "energy"), ("P100", "power")))
        assert meter.describe().source == "nvml:0"
        assert "1" in meter.doubts()[0]


class TestVisible:
    FOUR = (("H200", "energy"),) * 4
    MIXED = (("T4", "energy"), ("H200", "energy"), ("T4", "energy"))

    @pytest.mark.parametrize(
        ("value", "cards"),
        [
            ("0", "0"),
            ("2,1", "2,1"),
            ("3, 0", "3,0"),
            ("1,1", "1"),
            ("GPU-22", "2"),
            ("GPU-33aa-bb,GPU-0", "3,0"),
            ("1,-1,2", "1"),
            ("1,9,2", "1"),
            ("MIG-GPU-11aa-bb/3/0", "1"),
        ],
    )
    def test_as_cuda_reads_it(self, value: str, cards: str) -> None:
        assert source(Machine(*self.FOUR), CUDA_VISIBLE_DEVICES=value) == f"nvml:{cards}"

    @pytest.mark.parametrize("value", ["", "-1", "NoDevFiles", " ", "9", "GPU-"])
    def test_hides_every_card(self, value: str) -> None:
        with pytest.raises(MeterUnavailableError, match="hides every NVIDIA card"):
            opened(Machine(*self.FOUR), CUDA_VISIBLE_DEVICES=value)

    def test_cards_that_are_not_shown_are_not_asked(self) -> None:
        sick = Machine(*self.FOUR, broken={("nvmlDeviceGetHandleByIndex", 3): "GPU is lost"})
        meter = opened(sick, CUDA_VISIBLE_DEVICES="0,1")
        assert meter.doubts() == ()

    def test_numbers_of_several_kinds_depend_on_the_order(self) -> None:
        with pytest.raises(MeterUnavailableError, match=r"CUDA_DEVICE_ORDER=PCI_BUS_ID"):
            opened(Machine(*self.MIXED), CUDA_VISIBLE_DEVICES="0")
        in_order = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        assert source(Machine(*self.MIXED), **in_order) == "nvml:0"
        assert source(Machine(*self.MIXED), CUDA_VISIBLE_DEVICES="2,0,1") == "nvml:2,0,1"
        assert source(Machine(*self.MIXED), CUDA_VISIBLE_DEVICES="GPU-11") == "nvml:1"

    def test_a_name_takes_any_card(self) -> None:
        assert source(Machine(*self.FOUR), "3", CUDA_VISIBLE_DEVICES="") == "nvml:3"
        assert source(Machine(*self.FOUR), "GPU-22") == "nvml:2"
        with pytest.raises(MeterUnavailableError, match=r'meter = "nvml:GPU-00aa-bb"'):
            opened(Machine(*self.FOUR), "7")
        with pytest.raises(MeterUnavailableError, match="several NVIDIA cards"):
            opened(Machine(*self.FOUR), "GPU-")

    def test_an_instance_is_metered_as_its_card_and_says_so(self) -> None:
        meter = opened(Machine(*self.FOUR), "MIG-GPU-11aa-bb/3/0")
        assert meter.describe().source == "nvml:1"
        assert "no meter of its own" in meter.doubts()[0]
