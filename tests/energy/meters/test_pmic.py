"""A Raspberry Pi's firmware: the mailbox's buffer, the program, and queries that fail."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from worlds import write

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import NOTHING, MeterUnavailableError, vcgencmd
from fimi.energy.meters.detect import MeterSettings, open_recorder, open_sum
from fimi.energy.meters.pmic import open_pmic, rail_powers_w
from fimi.energy.meters.vcgencmd import GENCMD_TAG, answer, find_firmware, request

LISTING = """   VDD_CORE_A current(7)=2.00000000A
      3V3_SYS_A current(1)=0.50000000A
   VDD_CORE_V volt(15)=0.90000000V
    3V3_SYS_V volt(9)=3.30000000V
      EXT5V_V volt(24)=5.17000000V
"""


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vcgencmd, "PAUSE_S", 0.0)


def raspberry(root: Path, model: str, script: str) -> Path:
    """A Raspberry Pi whose program ``vcgencmd`` is this shell script."""
    write(root / "proc/device-tree/model", f"{model}\0")
    program = root / "usr/bin/vcgencmd"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


class TestFirmware:
    def test_the_buffer(self) -> None:
        buffer = request("measure_clock arm")
        size, code, tag, room, _, error = struct.unpack_from("=6I", buffer)
        assert (size, code, tag, room, error) == (len(buffer), 0, GENCMD_TAG, 1024, 0)
        buffer[24:64] = b"frequency(0)=1500345728".ljust(40, b"\0")
        assert answer(buffer) == "frequency(0)=1500345728"
        struct.pack_into("=I", buffer, 20, 1)
        assert answer(buffer) is None

    def test_too_long(self) -> None:
        with pytest.raises(ValueError, match="1024"):
            request("x" * 1024)

    def test_through_the_program(self, tmp_path: Path) -> None:
        raspberry(tmp_path, "", '[ "$1" = version ] && echo v1 && exit\necho "error=2"')
        ask = find_firmware(tmp_path)
        assert ask is not None
        assert ask("version") == "v1"
        assert ask.why == ""
        assert ask("pmic_read_adc") is None
        assert "error=2" in ask.why

    def test_none(self, tmp_path: Path) -> None:
        assert find_firmware(tmp_path) is None

    def test_rails_are_paired_by_name(self) -> None:
        listing = "A_A current(0)=2.0A\nB_V volt(1)=5.0V\nA_V volt(9)=0.5V\nB_A current(3)=-1.0A"
        assert rail_powers_w(listing) == {"A": 1.0}

    @pytest.mark.parametrize("unit", ["2.0A", "2000mA", "2000 mA"])
    def test_the_unit_that_stands_there(self, unit: str) -> None:
        listing = f"A_A current(0)={unit}\nA_V volt(9)=500mV"
        assert rail_powers_w(listing) == {"A": pytest.approx(1.0)}

    def test_a_unit_that_is_none(self) -> None:
        assert rail_powers_w("A_A current(0)=2V\nA_V volt(9)=0.5V") == {}


class TestRails:
    def test_a_current_that_cannot_be_counted_is_said(self) -> None:
        meter = open_pmic(Path("/nowhere"), ask=lambda _: LISTING + "HDMI_A current(22)=0.1A\n")
        assert meter.look(0.0).power_w == pytest.approx(1.8 + 1.65)
        assert "a current of HDMI without a voltage" in meter.doubts()[0]
        assert open_pmic(Path("/nowhere"), ask=lambda _: LISTING).doubts() == ()

    def test_each_can_be_named_and_none_is_counted_twice(self, tmp_path: Path) -> None:
        raspberry(tmp_path, "Raspberry Pi 5 Model B Rev 1.0", f"cat <<'E'\n{LISTING}E")
        clock, settings = VirtualClock(), MeterSettings()
        core = open_sum("pmic:VDD_CORE", settings, tmp_path, clock)
        assert core.look(0.0).power_w == pytest.approx(1.8)
        assert core.describe().scope == "cpu"
        both = open_sum(("pmic:VDD_CORE", "pmic:3V3_SYS"), settings, tmp_path, clock)
        assert both.look(0.0).power_w == pytest.approx(1.8 + 1.65)
        assert both.describe().scope == "module"
        with pytest.raises(MeterUnavailableError, match="pmic:VDD_CORE would be counted twice"):
            open_sum(("pmic", "pmic:VDD_CORE"), settings, tmp_path, clock)
        with pytest.raises(MeterUnavailableError, match=r'meter = "pmic:3V3_SYS"'):
            open_sum("pmic:EXT5V", settings, tmp_path, clock)
        assert "VDD_CORE 0.9 V 2 A" in core.facts()


class TestQueriesThatFail:
    MODEL = "Raspberry Pi 5 Model B Rev 1.0"

    def test_names_model_query_status_and_stderr(self, tmp_path: Path) -> None:
        program = raspberry(tmp_path, self.MODEL, 'echo "VCHI initialization failed" >&2; exit 255')
        with pytest.raises(MeterUnavailableError) as raised:
            open_pmic(tmp_path)
        said = str(raised.value)
        assert self.MODEL in said
        assert "vcgencmd pmic_read_adc" in said
        assert f"{program} pmic_read_adc: exit status 255, 'VCHI initialization failed'" in said
        assert "asked 3 times" in said
        assert "usermod -aG video" in said

    def test_is_tried_again_at_the_start(self, tmp_path: Path) -> None:
        count = tmp_path / "count"
        raspberry(
            tmp_path,
            self.MODEL,
            f'echo x >> {count}\n[ "$(wc -l < {count})" -ge 3 ] || exit 1\ncat <<"E"\n{LISTING}E',
        )
        meter = open_pmic(tmp_path)
        assert meter.look(0.0).power_w == pytest.approx(1.8 + 1.65)

    def test_is_tried_again_at_every_look(self, tmp_path: Path) -> None:
        sick = tmp_path / "sick"
        raspberry(
            tmp_path,
            self.MODEL,
            f'[ -e {sick} ] && echo "mailbox busy" >&2 && exit 16\ncat <<"E"\n{LISTING}E',
        )
        meter = open_pmic(tmp_path)
        sick.touch()
        assert meter.look(0.0) == NOTHING
        why = meter.why_nothing()
        assert self.MODEL in why
        assert "exit status 16, 'mailbox busy'" in why
        sick.unlink()
        assert meter.look(1.0).power_w is not None
        assert meter.why_nothing() == ""

    def test_a_device_that_may_not_be_opened(self, tmp_path: Path) -> None:
        write(tmp_path / "proc/device-tree/model", f"{self.MODEL}\0")
        (tmp_path / "dev").mkdir()
        (tmp_path / "dev/vcio").write_text("no mailbox")  # an ordinary file refuses the call
        with pytest.raises(MeterUnavailableError, match=r"dev/vcio: .*\(ENOTTY\)"):
            open_pmic(tmp_path)

    def test_a_board_that_does_not_measure(self, tmp_path: Path) -> None:
        model = "Raspberry Pi 4 Model B Rev 1.4"
        raspberry(
            tmp_path,
            model,
            '[ "$1" = version ] && echo v1 && exit\necho "error=1 Command not registered"',
        )
        with pytest.raises(MeterUnavailableError, match=r"only the Pi 5.*INA219") as raised:
            open_pmic(tmp_path)
        assert model in str(raised.value)
        with pytest.raises(MeterUnavailableError, match=r"only the Pi 5.*INA219"):
            open_pmic(tmp_path, ask=lambda _: "error=1 Command not registered")

    def test_no_way_to_ask(self, tmp_path: Path) -> None:
        write(tmp_path / "proc/device-tree/model", f"{self.MODEL}\0")
        with pytest.raises(MeterUnavailableError, match=r"no /dev/vcio.*raspi-utils"):
            open_pmic(tmp_path)

    def test_a_declared_power_does_not_hide_it(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        raspberry(tmp_path, self.MODEL, "exit 255")
        open_recorder(MeterSettings(constant_power_w=5.0), tmp_path, VirtualClock())
        assert "exit status 255" in caplog.text
