"""Boards made of files and peers: what each meter finds on the machine it is made for.

A :class:`World` draws a power that the test decides and shows it the way the kernel, the firmware
or the plug would. Its ways to break are what real ones do: vanish, turn unreadable, hold garbage,
sentinels or negative numbers, publish arrays, strings or nothing.
"""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import Meter
from fimi.energy.meters.battery import open_battery
from fimi.energy.meters.hwmon import SENTINEL_UW, open_hwmon
from fimi.energy.meters.ina3221 import open_ina3221
from fimi.energy.meters.nvml import open_nvml
from fimi.energy.meters.plug import Plug, PlugSettings
from fimi.energy.meters.pmic import open_pmic
from fimi.energy.meters.rapl import open_rapl
from fimi.energy.meters.replay import Replay


def write(path: Path, text: object) -> Path:
    """Make a file and the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


class World:
    """A board that draws what it is told to."""

    scope = "board"
    kind = "measured"
    resolution_w = 0.005
    averages = False
    breaks: tuple[str, ...] = ()

    def __init__(self, root: Path, clock: VirtualClock) -> None:
        self.root = root
        self.clock = clock
        self.power_w = 4.0
        self.energy_j = 0.0
        self.build()
        self.show()

    def build(self) -> None:
        """Files that do not change."""

    def show(self) -> None:
        """The present power and energy."""
        raise NotImplementedError

    def open(self) -> Meter:
        raise NotImplementedError

    def draw(self, power_w: float) -> None:
        """Draw so much from now on."""
        self.power_w = power_w
        self.show()

    def wait(self, duration_s: float) -> None:
        """Let time pass."""
        self.clock.advance(duration_s)
        self.energy_j += self.power_w * duration_s
        self.show()

    def break_(self, how: str) -> None:
        raise NotImplementedError

    def mend(self) -> None:
        """Be readable again."""
        self.show()

    def close(self) -> None:
        """Whatever a test leaves behind."""


class Files(World):
    """A world whose readings are files, all broken in the same way."""

    breaks = ("vanish", "unreadable", "garbage", "empty", "negative")

    def files(self) -> list[Path]:
        """Those that hold the reading."""
        raise NotImplementedError

    def break_(self, how: str) -> None:
        path = self.files()[-1]
        if how == "vanish":
            path.unlink()
        elif how == "unreadable":
            path.unlink()
            path.mkdir()  # even root cannot read it as a file
        else:
            path.write_text({"garbage": "<unknown>\n", "empty": "", "negative": "-17\n"}[how])

    def mend(self) -> None:
        path = self.files()[-1]
        if path.is_dir():
            path.rmdir()
        self.show()


class TwoPackages(Files):
    """Two sockets with their counters about to wrap, at different ranges."""

    scope = "cpu"
    resolution_w = 0.0
    averages = True
    breaks = (*Files.breaks, "beyond")
    ranges_uj = (262_143_328_850, 65_532_610_987)

    def files(self) -> list[Path]:
        folder = self.root / "sys" / "class" / "powercap"
        return [folder / f"intel-rapl:{i}" / "energy_uj" for i in (0, 1)]

    def build(self) -> None:
        for place, file in enumerate(self.files()):
            write(file.with_name("name"), f"package-{1 - place}")
            write(file.with_name("max_energy_range_uj"), self.ranges_uj[place])
            inner = file.parent / f"intel-rapl:{place}:0"
            write(inner / "name", "core")
            write(inner / "energy_uj", 5)

    def show(self) -> None:
        for place, (file, range_uj) in enumerate(zip(self.files(), self.ranges_uj, strict=True)):
            share = (0.25, 0.75)[place]
            start_uj = range_uj - 1_000_000  # 1 J before the wrap
            write(file, round(start_uj + self.energy_j * share * 1e6) % (range_uj + 1))

    def break_(self, how: str) -> None:
        if how == "beyond":
            self.files()[-1].write_text(f"{self.ranges_uj[1] + 1}\n")
        else:
            super().break_(how)

    def open(self) -> Meter:
        return open_rapl(self.root)


class JetsonNano(Files):
    """JetPack 4: the input rail is the total; the others lie inside it."""

    scope = "module"
    breaks = (*Files.breaks, "sentinel")

    def folder(self) -> Path:
        return self.root / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"

    def files(self) -> list[Path]:
        return [self.folder() / "in_power0_input"]

    def build(self) -> None:
        for place, name in enumerate(("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")):
            write(self.folder() / f"rail_name_{place}", name)
            write(self.folder() / f"in_power{place}_input", 400)

    def show(self) -> None:
        write(self.files()[0], round(self.power_w * 1e3))

    def break_(self, how: str) -> None:
        if how == "sentinel":
            self.files()[0].write_text(f"{2**32 - 1}\n")
        else:
            super().break_(how)

    def open(self) -> Meter:
        return open_ina3221(self.root)


class OrinNano(Files):
    """JetPack 5 and 6: voltage times current; shunts, their sum and NC are no rails."""

    scope = "module"
    averages = True
    driver = "1-0040"
    labels: tuple[str, ...] = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
    totals: tuple[int, ...] = (1,)

    def folder(self) -> Path:
        return self.root / "sys/bus/i2c/drivers/ina3221" / self.driver / "hwmon/hwmon3"

    def files(self) -> list[Path]:
        return [self.folder() / f"curr{channel}_input" for channel in self.totals]

    def build(self) -> None:
        folder = self.folder()
        write(folder / "name", "ina3221")
        write(folder / "update_interval", 100)
        for channel, label in enumerate(self.labels, 1):
            write(folder / f"in{channel}_label", label)
            write(folder / f"in{channel}_input", 5000)
            write(folder / f"curr{channel}_input", 100)
            write(folder / f"in{channel + 3}_input", 12)
        write(folder / "in7_label", "sum of shunt voltages")
        write(folder / "in7_input", 36)

    def show(self) -> None:
        for file in self.files():
            write(file, round(self.power_w / len(self.totals) / 5.0 * 1e3))

    def open(self) -> Meter:
        return open_ina3221(self.root)


class XavierNx(OrinNano):
    """The same chip at another address, one input not connected."""

    driver = "7-0040"
    labels = ("VDD_IN", "VDD_CPU_GPU_CV", "NC")


class AgxOrin(OrinNano):
    """No total rail: three add up; the fourth lies inside one of them."""

    labels = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    totals = (1, 2, 3)

    def build(self) -> None:
        super().build()
        other = self.root / "sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4"
        write(other / "in2_label", "VDDQ_VDD2_1V8AO")
        write(other / "in2_input", 5000)
        write(other / "curr2_input", 300)


class Ina226(Files):
    """A chip on a board in the supply line: power in µW."""

    averages = True
    breaks = (*Files.breaks, "sentinel")

    def files(self) -> list[Path]:
        return [self.root / "sys/class/hwmon/hwmon2/power1_input"]

    def build(self) -> None:
        thermal = self.root / "sys/class/hwmon/hwmon0"
        write(thermal / "name", "cpu_thermal")
        write(thermal / "temp1_input", 48000)
        folder = self.files()[0].parent
        write(folder / "name", "ina226")
        write(folder / "update_interval", 18)
        write(folder / "in1_input", 5120)
        write(folder / "curr1_input", 800)

    def show(self) -> None:
        write(self.files()[0], round(self.power_w * 1e6))

    def break_(self, how: str) -> None:
        if how == "sentinel":
            self.files()[0].write_text(f"{SENTINEL_UW}\n")
        else:
            super().break_(how)

    def open(self) -> Meter:
        return open_hwmon(self.root)


class UsbMeter(Files):
    """A POWER-Z in the cable, plugged in the other way round: its current is negative."""

    breaks = ("vanish", "unreadable", "garbage", "empty")

    def files(self) -> list[Path]:
        return [self.root / "sys/class/hwmon/hwmon5/curr1_input"]

    def build(self) -> None:
        folder = self.files()[0].parent
        write(folder / "name", "powerz")
        write(folder / "in0_input", 5000)
        write(folder / "in0_label", "VBUS")

    def show(self) -> None:
        write(self.files()[0], -round(self.power_w / 5.0 * 1e3))

    def open(self) -> Meter:
        return open_hwmon(self.root)


class LaptopBattery(Files):
    """On battery; current and voltage instead of power, the current negative."""

    breaks = ("vanish", "unreadable", "garbage", "empty", "charging")

    def files(self) -> list[Path]:
        return [self.root / "sys/class/power_supply/BAT0/current_now"]

    def build(self) -> None:
        folder = self.files()[0].parent
        write(folder / "type", "Battery")
        write(folder / "voltage_now", 12_000_000)
        mouse = folder.with_name("hidpp_battery_0")
        write(mouse / "type", "Battery")
        write(mouse / "scope", "Device")

    def show(self) -> None:
        write(self.files()[0].with_name("status"), "Discharging")
        write(self.files()[0], -round(self.power_w / 12.0 * 1e6))

    def break_(self, how: str) -> None:
        if how == "charging":
            write(self.files()[0].with_name("status"), "Charging")
        else:
            super().break_(how)

    def open(self) -> Meter:
        return open_battery(self.root)


class RaspberryPi5(World):
    """Its firmware, asked through a stand-in for the mailbox."""

    scope = "module"
    breaks = ("vanish", "garbage", "rail-missing", "negative", "refused")

    def build(self) -> None:
        self.broken = ""

    def show(self) -> None:
        self.broken = ""

    def break_(self, how: str) -> None:
        self.broken = how

    def ask(self, question: str) -> str | None:
        assert question == "pmic_read_adc"
        core_a = self.power_w * 0.75 / 0.9
        lines = [
            "   VDD_CORE_A current(7)={:.8f}A",
            "      3V3_SYS_A current(1)={:.8f}A",
            "   VDD_CORE_V volt(15)=0.90000000V",
            "    3V3_SYS_V volt(9)=3.30000000V",
            "      EXT5V_V volt(24)=5.17000000V",
            "       BATT_V volt(25)=0.00000000V",
        ]
        if self.broken == "rail-missing":
            del lines[1]
        if self.broken in ("vanish", "refused"):
            return None if self.broken == "vanish" else ""
        if self.broken == "garbage":
            return "VDD_CORE_A current(7)=1.2.3A\n\x00rubbish"
        if self.broken == "negative":
            core_a = -core_a
        lines[0] = lines[0].format(core_a)
        if self.broken != "rail-missing":
            lines[1] = lines[1].format(self.power_w * 0.25 / 3.3)
        return "\n".join(lines)

    def open(self) -> Meter:
        return open_pmic(self.root, ask=self.ask)


class GraphicsCard(World):
    """The library's functions for one card that counts its energy."""

    scope = "gpu"
    resolution_w = 0.0
    averages = True
    breaks = ("vanish",)
    counts = True

    class NVMLError(Exception):
        """As in pynvml."""

    def build(self) -> None:
        self.broken = False

    def show(self) -> None:
        self.broken = False

    def break_(self, how: str) -> None:
        self.broken = True

    def nvmlInit(self) -> None:  # noqa: N802
        """The driver is there."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Nothing is held."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, card: int) -> int:  # noqa: N802
        if self.broken or not self.counts:
            raise self.NVMLError("Not Supported")
        return 10_000_000 + round(self.energy_j * 1e3)

    def nvmlDeviceGetPowerUsage(self, card: int) -> int:  # noqa: N802
        if self.broken:
            raise self.NVMLError("GPU is lost")
        return round(self.power_w * 1e3)

    def open(self) -> Meter:
        return open_nvml(self)


class OldGraphicsCard(GraphicsCard):
    """One from before Volta: power only."""

    resolution_w = 0.005
    averages = True  # over a second
    counts = False


class Recording(World):
    """A recorded power that the test has written beforehand: constant."""

    kind = "emulated"
    breaks = ("over",)

    def build(self) -> None:
        rows = [f"{t},{self.power_w},x" for t in range(1000)]
        self.path = self.root / "run.csv"
        self.path.write_text("time_s,power_w,note\n" + "\n".join(rows) + "\n")

    def show(self) -> None:
        """Nothing: it is recorded."""

    def break_(self, how: str) -> None:
        self.clock.advance(1000.0)

    def open(self) -> Meter:
        return Replay(self.path, self.clock)


class PlugWorld(World):
    """A plug: an MQTT client of its own behind a real broker."""

    scope = "wall"
    model: Any = "tasmota"
    topic = "lab-plug"
    resolution_w = 0.05
    breaks = ("silent", "garbage", "string", "nothing", "negative")

    def __init__(self, root: Path, clock: VirtualClock, port: int) -> None:
        self.port = port
        self.topic = f"{self.topic}-{root.name}"
        self.broken = ""
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"plug-{root.name}")
        self.subscribed = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe(self.question_topic())
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self.on_question
        super().__init__(root, clock)

    def build(self) -> None:
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()
        assert self.subscribed.wait(10.0)

    def show(self) -> None:
        self.broken = ""

    def break_(self, how: str) -> None:
        self.broken = how

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def question_topic(self) -> str:
        return f"cmnd/{self.topic}/STATUS"

    def on_question(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        assert message.payload == b"10"
        self.reply(f"stat/{self.topic}/STATUS10")

    def body(self, power: object) -> str:
        energy = {"Total": [3.1, 0.2], "Power": power, "Voltage": 230}
        return json.dumps({"StatusSNS": {"Time": "2026-01-01T00:00:00", "ENERGY": energy}})

    def reply(self, topic: str) -> None:
        payload = {
            "garbage": "\x00not json",
            "string": self.body("on"),
            "nothing": "",
            "negative": self.body(-3),
        }.get(self.broken, self.body(self.power_w))
        if self.broken != "silent":
            self.client.publish(topic, payload)

    def settings(self) -> PlugSettings:
        return PlugSettings(model=self.model, topic=self.topic, port=self.port, timeout_s=0.25)

    def open(self) -> Meter:
        return Plug(self.settings())


class TwoSocketPlug(PlugWorld):
    """Tasmota with two metered sockets publishes arrays."""

    def body(self, power: object) -> str:
        if isinstance(power, float):
            power = [power * 0.75, power * 0.25]
        elif isinstance(power, str):
            power = [power, None]
        else:
            power = [power, 2]
        return super().body(power)


class ShellyPlug(PlugWorld):
    """The second generation answers to whoever asked."""

    model = "shelly"
    topic = "shellyplusplugs"
    breaks = ("silent", "garbage", "string", "nothing")

    def question_topic(self) -> str:
        return f"{self.topic}/rpc"

    def on_question(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        question = json.loads(message.payload)
        assert question["method"] == "Switch.GetStatus"
        self.reply(f"{question['src']}/rpc")

    def body(self, power: object) -> str:
        if isinstance(power, float):
            power = -power  # wired the other way round
        return json.dumps({"id": 1, "result": {"apower": power, "aenergy": {"total": 9.9}}})


class FirstShellyPlug(PlugWorld):
    """The first generation publishes bare numbers."""

    model = "shelly-1"
    topic = "shellies/shellyplug-s"

    def question_topic(self) -> str:
        return f"{self.topic}/command"

    def on_question(self, client: mqtt.Client, _: object, message: mqtt.MQTTMessage) -> None:
        assert message.payload == b"update"
        self.reply(f"{self.topic}/relay/0/power")

    def body(self, power: object) -> str:
        return str(power)


WORLDS: tuple[type[World], ...] = (
    TwoPackages,
    JetsonNano,
    OrinNano,
    XavierNx,
    AgxOrin,
    Ina226,
    UsbMeter,
    LaptopBattery,
    RaspberryPi5,
    GraphicsCard,
    OldGraphicsCard,
    Recording,
    PlugWorld,
    TwoSocketPlug,
    ShellyPlug,
    FirstShellyPlug,
)


def remove(path: Path) -> None:
    """A folder and all that is in it."""
    shutil.rmtree(path)
