"""Radios of boards that can be emulated, each figure with its origin.

* :class:`RadioPreset`   a radio: rates, watts and joules, and what it does after the last frame
* :data:`SDIO_WIFI`, :data:`SDIO_WIFI_PI_5`, :data:`WIFI_CARD`, :data:`WIFI_CARD_PC`  of the makes
* :func:`as_in_the_paper`  the same radio in the paper's model: a plan sets its power, and sending
  costs nothing but that power

Watts while sending are those of the whole board above idle. They do not follow the transmit power:
the amplifier, the converters and the baseband take several times more, and most of it flows at any
power. On Wi-Fi the access point and the driver choose rate and power frame by frame; a limit that a
user sets is not a power that a plan can rely on, so that ``power_settable`` is false.

Origins: a figure marked with one of these keys was read there. [K] is common knowledge which was
not checked again. Everything else is our estimate.

    [rpi4w]  github.com/raspberrypi/linux issue 4390: Wi-Fi of two Raspberry Pi 4 at 5 GHz, 75 to
             80 Mbit/s by iperf3 in either direction
    [rpi5w]  github.com/fairscope/PlanktoScope pull request 865: Wi-Fi of a Raspberry Pi 5 at 5 GHz,
             226 Mbit/s sent and 262 Mbit/s received by iperf3
    [pi4wm]  raspberrypi-5.com, how much power does a Raspberry Pi 4 use: its Wi-Fi takes 0.7 W in
             use and 0.1 W at rest, by a USB meter
    [wilc]   data sheet of the ATWILC3000A, a Wi-Fi chip with one antenna as well: 229 to 281 mA and
             24 mA while it sends at 13 to 18.5 dBm, 60.5 mA and 24 mA while it receives, at 3.3 V:
             0.83 to 1.0 W and 0.28 W
    [usbw]   github.com/morrownr/USB-WiFi, home/AP_Mode/Bridged_Wireless_Access_Point.md and
             home/Performance_Comparison.md: a card with an mt7612u, two antennas, takes 180 mA
             under light and 360 to 380 mA under heavy load at 5 V (0.9 W more), and sends
             237 Mbit/s through three walls; others 270 to 800 mA at 137 to 305 Mbit/s
    [i8260]  github.com/kaloz/mwlwifi issue 307: an Intel 8260, two antennas, at 270 to 290 Mbit/s
    [orinw]  github.com/ID-Robots/clawbox pull request 273: the kit of the Jetson Orin Nano has a
             Realtek RTL8822CE, two antennas, 802.11ac
    [sdio]   github.com/raspberrypi/linux issue 5934: a Raspberry Pi keeps a core busy while its
             SDIO Wi-Fi transfers
    [joular] github.com/joular/powerjoular, src/raspberry_pi_cpu_formula.adb: a core of a Raspberry
             Pi 4 takes 4.53 W / 4, one of a Pi 5 3.46 W / 4
    [psm]    Saha and others, Revisiting 802.11 Power Consumption Modeling in Smartphones: radios
             that save power stay awake for a while after the last frame; Serrano and others,
             Per-Frame Energy Consumption in 802.11 Devices: sending costs the host per frame too
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace


class RadioPreset(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The radio of a make.

    Attributes:
        transmit_power_max_w: p_max, W.
        power_settable: whether a plan can choose the transmit power.
        electronics_power_w: P_el, extra power while sending, above the transmit power, W.
        energy_per_bit_j: e_bit, energy that the host takes for every sent bit, J.
        rate_cap_bps: most that it sends, bit/s; ``None``: no cap.
        receive_power_w: extra power while receiving, W.
        tail_power_w: extra power after the last frame until the radio sleeps, W.
        tail_s: how long that lasts, s.
        coherence_s: time after which fading is drawn again, s.
    """

    transmit_power_max_w: float
    power_settable: bool = False
    electronics_power_w: float
    energy_per_bit_j: float
    rate_cap_bps: float | None
    receive_power_w: float
    tail_power_w: float
    tail_s: float
    coherence_s: float = 0.5


SDIO_WIFI = RadioPreset(
    transmit_power_max_w=0.10,  # 20 dBm, the limit of 2.4 GHz Wi-Fi in Europe [K]
    electronics_power_w=0.6,  # 0.7 W with the transmit power: [pi4wm]; 70 % on air by [wilc]
    energy_per_bit_j=8e-9,  # 0.6 of a core at 77 Mbit/s [sdio] [joular]
    rate_cap_bps=77e6,  # [rpi4w]
    receive_power_w=0.3,  # [wilc]
    tail_power_w=0.22,  # [psm]
    tail_s=0.2,
)
"""The CYW43455 of a Raspberry Pi 4, on an SDIO bus."""

SDIO_WIFI_PI_5 = replace(SDIO_WIFI, energy_per_bit_j=3e-9, rate_cap_bps=226e6)  # [rpi5w]
"""The same chip on a Raspberry Pi 5, whose bus and cores are faster."""

WIFI_CARD = RadioPreset(
    transmit_power_max_w=0.15,
    electronics_power_w=0.75,  # 0.9 W with the transmit power [usbw]
    energy_per_bit_j=3e-9,
    rate_cap_bps=237e6,  # [usbw]
    receive_power_w=0.35,
    tail_power_w=0.35,
    tail_s=0.1,
)
"""A card with two antennas and 802.11ac, as in a Jetson [orinw]."""

WIFI_CARD_PC = replace(
    WIFI_CARD,
    transmit_power_max_w=0.20,
    electronics_power_w=0.8,
    energy_per_bit_j=2e-9,
    rate_cap_bps=280e6,  # [i8260]
    receive_power_w=0.5,
)
"""A card of that kind in a mini-PC."""


def as_in_the_paper(radio: RadioPreset) -> RadioPreset:
    """The paper's radio: settable power up to the same limit, which is all that sending costs."""
    return replace(
        radio,
        power_settable=True,
        electronics_power_w=0.0,
        energy_per_bit_j=0.0,
        rate_cap_bps=None,
    )
