"""Boards made of files and peers: what each meter finds on the machine it is made for.

A :class:`World` draws a power that the test decides and shows it the way the kernel, the firmware
or the plug would. Its ways to break are what real ones do: vanish, turn unreadable, hold garbage,
sentinels or negative numbers, publish arrays, strings or nothing.

* :mod:`worlds.base`        the base of all, and of those made of files
* :mod:`worlds.processors`  x86 processors
* :mod:`worlds.jetsons`     NVIDIA Jetson modules
* :mod:`worlds.boards`      chips in the supply line, batteries, the Raspberry Pi 5, a recording
* :mod:`worlds.cards`       graphics cards
* :mod:`worlds.plugs`       plugs behind a real broker
"""

from __future__ import annotations

from worlds.base import World
from worlds.base import write as write
from worlds.boards import (
    BatteryAtZero,
    Ina226,
    LaptopBattery,
    OdroidXu3,
    RaspberryPi5,
    Recording,
    TwoBatteries,
    UsbMeter,
)
from worlds.cards import GraphicsCard, LostLater, OldGraphicsCard
from worlds.jetsons import AgxOrin, AgxThor, JetsonNano, OrinNano, XavierNx
from worlds.plugs import (
    FirstShellyMeter,
    FirstShellyPlug,
    FirstShellyTwoRelays,
    OldShellyPlug,
    PlugWorld,
    ShellyPlug,
    ShellyPmMini,
    ShellyThreePhases,
    ShellyTwoChannels,
    TwoSocketPlug,
)
from worlds.processors import EqualDies, MirroredDies, TwoPackages

WORLDS: tuple[type[World], ...] = (
    TwoPackages,
    MirroredDies,
    EqualDies,
    OdroidXu3,
    BatteryAtZero,
    TwoBatteries,
    LostLater,
    JetsonNano,
    OrinNano,
    XavierNx,
    AgxOrin,
    AgxThor,
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
    ShellyPmMini,
    OldShellyPlug,
    ShellyTwoChannels,
    ShellyThreePhases,
    FirstShellyPlug,
    FirstShellyTwoRelays,
    FirstShellyMeter,
)
